import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from mailvane.events.catalogue import TYPES
from mailvane.events.side import STUDIO_TYPES, Side, side_of
from mailvane.operations.trigger import sample_event
from support.endpoint import Endpoint
from support.homes import COMMAND, LEAVES, Home, bounce, posts_to
from support.processes import Process

# trigger


@pytest.mark.parametrize("name", [t.name for t in TYPES.values() if t.made])
def test_there_is_a_sample_of_every_type(name: str) -> None:
    event = sample_event(name)
    assert event.event_type == name and event.email == "user@example.com" and event.event_time is None
    assert side_of(event) is (Side.STUDIO if name in STUDIO_TYPES else Side.ENGINE)
    assert bool(event.bounce_type) == name.startswith("bounce_")
    assert bool(event.status) == (name == "delivery_attempt")


def test_a_triggered_event_is_recorded_as_a_real_one(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    said = home.json("trigger", "BOUNCE_ALL", "email=me@example.com", "bounce_code=22", "sendid=", "synchronous=yes")
    assert (said["id"], said["email"], said["bounce_code"], said["synchronous"]) == (1, "me@example.com", 22, True)
    assert "sendid" not in said
    event = home.waiting()[0]
    assert (event["email"], event["bounce_code"], event["sendid"]) == ("me@example.com", 22, "")
    assert "recorded bounce_all of user@example.com as event 2" in home.mailvane("trigger", "bounce_all").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scomp",), "scomp is off. Switch it on with: mailvane enable scomp"),
        (("studio_open",), "not there yet"),
        (("bounce_al",), "did you mean bounce_all?"),
        (("bounce_lite",), "nothing records it"),
        (("bounce_all", "bounce_code=x"), "bounce_code: 'x' is no integer"),
        (("bounce_all", "json_after={"), "is no json"),
        (("bounce_all", "emial=x"), "did you mean email?"),
        (("bounce_all", "email"), "is no FIELD=VALUE"),
        (("bounce_all", "bounce_type=q"), "bounce_type"),
        (("bounce_all", "email=a\nb"), "control character"),
    ],
)
def test_what_cannot_be_triggered_is_told(
    make_home: Callable[..., Home], arguments: tuple[str, ...], said: str
) -> None:
    done = make_home(legacy=LEAVES, enable=["bounce_all"]).mailvane("trigger", *arguments, check=False)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


# listen


