"""Commands on a queue in PostgreSQL: as on one in SQLite, whoever delivers, wherever."""

import csv
import io
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from support.endpoint import Answer, Endpoint
from support.homes import COMMAND, LEAVES, Home, bounce, posts_to
from support.postgresql import PostgreSQL

MakeHome = Callable[..., Home]
MAIL = "From: a@example.com\nTo: b@example.com\nSubject: hello\n\nhello\n"


@pytest.fixture
def home(make_home: MakeHome, postgresql_url: str) -> Home:
    """With three events that stay, and nobody who delivers."""
    home = make_home(legacy=LEAVES, enable=["bounce_all", "scomp"], queue=postgresql_url)
    assert home.record([bounce(1), bounce(2), bounce(3, "scomp", listid="b2")]) == {
        "recorded": 3, "disabled": 0, "rejected": 0,
    }  # fmt: skip
    return home


@pytest.fixture(params=["nobody delivers", "this home delivers", "another home delivers"])
def looked_at(request: pytest.FixtureRequest, home: Home, make_home: MakeHome, postgresql_url: str) -> Home:
    if request.param == "this home delivers":
        home.run()
        home.wait_for_status(lambda status: status["queue"]["in_flight"] == 0)
    elif request.param == "another home delivers":
        other = make_home(legacy=LEAVES, queue=postgresql_url)
        other.run()
        other.wait_for_status(lambda status: status["queue"]["in_flight"] == 0)
    return home


def test_looking(looked_at: Home) -> None:
    home = looked_at
    assert [event["id"] for event in home.waiting()] == [1, 2, 3]
    assert {event["state"] for event in home.waiting()} == {"left"}
    assert home.json("events", "count", "--type", "scomp") == {"count": 1}
    assert home.json("events", "list", "--list", "b2")[0]["email"] == "user3@example.com"
    shown = home.json("events", "show", "2")
    assert shown["event"]["email"] == "user2@example.com" and shown["event_unique_id"].endswith("-2")
    assert home.mailvane("events", "show", "99", check=False).returncode == 1
    rows = list(csv.DictReader(io.StringIO(home.mailvane("events", "export", "--csv").stdout)))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    status = home.json("events", "status")
    assert status["queue"]["events"] == 3 and status["books"]["recorded"] == 3


def test_acting_on_events_goes_to_the_database(looked_at: Home) -> None:
    home = looked_at
    assert home.json("events", "drop", "--type", "scomp", "--dry-run") == {"matched": 1}
    assert home.json("events", "drop", "--type", "scomp") == {"matched": 1}
    assert home.json("events", "retry", "--all") == {"matched": 0}
    assert home.json("events", "retry", "--id", "1") == {"matched": 0}
    assert home.json("events", "drop", "--id", "77") == {"matched": 0}
    assert [event["id"] for event in home.waiting()] == [1, 2]
    assert home.json("events", "status")["books"]["deleted"] == 1


def test_status_tells_who_delivers(home: Home, make_home: MakeHome, postgresql_url: str) -> None:
    nobody = home.json("events", "status")
    assert nobody["queue"]["in_flight"] is None and nobody["stands_by"] == ""
    assert "nobody delivers now" in home.mailvane("events", "status").stdout
    other = make_home(legacy=LEAVES, queue=postgresql_url)
    process = other.run()
    other.wait_for_status(lambda status: status["queue"]["in_flight"] == 0)
    assert other.json("events", "status")["queue"]["in_flight"] == 0
    elsewhere = home.json("events", "status")
    assert elsewhere["queue"]["in_flight"] is None and f"process {process.pid}" in elsewhere["stands_by"]
    told = home.mailvane("events", "status").stdout
    assert "nobody delivers" not in told and f"process {process.pid}" in told
    assert "stands by" not in told, "no process of this home does"


def test_a_queue_that_nobody_has_used_yet_is_empty(make_home: MakeHome, postgresql_url: str) -> None:
    home = make_home(legacy=LEAVES, queue=postgresql_url)
    assert home.waiting() == [] and home.json("events", "count") == {"count": 0}
    assert home.json("events", "status")["books"]["recorded"] == 0


