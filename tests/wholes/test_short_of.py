"""`mailvane run` without what a process takes for granted: inodes, a disk that can be written, threads, memory."""

import contextlib
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.endpoint import Endpoint
from support.homes import Home, posts_to
from support.oracle import Oracle, assert_books_balance
from support.processes import Process
from support.tmpfs import Tmpfs
from support.tools import tool

MAIL = Path(__file__).parents[1] / "data" / "bounces" / "mails" / "arf-01.eml"


@pytest.fixture
def small(short_folder: Path) -> Iterator[Tmpfs]:
    with Tmpfs(short_folder / "t", size="32m,nr_inodes=64") as small:
        yield small


@contextlib.contextmanager
def home_on(small: Tmpfs, endpoint: Endpoint) -> Iterator[Home]:
    plan = posts_to(endpoint.url())
    switches = ["bounce_all", "scomp"]
    with Home(small.folder, legacy=plan, enable=switches, prefix=small.prefix, seen=small.seen) as home:
        yield home


def use_up_the_inodes(small: Tmpfs) -> None:
    with contextlib.suppress(OSError):
        for number in range(1_000):
            (small.seen / f"junk{number}").touch()
        raise AssertionError("there is no end of them")


def record(home: Home, oracle: Oracle, first: int, count: int = 10, **fields: str) -> int:
    """By HTTP; the status. What is taken is noted."""
    answer = home.post_events([event | fields for event in oracle.offers(first, count)])
    if answer.status == 202:
        oracle.takes(first, count)
    else:
        assert answer.status == 503 and answer.headers["retry-after"].isdigit(), answer
    return answer.status


def refuses_everything(home: Home) -> None:
    """Commands say why, mail is left with the mail server."""
    told = home.mailvane("record", "-", input='{"event_type":"bounce_all","email":"x@example.com"}\n', check=False)
    assert told.returncode == 1 and str(home.folder) in told.stderr and "Traceback" not in told.stderr, told
    told = home.mailvane("ingest", "mail", "-", input=MAIL.read_bytes(), check=False)
    assert told.returncode == 75 and "Traceback" not in told.stderr, told
    process = home.start("run")
    assert process.wait() == 1 and str(home.folder) in process.output and "Traceback" not in process.output, process
    home.processes.remove(process)


def all_arrived(home: Home, endpoint: Endpoint, oracle: Oracle) -> None:
    books = home.wait_until_empty()["books"]
    account = oracle.account(endpoint)
    account.assert_right()
    assert_books_balance(books, recorded=account.accepted)


def test_d8_without_an_inode_a_running_process_loses_nothing_and_others_are_refused(
    small: Tmpfs, endpoint: Endpoint
) -> None:
    oracle = Oracle()
    endpoint.hold()
    with home_on(small, endpoint) as home:
        home.run()
        assert record(home, oracle, 0) == 202
        use_up_the_inodes(small)
        for number in range(1, 20):
            record(home, oracle, 10 * number)
        (home.seen / "ballast").unlink()  # as settling on a full disk does; it cannot be made again
        use_up_the_inodes(small)
        assert record(home, oracle, 1_000) == 503
        endpoint.release()
        endpoint.wait_for_answers(len(oracle.acknowledged))
        home.processes.pop().stop()
        use_up_the_inodes(small)

        refuses_everything(home)
        for file in small.seen.glob("junk*"):
            file.unlink()
        home.run()
        assert record(home, oracle, 2_000) == 202
        all_arrived(home, endpoint, oracle)


def test_d8_on_a_disk_that_became_read_only_everything_is_refused_with_the_reason(
    small: Tmpfs, endpoint: Endpoint
) -> None:
    oracle = Oracle()

    def remount(how: str) -> None:
        command = [*small.prefix, tool("mount"), "-o", f"remount,{how}", str(small.folder)]
        subprocess.run(command, check=True, capture_output=True)

    endpoint.hold()
    with home_on(small, endpoint) as home:
        home.run()
        assert record(home, oracle, 0) == 202
        home.processes.pop().kill()
        remount("ro")
        refuses_everything(home)
        assert {event["event_type"] for event in home.waiting()} == {"bounce_all"}, "what is there can be looked at"
        remount("rw")
        endpoint.release()
        home.run()
        assert record(home, oracle, 1_000) == 202
        all_arrived(home, endpoint, oracle)


def test_d19_without_another_thread_recording_and_delivery_go_on(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path
) -> None:
    oracle, trace = Oracle(), tmp_path / "trace"
    # By its address: names are resolved in threads.
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    strace = [tool("strace"), "-f", "-qq", "-o", str(trace), "-e", "trace=clone,clone3"]
    home.run(prefix=strace).kill()
    needed = trace.read_text().count("(")  # without these it cannot start
    home.processes.pop()
    process = home.run(prefix=[*strace, "-e", f"inject=clone,clone3:error=EAGAIN:when={needed + 1}+"])
    for number in range(20):
        assert record(home, oracle, 10 * number) == 202
    looked = home.get("/v1/events")
    assert looked.status == 503 and "thread" in looked.json["error"], looked
    home.wait_until_empty()
    assert "EAGAIN" in trace.read_text()
    assert process.stop() == 0 and "Traceback" not in process.output, process
    home.run()
    assert record(home, oracle, 1_000) == 202
    all_arrived(home, endpoint, oracle)


def test_d19_without_memory_load_is_shed_and_nothing_is_lost(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    oracle = Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    process = home.run()
    assert record(home, oracle, 0) == 202
    statuses: set[int] = set()
    number = 100
    size = memory(process)
    for room in (16, 8, 4, 2, 0, -2):  # MiB; where it gets tight depends on what is free inside
        limit_memory(process, size + 1024 * room)
        for _ in range(16):
            number += 10
            with contextlib.suppress(OSError):  # a library of C may not survive it
                statuses.add(record(home, oracle, number, user_agent="x" * 60_000))
        if statuses - {202} or process.exit_status() is not None:
            break
    assert statuses - {202} or process.exit_status() is not None, "it was never short of memory"
    limit_memory(process, None)
    try:
        assert record(home, oracle, 5_000) == 202
    except OSError:  # one that answers no more is ending, though it need not have ended yet
        process.wait()
    process.close()
    home.run()
    assert record(home, oracle, 6_000) == 202
    all_arrived(home, endpoint, oracle)


def memory(process: Process) -> int:
    """KiB of address space that it has."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"^VmSize:\s+(\d+) kB", status, re.MULTILINE)[0])


def limit_memory(process: Process, most: int | None) -> None:
    """KiB of address space that it may have from now on."""
    if process.exit_status() is None:
        limit = resource.RLIM_INFINITY if most is None else 1024 * most
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
