import http.client
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from support.endpoint import Endpoint, Never
from support.homes import COMMAND, DROPS, LEAVES, Home, bounce, posts_to
from support.tools import tool


def test_run_says_where_it_listens_and_ends_on_sigterm(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES)
    process = home.run()
    ready = process.wait_for_output(r"info: ready: ").string
    assert f"http://127.0.0.1:{home.port}" in ready and str(home.folder / "mailvane.sock") in ready
    process.send(signal.SIGHUP)
    assert home.get("/readyz").status == 200
    assert process.stop() == 0
    assert not (home.folder / "mailvane.sock").exists()


def test_what_of_the_settings_is_not_ours_is_told_once_at_the_start(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, conf="engine_time_zone UTC")
    process = home.run()
    assert process.wait_for_output(r"mailvane\.conf: ignored, for not mailvane's: engine_time_zone$")
    process.stop()
    assert process.output.count("engine_time_zone") == 1


def test_a_free_port_is_told(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, conf="http_listen 127.0.0.1:0")
    home.port = int(home.start("run").wait_for_output(r"ready: .*http://127\.0\.0\.1:(\d+)")[1])
    assert home.get("/readyz").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_same_signal_twice_ends_it_at_once(
    make_home: Callable[..., Home], endpoint: Endpoint, number: signal.Signals
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    endpoint.answer = Never()
    process = home.run()
    home.record([bounce(1)])
    endpoint.wait_for_requests(1)
    process.send(number)
    process.wait_for_output("ending; the same signal again ends at once")
    assert process.exit_status() is None
    process.send(number)
    assert process.wait(4) == 1
    assert [e["id"] for e in home.waiting()] == [1]


def test_what_never_answers_does_not_keep_it_from_ending_in_ten_seconds(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    endpoint.answer = Never()
    process = home.run()
    home.record([bounce(1)])
    endpoint.wait_for_requests(1)
    assert process.stop(10) == 0
    assert [e["id"] for e in home.waiting()] == [1]


def test_what_holds_the_queue_does_not_keep_it_from_ending_in_ten_seconds(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    process = home.run()
    home.record([bounce(1)])
    shell = apsw.Connection(str(home.folder / "queue.db"))
    shell.execute("BEGIN IMMEDIATE")
    producer = http.client.HTTPConnection("127.0.0.1", home.port)
    producer.request("POST", "/v1/events", json.dumps(bounce(2)), {"content-type": "application/json"})
    home.status()  # asked later, so that the event is with the writer by now
    process.send(signal.SIGTERM)
    assert process.wait(15) == 1
    assert "what was acknowledged is on disk" in process.output
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        producer.getresponse()
    shell.execute("ROLLBACK")
    shell.close()
    assert [e["id"] for e in home.waiting()] == [1]


def test_a_process_that_has_lost_the_queue_ends_with_the_reason(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    process = home.run()
    other = apsw.Connection(str(home.folder / "queue.db"))
    other.set_busy_timeout(10_000)
    other.execute("UPDATE kept SET value = '99' WHERE name = 'term'")
    other.close()
    home.record([bounce(1)])
    assert process.wait(20) == 1
    assert "delivery has ended" in process.output and "owner of term 99" in process.output
    assert [e["id"] for e in home.waiting()] == [1]


def test_a_disk_that_fails_to_sync_ends_it_with_the_reason(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    fails = "inject=fdatasync,fsync:error=EIO:when=40+"
    process = home.run(prefix=[tool("strace"), "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", fails])
    acknowledged = 0
    try:
        while home.post_events([bounce(acknowledged)]).status == 202:
            acknowledged += 1
    except OSError:
        pass  # it has ended already
    assert process.wait(30) == 1
    assert "the queue cannot be written any more: " in process.output
    assert 0 < acknowledged < 40
    assert len(home.waiting()) >= acknowledged


@pytest.mark.parametrize("first", ["run", "processor"])
@pytest.mark.parametrize("second", [["run"], ["processor"], ["processor", "--once"]])
def test_a_second_process_on_the_same_home_is_refused_and_the_first_one_named(
    make_home: Callable[..., Home], first: str, second: list[str]
) -> None:
    home = make_home(legacy=LEAVES)
    process = home.start(first)
    process.wait_for_output("ready: ")
    done = home.mailvane(*second, check=False)
    assert done.returncode == 1
    assert f"belongs to mailvane {first} (process {process.pid})" in done.stderr and "Traceback" not in done.stderr


def test_a_processor_alone_delivers_and_others_record_through_its_socket(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    home.start("processor").wait_for_output("ready: ")
    assert home.record([bounce(1)])["recorded"] == 1
    endpoint.wait_for_answers(1)
    with pytest.raises(OSError):
        home.get("/healthz")
    assert home.get("/healthz", by_socket=True).status == 200


def test_the_web_part_alone_records_and_delivers_nothing(make_home: Callable[..., Home], endpoint: Endpoint) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    process = home.run("--only", "web")
    assert home.post_events([bounce(1)]).status == 202
    assert home.json("events", "status")["queue"] == {
        "events": 1,
        "oldest_seconds": pytest.approx(0, abs=60),
        "in_flight": None,
    }
    status = home.wait_for_status(lambda status: status["config"]["state"] == "current")
    assert status["queue"]["events"] == 1 and not endpoint.requests
    process.stop()
    home.mailvane("processor", "--once")
    assert len(endpoint.answered) == 1 and home.waiting() == []


def test_once_ends_with_0_also_if_deliveries_failed(make_home: Callable[..., Home], endpoint: Endpoint) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    endpoint.answer = 500
    home.record([bounce(n) for n in range(3)])
    assert home.mailvane("processor", "--once").returncode == 0
    assert len(home.waiting()) == 3 and len(endpoint.answered) == 3


def test_once_lets_others_record_when_it_takes_longer(make_home: Callable[..., Home], endpoint: Endpoint) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    home.record([bounce(1)])
    endpoint.hold()
    once = home.start("processor", "--once")
    once.wait_for_output("ready: ")
    assert home.record([bounce(2)])["recorded"] == 1
    endpoint.release()
    assert once.wait() == 0
    assert home.waiting() == []


def test_another_configuration_can_be_named(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(1)])
    other = home.folder / "other.json"
    other.write_text("{ half")
    done = home.mailvane("processor", "--once", "--config", str(other), check=False)
    assert done.returncode == 1 and f"{other}:1:3: " in done.stderr
    other.write_text(json.dumps(DROPS))
    home.mailvane("processor", "--once", "--config", str(other))
    assert home.waiting() == []


def test_without_any_usable_configuration_once_says_so(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy="{ half", enable=["bounce_all"])
    home.record([bounce(1)])
    done = home.mailvane("processor", "--once", check=False)
    assert done.returncode == 1 and "event_processor.json:1:3" in done.stderr
    assert len(home.waiting()) == 1


def test_what_keeps_it_from_starting_is_told(make_home: Callable[..., Home]) -> None:
    home, other = make_home(legacy=LEAVES), make_home(legacy=LEAVES)
    home.run()
    other.configure(f"http_listen 127.0.0.1:{home.port}")
    done = other.mailvane("run", check=False)
    assert done.returncode == 1 and "in use" in done.stderr and "Traceback" not in done.stderr
    other.configure("htpp_listen 1")
    done = other.mailvane("run", check=False)
    assert done.returncode == 1 and "mailvane.conf:" in done.stderr and 'did you mean "http_listen"?' in done.stderr


def test_a_queue_that_is_no_database_ends_it_with_the_reason(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    (home.folder / "queue.db").write_bytes(b"this is no database" * 1_000)
    for arguments in (["run"], ["processor", "--once"], ["events", "list"], ["record"], ["events", "drop", "--all"]):
        done = home.mailvane(*arguments, input=json.dumps(bounce(1)), check=False)
        assert done.returncode == 1, arguments
        assert "queue.db" in done.stderr and "Traceback" not in done.stderr and "defect" not in done.stderr, arguments


def test_the_limit_of_open_files_is_raised(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    process = home.run(prefix=["bash", "-c", 'ulimit -Sn 256; exec "$@"', "bash"])
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(line.split()[3]) == min(hard, 65_536)


def test_it_runs_and_ends_without_any_standard_stream(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    process = home.run(prefix=["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash"])
    assert home.post_events([bounce(1)]).status == 202
    for number in (0, 1, 2):
        assert os.readlink(f"/proc/{process.pid}/fd/{number}") == os.devnull
    assert process.stop() == 0


# --check-syntax


def check(home: Home, document: str) -> subprocess.CompletedProcess[str]:
    (home.folder / "some.json").write_text(document)
    return home.mailvane("processor", "--check-syntax", "--config", str(home.folder / "some.json"), check=False)


def test_a_good_file_passes_and_is_said_to(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES)
    done = check(home, json.dumps(posts_to("https://hook.example.com/n")))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{home.folder}/some.json: syntax OK\n"
    in_force = home.mailvane("processor", "--check-syntax").stdout
    assert in_force == f"{home.folder}/control/event_processor.json: syntax OK\n"


def test_every_mistake_is_told_in_one_go_with_its_line_and_a_caret(make_home: Callable[..., Home]) -> None:
    home = make_home()
    document = (
        '{\n "event_destinations": [\n'
        '  {"matches": {"event_tipe": "scomp"},\n   "destination": {"type": "http_pots"}}\n ]\n}\n'
    )
    done = check(home, document)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"{home.folder}/some.json:3:16: ") and '"event_tipe"' in lines[0]
    assert lines[1:3] == ['      {"matches": {"event_tipe": "scomp"},', "                   ^"]
    assert lines[3].startswith(f"{home.folder}/some.json:4:28: ") and '"http_pots"' in lines[3]
    (home.folder / "some.json").write_text(document)
    report = home.json("processor", "--check-syntax", "--config", str(home.folder / "some.json"), check=False)
    assert report["ok"] is False
    assert [(m["line"], m["column"]) for m in report["mistakes"]] == [(3, 16), (4, 28)]


@pytest.mark.parametrize("path", ["/nonexistent/file.json", "/etc", "/dev/null"])
def test_what_is_no_file_is_told(make_home: Callable[..., Home], path: str) -> None:
    done = make_home().mailvane("processor", "--check-syntax", "--config", path, check=False)
    assert done.returncode == 1 and path in done.stderr and "Traceback" not in done.stderr


def test_checking_a_named_file_needs_no_home() -> None:
    hvmail = COMMAND.parent / "hvmail_event_processor"
    done = subprocess.run(
        [hvmail, "--check-syntax", "--config", "/etc/passwd"],
        env={**os.environ, "MAILVANE_HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith("/etc/passwd:1:1: ")