def test_a_sample_and_a_mail_are_recorded(home: Home) -> None:
    assert "as event 4" in home.mailvane("trigger", "bounce_all").stdout
    assert home.mailvane("ingest", "mail", "-", input=MAIL).returncode == 0
    home.mailvane("disable", "bounce_all")
    assert home.record([bounce(9)])["disabled"] == 1
    home.mailvane("enable", "bounce_all")
    assert home.json("enabled")["types"]["bounce_all"] == "on"


# Somebody else delivers


@contextmanager
def delivering(make_home: MakeHome, queue: str, endpoint: Endpoint) -> Iterator[Home]:
    """A home elsewhere that delivers to the endpoint; in it is no more of it than its name."""
    home = make_home(legacy=posts_to(endpoint.url()), queue=queue, conf="keep_delivered 1h")
    process = home.run()
    home.wait_for_status(lambda status: status["queue"]["in_flight"] is not None)
    yield home
    process.stop()


def test_retry_is_done_by_whoever_delivers(
    make_home: MakeHome, make_endpoint: Callable[..., Endpoint], postgresql_url: str
) -> None:
    endpoint = make_endpoint(Answer(400))
    here = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=postgresql_url)
    with delivering(make_home, postgresql_url, endpoint) as elsewhere:
        here.record([bounce(n) for n in range(6)])
        elsewhere.wait_for_status(lambda status: status["destinations"][0]["retries"] >= 5)
        endpoint.answer = Answer(200)
        assert here.json("events", "retry", "--all")["matched"] >= 5
        elsewhere.wait_until_empty()


def test_pause_and_resume_are_done_by_whoever_delivers(
    make_home: MakeHome, endpoint: Endpoint, postgresql_url: str
) -> None:
    here = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=postgresql_url)
    with delivering(make_home, postgresql_url, endpoint) as elsewhere:
        (name,) = here.json("events", "pause", "--all")["destinations"]
        assert endpoint.url() in name
        assert elsewhere.status()["destinations"][0]["routes"][0]["state"] == "paused"
        here.record([bounce(1)])
        assert here.json("events", "resume", endpoint.url()) == {"destinations": [name]}
        elsewhere.wait_until_empty()
    assert len(endpoint.requests) == 1


def test_pausing_while_nobody_delivers_holds_for_who_does_later(
    make_home: MakeHome, endpoint: Endpoint, postgresql_url: str
) -> None:
    here = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=postgresql_url)
    here.record([bounce(1)])
    here.mailvane("events", "pause", "--all")
    assert here.json("events", "status")["destinations"][0]["routes"][0]["state"] == "paused"
    with delivering(make_home, postgresql_url, endpoint) as elsewhere:
        assert elsewhere.status()["destinations"][0]["routes"][0]["state"] == "paused"
        assert elsewhere.status()["queue"]["events"] == 1


def test_replay_goes_to_whoever_delivers_or_is_done_directly(
    make_home: MakeHome, endpoint: Endpoint, postgresql_url: str
) -> None:
    here = make_home(
        legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=postgresql_url, conf="keep_delivered 1h"
    )
    with delivering(make_home, postgresql_url, endpoint) as elsewhere:
        here.record([bounce(n) for n in range(4)])
        elsewhere.wait_until_empty()
        assert here.json("events", "count", "--state", "delivered") == {"count": 4}
        assert here.json("events", "replay", "--id", "2") == {"matched": 1}
        endpoint.wait_for_requests(5)
        elsewhere.wait_until_empty()
    assert here.json("events", "replay", "--all") == {"matched": 4}
    assert [event["id"] for event in here.waiting()] == [1, 2, 3, 4]


# The server is away


def test_what_commands_say_while_the_server_is_away(make_home: MakeHome) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"], queue="postgresql://mailvane:hidden@127.0.0.1:1/none")
    mail = home.mailvane("ingest", "mail", "-", input=bounce_mail(), check=False)
    assert mail.returncode == 75, mail.stderr
    assert "127.0.0.1:1" in mail.stderr and "start the server" in mail.stderr
    for arguments in (["record"], ["events", "list"], ["events", "status"], ["events", "drop", "--all"], ["enabled"]):
        done = home.mailvane(*arguments, input=json.dumps(bounce(1)), check=False)
        assert done.returncode == 1, arguments
        assert "127.0.0.1:1" in done.stderr, arguments
        for never in ("Traceback", "defect", "hidden"):
            assert never not in done.stderr, arguments


