"""`mailvane run` and `mailvane processor` on a queue in PostgreSQL: servers that go away, other processes, people."""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.endpoint import Answer, Endpoint
from support.homes import Home, bounce, posts_to
from support.oracle import Oracle, assert_books_balance
from support.postgresql import PostgreSQL, program
from support.producers import Producers

TYPES = ["bounce_all"]
SLOWLY = Answer(200, delay=0.02)
RESTARTS = 5
TAKES_OVER_WITHIN = 20.0
"""Seconds: promised are five, on a machine that has time."""

MakeHome = Callable[..., Home]
MakeEndpoint = Callable[..., Endpoint]


def record_by_sql(connection: "psycopg.Connection[Any]", event: Mapping[str, object]) -> None:
    connection.execute("SELECT mailvane_record(%s::jsonb)", [json.dumps(event)])


def psql(url: str, *statements: str) -> str:
    """What psql prints."""
    command = [program("psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]
    for statement in statements:
        command += ["-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def connections_to(endpoint: Endpoint) -> int:
    """Connections that are open at the other end (Linux)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(words[2].endswith(f":{endpoint.port:04X}") and words[3] == "01" for words in lines)


def deliveries(endpoint: Endpoint) -> list[str]:
    return [str(event["email"]) for event in endpoint.events()]


# Servers that go away


def test_nothing_is_lost_when_the_server_crashes_again_and_again_under_load(
    make_home: MakeHome, make_endpoint: MakeEndpoint, tmp_path: Path
) -> None:
    endpoint, oracle = make_endpoint(SLOWLY), Oracle()
    with PostgreSQL() as server:
        home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=server.database())
        process = home.run()
        with Producers(home, tmp_path) as producers:
            producers.start("http", "http")
            for _ in range(RESTARTS):
                producers.wait_for("acknowledged", 100)
                before = len(endpoint.answered)
                endpoint.wait_for(lambda e, before=before: len(e.answered) > before + 100)
                server.restart(immediate=True)
            producers.wait_for("acknowledged", 100)
            producers.stop()
            producers.tell(oracle)
        books = home.wait_until_empty(60)["books"]
        account = oracle.account(endpoint)
        print(account)
        account.assert_right()
        assert not producers.refusals(), "recorders wait for a server that restarts"
        assert process.output.count("this process stands by") >= RESTARTS - 1, "a crash is not noticed"
        assert_books_balance(books, waiting=0)
        assert process.stop() == 0
        home.close()


def test_what_is_on_its_way_is_cut_off_when_the_right_to_deliver_is_lost_and_goes_out_again(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql: PostgreSQL, postgresql_url: str
) -> None:
    """Whoever delivers next has the same event in hand: one answer of two must not count."""
    endpoint = make_endpoint()
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)
    process = home.run()
    endpoint.hold()
    assert home.post_events([bounce(1)]).status == 202
    endpoint.wait_for_requests(1)
    ended = postgresql.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2")
    assert ended == [(True,)]
    process.wait_for_output("this process stands by")
    endpoint.wait_for_requests(2)
    assert connections_to(endpoint) == 1, "the first attempt is still there"
    endpoint.release()
    books = home.wait_until_empty()["books"]
    assert_books_balance(books, recorded=1, delivered=1)
    assert [request.attempt for request in endpoint.requests] == [1, 1]


def test_a_process_that_starts_before_the_server_waits_for_it(make_home: MakeHome, endpoint: Endpoint) -> None:
    with PostgreSQL() as server:
        home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=server.database())
        server.stop()
        process = home.start("run")
        process.wait_for_output("waits for the queue: .*")
        server.start()
        process.wait_for_output("ready: ")
        assert home.post_events([bounce(1)]).status == 202
        endpoint.wait_for_requests(1)
        assert process.stop() == 0


def test_a_process_that_waits_for_the_server_ends_when_it_is_told_to(make_home: MakeHome) -> None:
    with PostgreSQL() as server:
        home = make_home(enable=TYPES, queue=server.database())
    process = home.start("run")
    process.wait_for_output("waits for the queue: .*")
    assert process.stop() == 0


# Others that deliver


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM], ids=["killed", "stopped", "ended"])
def test_d14_a_second_process_records_at_once_and_delivers_when_the_first_is(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql_url: str, how: signal.Signals
) -> None:
    endpoint = make_endpoint()
    first = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)
    second = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)
    owner = first.run()
    stands_by = second.run()
    stands_by.wait_for_output("stands by: .* belongs to mailvane run on ")
    assert (
        "belongs to mailvane run on" in second.status()["stands_by"] and second.status()["queue"]["in_flight"] is None
    )
    assert second.post_events([bounce(1)]).status == 202
    endpoint.wait_for_requests(1)
    owner.send(how)
    begun = time.monotonic()
    assert second.post_events([bounce(2)]).status == 202
    endpoint.wait_for_requests(2)
    print(f"took over within {time.monotonic() - begun:.1f} s")
    assert time.monotonic() - begun < TAKES_OVER_WITHIN
    status = second.wait_until_empty()
    assert status["stands_by"] == "" and status["queue"]["in_flight"] == 0
    assert_books_balance(status["books"], recorded=2, delivered=2)


def test_a_run_over_what_is_due_is_refused_while_another_process_delivers(
    make_home: MakeHome, endpoint: Endpoint, postgresql_url: str
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)
    process = home.run("--only", "web")
    assert home.post_events([bounce(1)]).status == 202
    assert home.mailvane("processor", "--once").returncode == 0
    assert len(endpoint.requests) == 1
    process.stop()
    process = home.run()
    refused = home.mailvane("processor", "--once", check=False)
    assert refused.returncode == 1 and "belongs to mailvane run on" in refused.stderr
    assert process.stop() == 0


def test_whoever_stands_by_passes_on_what_people_ask_for(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql_url: str
) -> None:
    endpoint = make_endpoint()
    homes = [
        make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url, conf="keep_delivered 1h")
        for _ in range(2)
    ]
    owner, asked = homes
    owner.run()
    asked.run().wait_for_output("stands by: .* belongs to")
    name = {"destination": "__legacy__"}
    chosen = asked.post("/v1/events/pause", name)
    assert chosen.status == 200 and len(chosen.json["destinations"]) == 1
    assert owner.status()["destinations"][0]["state"] == asked.status()["destinations"][0]["state"] == "paused"
    endpoint.script(500)
    assert asked.post_events([bounce(1)]).status == 202
    assert asked.post("/v1/events/resume", name).status == 200
    owner.wait_for_status(lambda status: status["destinations"][0]["retries"] == 1)
    assert asked.post("/v1/events/retry", {"all": True}).json == {"matched": 1}
    endpoint.wait_for_answers(2)
    owner.wait_until_empty()
    assert asked.post("/v1/events/replay", {"ids": [1]}).json == {"matched": 1}
    endpoint.wait_for_answers(3)
    assert_books_balance(owner.wait_until_empty()["books"], recorded=2, delivered=2)


def test_pausing_and_replaying_with_nobody_who_delivers_is_there_for_who_comes(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql_url: str
) -> None:
    endpoint = make_endpoint()
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url, conf="keep_delivered 1h")
    process = home.run()
    assert home.post_events([bounce(1)]).status == 202
    home.wait_until_empty()
    process.stop()
    process = home.run("--only", "web")
    assert home.post("/v1/events/replay", {"ids": [1]}).json == {"matched": 1}
    assert len(home.post("/v1/events/pause", {"destination": "__legacy__"}).json["destinations"]) == 1
    process.stop()
    home.run()
    assert home.status()["destinations"][0]["state"] == "paused" and len(endpoint.requests) == 1
    assert home.post("/v1/events/resume", {"destination": "__legacy__"}).status == 200
    endpoint.wait_for_requests(2)


def test_another_file_at_whoever_takes_over_counts_only_once_it_is_edited(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql_url: str
) -> None:
    used, other, edited = make_endpoint(), make_endpoint(), make_endpoint()
    first = make_home(legacy=posts_to(used.url()), enable=TYPES, queue=postgresql_url)
    second = make_home(legacy=posts_to(other.url()), enable=TYPES, queue=postgresql_url)
    owner = first.run()
    process = second.run()
    process.wait_for_output("stands by: .* belongs to")
    assert first.post_events([bounce(1)]).status == 202
    used.wait_for_answers(1)
    first.wait_until_empty()
    owner.kill()
    assert second.post_events([bounce(2)]).status == 202
    used.wait_for_answers(2)
    process.wait_for_output("the configuration file says something else")
    config = second.status()["config"]
    assert config["state"] == "stale" and "says something else" in config["report"]
    second.legacy_file.write_text("half a {")  # no plan: what holds still holds
    second.wait_for_status(lambda status: "says something else" not in status["config"]["report"])
    assert second.post_events([bounce(3)]).status == 202
    used.wait_for_answers(3)
    second.write_legacy(posts_to(edited.url()))
    second.wait_for_status(lambda status: status["config"]["state"] == "current")
    assert second.post_events([bounce(4)]).status == 202
    edited.wait_for_answers(1)
    assert not other.requests


def test_an_edit_made_while_another_delivers_holds_for_who_takes_over(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql_url: str
) -> None:
    used, edited = make_endpoint(), make_endpoint()
    first, second = (make_home(legacy=posts_to(used.url()), enable=TYPES, queue=postgresql_url) for _ in range(2))
    owner = first.run()
    second.run().wait_for_output("stands by: .* belongs to")
    second.write_legacy(posts_to(edited.url()))
    owner.kill()
    assert second.post_events([bounce(1)]).status == 202
    edited.wait_for_answers(1)
    assert not used.requests and second.status()["config"]["state"] == "current"


# People


def test_what_people_record_in_their_transactions_arrives_if_they_commit(
    make_home: MakeHome, endpoint: Endpoint, postgresql_url: str
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)
    home.run()
    with psycopg.connect(postgresql_url) as connection:
        record_by_sql(connection, {"event_type": "bounce_all", "email": "rolled.back@example.com"})
        connection.rollback()
        record_by_sql(connection, {"event_type": "bounce_all", "email": "committed@example.com"})
        record_by_sql(connection, {"event_type": "scomp", "email": "switched.off@example.com"})
        record_by_sql(connection, {"event_type": "bounce_all", "email": "committed.too@example.com"})
        with contextlib.suppress(psycopg.Error), connection.transaction():
            record_by_sql(connection, {"event_type": "bounce_all", "email": 7})
        connection.commit()
    endpoint.wait_for_answers(2)
    assert deliveries(endpoint) == ["committed@example.com", "committed.too@example.com"]
    assert_books_balance(home.wait_until_empty()["books"], recorded=2, delivered=2)
    assert b"mailvane_recorded_total 2.0" in home.get("/metrics").body


def test_a_run_over_what_is_due_takes_along_what_people_have_recorded(
    make_home: MakeHome, endpoint: Endpoint, postgresql_url: str
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)
    assert home.mailvane("processor", "--once").returncode == 0
    with psycopg.connect(postgresql_url) as connection:
        for number in range(3):
            record_by_sql(connection, {"event_type": "bounce_all", "email": f"{number}@example.com"})
    assert home.mailvane("processor", "--once").returncode == 0
    assert deliveries(endpoint) == [f"{number}@example.com" for number in range(3)]


def test_people_look_and_delete_in_psql_while_all_runs(
    make_home: MakeHome, make_endpoint: MakeEndpoint, postgresql_url: str, tmp_path: Path
) -> None:
    """A transaction of theirs that stays open stops nothing but what it has deleted."""
    endpoint, oracle = make_endpoint(SLOWLY), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=[*TYPES, "scomp"], queue=postgresql_url)
    home.run()
    assert home.post("/v1/events/pause", {"destination": "__legacy__"}).status == 200
    assert home.post_events([bounce(n, "scomp") for n in range(10)]).status == 202
    with Producers(home, tmp_path) as producers, psycopg.connect(postgresql_url) as person:
        person.execute("DELETE FROM events WHERE event_type = 'scomp' AND email < 'user5'")
        assert home.post("/v1/events/resume", {"destination": "__legacy__"}).status == 200
        producers.start("http")
        producers.wait_for("acknowledged", 200)
        assert psql(postgresql_url, "SELECT count(*) FROM events WHERE email ILIKE 'USER%'").strip().isdigit()
        copied = tmp_path / "copied.csv"
        psql(postgresql_url, f"\\COPY (SELECT * FROM events) TO '{copied}' CSV HEADER")
        assert copied.read_text().startswith("id,")
        producers.wait_for("acknowledged", 200)
        producers.stop()
        producers.tell(oracle)
        home.wait_for_status(lambda status: status["queue"]["events"] == 5)
        person.commit()
    books = home.wait_until_empty()["books"]
    oracle.acknowledged.update(dict.fromkeys(range(5, 10), 0))
    account = oracle.account(endpoint)
    assert not account.missing and not account.shared
    # Until they commit the rows are there for all others: those may be delivered, and count as deleted all the same.
    assert_books_balance(books, deleted=5, delivered=books["recorded"] - 5)


def test_the_doctor_tells_what_is_wrong_with_the_server(
    make_home: MakeHome, endpoint: Endpoint, postgresql: PostgreSQL, postgresql_url: str
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=postgresql_url)

    def found() -> dict[str, tuple[str, str]]:
        report = home.json("doctor", check=False)
        return {f["check"]: (f["level"], f["found"]) for f in report["checks"]}

    assert "there is no queue yet" in found()["queue"][1]
    process = home.run()
    with psycopg.connect(postgresql_url) as connection:
        record_by_sql(connection, {"event_type": "bounce_all", "email": "a\u0007@example.com"})
    process.wait_for_output("not let in")
    now = found()
    assert f"PostgreSQL {postgresql.version()}" in now["queue"][1]
    assert "fsync" in now["durability"][1], "the servers of tests run without"
    assert now["inbox"][1].startswith("1 events")
    assert now["books"][0] == now["owner"][0] == "ok"