def test_what_is_delivered_is_shown_by_listen(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    listen = home.start("listen", "--port", "0", "--json", "--status", "201")
    port = listen.wait_for_output(r"127\.0\.0\.1:(\d+)")[1]
    home.write_legacy(posts_to(f"http://127.0.0.1:{port}/hook"))
    home.record([bounce(1)])
    home.mailvane("processor", "--once")
    request = json.loads(listen.wait_for_output(r"^\{.*").string)
    assert (request["path"], request["status"], request["events"][0]["id"]) == ("/hook", 201, 1)
    assert listen.stop() == 0


def test_a_port_that_is_taken_is_told(make_home: Callable[..., Home], endpoint: Endpoint) -> None:
    done = make_home().mailvane("listen", "--port", str(endpoint.port), check=False)
    assert done.returncode == 1 and "is taken" in done.stderr


# doctor


def checks(home: Home) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for check in home.json("doctor", check=False)["checks"]:
        found.setdefault(check["check"], []).append(check)
    return found


def test_the_doctor_finds_nothing_wrong_with_what_is_right(make_home: Callable[..., Home], endpoint: Endpoint) -> None:
    home = make_home(legacy=posts_to(endpoint.url(host="localhost")), enable=["bounce_all"])
    home.record([bounce(1)])
    for owned in (False, True):
        if owned:
            home.run()
            endpoint.wait_for_answers(1)
        done = home.mailvane("doctor")
        assert "all is well" in done.stdout and "wrong" not in done.stdout
        found = checks(home)
        assert ("answers and takes events" in found["owner"][0]["found"]) is owned
        assert "1 recorded = " in found["books"][0]["found"]
        assert found["switches"][0]["found"] == "recorded: bounce_all"
        assert "127.0.0.1" in found["endpoint"][0]["found"]
    assert endpoint.connections == 1  # nothing but the delivery


def spoil_books(home: Home) -> None:
    db = apsw.Connection(str(home.folder / "queue.db"))
    db.execute("DELETE FROM queue WHERE id = 1")
    db.close()


def spoil_pages(home: Home) -> None:
    with (home.folder / "queue.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 3))


@pytest.mark.parametrize(
    ("spoil", "check", "said"),
    [
        (lambda home: home.write_legacy("{ half"), "configuration", "event_processor.json:1:3"),
        (lambda home: home.write_legacy(posts_to("http://nowhere.invalid/")), "endpoint", "does not resolve"),
        (lambda home: home.write_legacy(posts_to("http://169.254.169.254/")), "endpoint", "metadata"),
        (lambda home: home.switch("scomp", "rubbish"), "switches", "wanted is 1 or 0"),
        (lambda home: home.configure("tls_ca_file /nonexistent"), "certificates", "cannot be used"),
        (lambda home: home.configure("api_token @file:/nonexistent"), "api_token", "leads to nothing"),
        (lambda home: home.configure("htpp_listen 1"), "home", "mailvane.conf:"),
        (lambda home: home.folder.chmod(0o777), "permissions", "everybody may write into"),
        (lambda home: (home.folder / "ballast").unlink(), "ballast", "is not there"),
        (lambda home: (home.folder / "mailvane.sock").write_text(""), "socket", "is no socket"),
        (lambda home: (home.folder / "control").rename(home.folder / "c"), "permissions", "is missing"),
        (spoil_books, "books", "but 4 rows are there"),
        (spoil_pages, "queue", "queue.db is damaged"),
    ],
)
def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(
    make_home: Callable[..., Home], spoil: Callable[[Home], object], check: str, said: str
) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record(bounce(n) for n in range(5))
    spoil(home)
    wrong = [c for c in checks(home).get(check, []) if c["level"] == "wrong"]
    assert any(said in c["found"] and c["advice"] for c in wrong), checks(home)
    done = home.mailvane("doctor", check=False)
    assert done.returncode == 1 and "wrong" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_the_doctor_names_who_holds_a_transaction_while_the_log_grows(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(1)])
    reader = apsw.Connection(str(home.folder / "queue.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    after = {"filler": "x" * 60_000}
    home.record(bounce(n, json_after=after) for n in range(1_300))
    found = checks(home)["log of the queue"][0]
    reader.close()
    assert found["level"] == "wrong" and f"process {os.getpid()} " in found["found"]


# demo


def test_the_demo_ends_by_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "MAILVANE_HOME": "/nonexistent"}
    done = subprocess.run(
        [COMMAND, "demo"], cwd="/", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not recorded: its type is off" in done.stdout
    assert "engine_open of ann@example.com: not recorded" in done.stdout
    assert "scomp of eve@example.com: recorded" in done.stdout, "Studio's"
    assert "event_processor.json:9:20: found a comma that nothing follows" in done.stdout
    assert "event_processor.json: syntax OK" in done.stdout
    assert "bounce_bad_address|nouser@dest.test" in done.stdout
    assert "Connection refused" in done.stdout
    assert "14 recorded, 13 delivered, 1 dropped, 0 waiting" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_stays_if_asked_and_ctrl_c_ends_all_of_it(short_folder: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(short_folder), "PYTHONUNBUFFERED": "1"}
    with Process([str(COMMAND), "demo", "--stay"], environment) as demo:
        home = demo.wait_for_output(r"export MAILVANE_HOME=(\S+)", 120)[1]
        demo.wait_for_output("Ctrl-C ends it")
        there = {**os.environ, "MAILVANE_HOME": home}
        status = subprocess.run([COMMAND, "events", "status", "--json"], env=there, capture_output=True, check=True)
        assert json.loads(status.stdout)["books"]["delivered"] == 13
        pid = json.loads((Path(home) / "queue.lock").read_text())["pid"]
        demo.send(signal.SIGINT)
        assert demo.wait(30) == 0
        assert not Path(f"/proc/{pid}").exists() and list(short_folder.iterdir()) == []