@pytest.mark.parametrize(("command", "silent", "within"), [("record", False, 5.0), ("ingest", True, 8.0)])
def test_a_command_that_records_soon_tells_that_the_server_is_away(
    make_home: MakeHome, command: str, silent: bool, within: float
) -> None:
    """After two seconds where it refuses, four where it says nothing; and the command has to begin, too."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1] if silent else 1
        home = make_home(legacy=LEAVES, enable=["bounce_all"], queue=f"postgresql://mailvane@127.0.0.1:{port}/none")
        began = time.monotonic()
        if command == "record":
            done, status = home.mailvane("record", input=json.dumps(bounce(1)), check=False), 1
        else:
            done, status = home.mailvane("ingest", "mail", "-", input=bounce_mail(), check=False), 75
    assert time.monotonic() - began < within
    assert done.returncode == status, done.stderr
    assert "is away" in done.stderr and "start the server, or name the right one" in done.stderr


def bounce_mail() -> str:
    folder = Path(__file__).parents[1] / "data" / "bounces"
    return next(path for path in sorted(folder.rglob("*.eml")) if path.is_file()).read_text(errors="replace")


def test_tail_shows_events_as_they_come_and_outlives_a_restart(make_home: MakeHome) -> None:
    with PostgreSQL() as server:
        home = make_home(legacy=LEAVES, enable=["bounce_all"], queue=server.url)
        home.record([bounce(1)])
        tail = home.start("events", "tail", "--json")
        tail.wait_for_output('"email": "user1@example.com"')
        server.restart(immediate=True)
        home.record([bounce(2)])
        tail.wait_for_output('"email": "user2@example.com"')
        assert tail.exit_status() is None


# init


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "init", "--home", folder / "home", *arguments], capture_output=True, text=True, check=False
    )


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall()
    return [row[0] for row in rows]


def test_init_names_the_queue_and_leaves_its_tables_to_the_first_use(tmp_path: Path, postgresql_url: str) -> None:
    done = init(tmp_path, "--queue", postgresql_url)
    assert done.returncode == 0, done.stderr
    conf = tmp_path / "home" / "mailvane.conf"
    assert f'queue "{postgresql_url}"' in conf.read_text() and conf.stat().st_mode & 0o777 == 0o640
    assert "the password stands in" in done.stderr and "queue @file:PATH" in done.stderr
    assert tables(postgresql_url) == []


def test_init_takes_a_schema_and_a_reference(tmp_path: Path, postgresql_url: str) -> None:
    done = init(tmp_path, "--queue", postgresql_url, "--schema", "mine")
    assert done.returncode == 0 and "?schema=mine" in (tmp_path / "home" / "mailvane.conf").read_text()
    secret = tmp_path / "secret"
    secret.write_text(postgresql_url + "?schema=other\n")
    (tmp_path / "two").mkdir()
    done = init(tmp_path / "two", "--queue", f"@file:{secret}")
    assert (done.returncode, done.stderr) == (0, "")
    for url, schema in ((f"@file:{secret}", "mine"), ("sqlite:x.db", "mine"), (postgresql_url + "?schema=a", "b")):
        wrong = init(tmp_path / "three", "--queue", url, "--schema", schema)
        assert wrong.returncode == 2 and "--schema" in wrong.stderr
    assert not (tmp_path / "three").exists()


def test_init_refuses_an_encoding_other_than_utf8(tmp_path: Path, postgresql: PostgreSQL) -> None:
    postgresql.query("CREATE DATABASE old_letters OWNER mailvane ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    url = postgresql.url_of("old_letters")
    try:
        done = init(tmp_path, "--queue", url)
    finally:
        postgresql.drop(url)
    assert done.returncode == 1 and "encoding is LATIN1, wanted is UTF8" in done.stderr
    assert not (tmp_path / "home").exists()


def test_init_refuses_tables_that_are_not_ours(tmp_path: Path, postgresql: PostgreSQL, postgresql_url: str) -> None:
    postgresql.query("CREATE TABLE public.events (id integer)", url=postgresql_url)
    done = init(tmp_path, "--queue", postgresql_url)
    assert done.returncode == 1 and "has events already" in done.stderr and "--schema" in done.stderr
    assert not (tmp_path / "home").exists()
    assert init(tmp_path, "--queue", postgresql_url, "--schema", "mailvane").returncode == 0


def test_init_makes_a_home_while_its_server_is_away(tmp_path: Path) -> None:
    done = init(tmp_path, "--queue", "postgresql://u:hidden@127.0.0.1:1/nothing")
    assert done.returncode == 0 and "could not be looked at" in done.stderr and "hidden" not in done.stderr
    wrong = init(tmp_path / "x", "--queue", "postgresql://u@h/d?schema=a b")
    assert wrong.returncode == 1 and "will not do" in wrong.stderr


# Moving


def test_a_queue_is_moved_and_delivery_goes_on_with_the_same_ids(
    make_home: MakeHome, make_endpoint: Callable[..., Endpoint], postgresql_url: str
) -> None:
    """There and back again: what failed before is delivered as the same event, in its next attempt."""
    endpoint = make_endpoint(Answer(500))
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    home.record([bounce(n) for n in range(4)])
    home.mailvane("processor", "--once")
    failed = {request.headers["webhook-id"] for request in endpoint.requests}
    assert len(failed) == 4
    secret = home.folder / "secret"
    secret.write_text(postgresql_url)
    done = home.mailvane("queue", "move", "sqlite:queue.db", "@file:secret")
    assert done.stdout.startswith("4 events moved; mailvane.conf goes on there with: queue @file:secret")
    refused = home.record([bounce(9)], check=False)
    assert refused["recorded"] == 0, "the old queue takes nothing any more"
    told = home.mailvane("run", check=False)
    assert told.returncode == 1 and "was moved to postgresql://" in told.stderr and "Traceback" not in told.stderr
    home.configure("queue @file:secret")
    assert [event["state"] for event in home.waiting()] == ["deferred"] * 4
    assert home.json("queue", "move", "@file:secret", "sqlite:second.db") == {"moved": 4, "delivered_moved": 0}
    home.configure("queue sqlite:second.db")
    home.record([bounce(10)])
    endpoint.answer = Answer(200)
    home.mailvane("events", "retry", "--all")
    before = len(endpoint.requests)
    home.mailvane("processor", "--once")
    assert home.waiting() == []
    delivered = [request.headers["webhook-id"] for request in endpoint.requests[before:]]
    assert len(delivered) == 5 and set(delivered) > failed
    assert {request.headers["mailvane-attempt"] for request in endpoint.requests[before:]} == {"1", "2"}


def test_moving_says_what_is_in_the_way(make_home: MakeHome, postgresql_url: str) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])

    def refused(*arguments: str) -> tuple[int, str]:
        done = home.mailvane("queue", "move", *arguments, check=False)
        assert "Traceback" not in done.stderr and "defect" not in done.stderr
        return done.returncode, done.stderr

    status, said = refused("sqlite:queue.db", postgresql_url)
    assert status == 1 and "nothing was ever recorded" in said
    home.record([bounce(1)])
    for arguments, why in (
        (("sqlite:queue.db", "mysql://x"), "TO_URL: found no queue that is known"),
        (("nothing", postgresql_url), "FROM_URL: found no queue"),
        (("sqlite:queue.db", "sqlite:queue.db"), "the same queue"),
    ):
        status, said = refused(*arguments)
        assert status == 2 and why in said
    process = home.run()
    status, said = refused("sqlite:queue.db", postgresql_url)
    assert status == 1 and f"mailvane run (process {process.pid})" in said
    process.stop()
    assert refused("sqlite:queue.db", postgresql_url) == (0, "")


def test_a_bar_tells_how_far_a_move_is(make_home: MakeHome, postgresql_url: str) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(n) for n in range(50)])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "queue", "move", "sqlite:queue.db", postgresql_url],
        env={**home.environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:
            pass  # the other side is closed

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join()
    os.close(ours)
    assert process.returncode == 0 and out.startswith(b"50 events moved")
    assert b"move:" in b"".join(shown) and b"50/50" in b"".join(shown)


def test_users_of_sqlite_load_no_driver(make_home: MakeHome) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    program = (
        "import sys\nfrom mailvane.cli import main\n"
        "for words in (['trigger', 'bounce_all'], ['events', 'status'], ['events', 'retry', '--all'], ['enabled']):\n"
        "    assert main(words) == 0\n"
        "print([name for name in sys.modules if name.startswith('asyncpg')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=home.environment(), capture_output=True, text=True, check=True
    )
    assert said.stdout.endswith("[]\n")
