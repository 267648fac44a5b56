"""A log file, beside destinations and alone, of `mailvane run` as a process: killed, signalled, on a full disk."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.endpoint import Answer, Endpoint
from support.homes import DROPS, Home, posts_to
from support.oracle import Oracle, assert_books_balance, number_of, same
from support.producers import Producers
from support.tmpfs import Tmpfs

KILLS = 4


def ids_in(*paths: Path) -> Counter[int]:
    """How often each event's line is there; every line is whole."""
    found: Counter[int] = Counter()
    for path in paths:
        data = path.read_bytes()
        assert not data or data.endswith(b"\n"), f"half a line: {data[-200:]!r}"
        found.update(json.loads(line)["id"] for line in data.split(b"\n")[:-1])
    return found


def assert_all_there(oracle: Oracle, path: Path) -> Counter[int]:
    """Each event that was acknowledged has a line, as it was minted, under one id; returns the ids."""
    ids: dict[int, set[int]] = {}
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        assert same(event)
        ids.setdefault(number_of(event), set()).add(event["id"])
    assert oracle.acknowledged.keys() <= ids.keys() <= oracle.offered
    assert all(len(of) == 1 for of in ids.values())
    assert {n: {i} for n, i in oracle.acknowledged.items() if i}.items() <= ids.items()
    return ids_in(path)


@pytest.mark.parametrize("beside", ["http", "drop", "alone"])
def test_d21_killed_again_and_again_no_line_is_lost_or_torn(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path, beside: str
) -> None:
    path = tmp_path / "events.log"
    endpoint, oracle = make_endpoint(Answer(200, delay=0.002)), Oracle()
    document = {"http": posts_to(endpoint.url()), "drop": DROPS, "alone": {}}[beside]
    home = make_home(legacy={**document, "logfile": {"filename": str(path)}}, enable=["bounce_all"])
    (tmp_path / "logs").mkdir()
    with Producers(home, tmp_path / "logs") as producers:
        producers.start("socket", "recorder", pace=0.001)
        for n in range(KILLS):
            process = home.start("run")
            before = path.stat().st_size if path.exists() else 0
            end = time.monotonic() + 30
            while not path.exists() or path.stat().st_size < before + 20_000:
                assert time.monotonic() < end and process.exit_status() is None, process
                time.sleep(0.005)
            time.sleep(0.02 * n)  # any moment may be the one
            process.kill()
            if n == 0:  # as a crash of the machine may leave it
                with path.open("ab") as file:
                    file.write(b'{"id":123456789,"event_ty')
        producers.stop()
        producers.tell(oracle)
    process = home.run()
    books = home.wait_until_empty()["books"]
    if beside == "http":
        oracle.account(endpoint).assert_right()
    found = assert_all_there(oracle, path)
    gone = books["dropped"] if beside == "drop" else books["delivered"]
    assert len(found) == gone == books["recorded"]
    assert_books_balance(books, waiting=0, deleted=0)
    process.stop()


def test_d20_sighup_opens_it_anew(make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path) -> None:
    path, moved = tmp_path / "events.log", tmp_path / "events.log.1"
    home = make_home(legacy={**posts_to(endpoint.url()), "logfile": {"filename": str(path)}}, enable=["bounce_all"])
    process, oracle = home.run(), Oracle()
    assert home.post_events(oracle.offers(0, 10)).status == 202
    home.wait_until_empty()
    path.rename(moved)
    assert is_open(process.pid, moved)
    process.send(signal.SIGHUP)
    home.wait_for_status(lambda _: not is_open(process.pid, moved))
    assert home.post_events(oracle.offers(10, 10)).status == 202
    home.wait_until_empty()
    assert (sum(ids_in(moved).values()), sum(ids_in(path).values())) == (10, 10)
    assert process.exit_status() is None


def is_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open; `path` as that process sees it."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(link) == str(path):
                return True
        except FileNotFoundError:
            pass
    return False


def test_d20_on_a_full_disk_delivery_waits_and_nothing_comes_twice(
    make_home: Callable[..., Home], endpoint: Endpoint, short_folder: Path
) -> None:
    with Tmpfs(short_folder / "log", size="1m") as small:
        path = small.seen / "events.log"
        home = make_home(
            legacy={**posts_to(endpoint.url()), "logfile": {"filename": str(small.folder / "events.log")}},
            enable=["bounce_all"],
            prefix=small.prefix,
        )
        oracle = Oracle()
        home.run()
        for first in range(0, 3_000, 500):
            assert home.post_events(oracle.offers(first, 500)).status == 202, "recording goes on"
            oracle.takes(first, 500)
        status = home.wait_for_status(lambda s: "the disk is full; make room" in s["trouble"])
        assert "log file beside the destinations" in status["trouble"]
        assert home.get("/readyz").status == 503 and home.get("/healthz").status == 200
        assert "make room" in home.mailvane("doctor", check=False).stdout
        endpoint.wait_for(lambda e: len(e.answered) == len(e.requests))
        asked = len(endpoint.requests)
        assert asked < 3_000
        on_disk = ids_in(path)
        assert home.post_events(oracle.offers(3_000, 10)).status == 202
        oracle.takes(3_000, 10)
        path.rename(small.seen / "moved")  # an operator takes it away
        kept = small.seen / "moved"
        first_part = kept.read_bytes()
        kept.unlink()
        home.wait_for_status(lambda s: not s["trouble"])
        # It is full again before the end: emptied as it comes.
        parts = [first_part]
        end = time.monotonic() + 60
        while home.status()["queue"]["events"]:
            assert time.monotonic() < end
            if path.exists() and path.stat().st_size > 700_000:
                path.rename(kept)
                home.processes[0].send(signal.SIGHUP)
                home.wait_for_status(lambda _: not is_open(home.processes[0].pid, small.folder / "moved"))
                parts.append(kept.read_bytes())
                kept.unlink()
        parts.append(path.read_bytes() if path.exists() else b"")
        counts = Counter(json.loads(line)["id"] for part in parts for line in part.splitlines())
        assert len(counts) == 3_010 and set(counts.values()) == {1}, "each has one line"
        assert on_disk.keys() <= counts.keys()
        account = oracle.account(endpoint)
        account.assert_right()
        assert not account.repeats
        home.close()


def test_d20_another_lane_knows_nothing_of_a_fifo_in_its_place(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path
) -> None:
    """Alone: what people ask is answered while nobody reads the FIFO, and its removal is all that it takes."""
    path = tmp_path / "events.log"
    os.mkfifo(path)
    home = make_home(legacy={"logfile": {"filename": str(path)}}, enable=["bounce_all"])
    oracle = Oracle()
    home.run()
    assert home.post_events(oracle.offers(0, 10)).status == 202
    home.wait_for_status(lambda s: "is a FIFO" in s["destinations"][0]["routes"][0]["last_error"])
    assert home.get("/readyz").status == 200, "recording is not concerned"
    assert "is a FIFO" in home.mailvane("doctor", check=False).stdout
    path.unlink()
    home.mailvane("events", "retry", "--all")
    home.wait_until_empty()
    assert sum(ids_in(path).values()) == 10
