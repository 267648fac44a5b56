"""A statement for each event: what is promised of every kind of database, on the real servers."""

import asyncio
import socket
from pathlib import Path

import apsw
import pytest

from destinations.adversary import Names, run, until
from destinations.databases import INSERT, Answers, Place, batch, deliver, destination, outgoing, sqlite_place
from mailvane.destinations.addresses import Policy
from mailvane.destinations.contract import Database, Failure, Outcome, Outgoing, SqlStatement
from mailvane.destinations.dial import Limits
from mailvane.destinations.sql_mysql import MysqlSession
from mailvane.events.catalogue import Event
from support.postgresql import PostgreSQL

SERVERS = (Database.MYSQL, Database.POSTGRESQL)


@pytest.fixture(params=[*SERVERS, Database.SQLITE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return _place(request, tmp_path)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return _place(request, tmp_path)


def _place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    database: Database = request.param
    if database is Database.SQLITE:
        return sqlite_place(tmp_path)
    name = "mariadb" if database is Database.MYSQL else "postgresql"
    server, url = request.getfixturevalue(name), request.getfixturevalue(f"{name}_url")
    return Place(database, url, lambda sql: server.query(sql, url=url))


def failures(outcomes: dict[int, Outcome]) -> dict[int, Failure]:
    return {number: outcome.failure for number, outcome in outcomes.items() if outcome.failure is not None}


def the_one(outcomes: dict[int, Outcome]) -> Outcome:
    """The outcome that all have."""
    alike = {(outcome.failure, outcome.text): outcome for outcome in outcomes.values()}
    assert len(alike) == 1, alike
    return next(iter(alike.values()))


def test_a_batch_is_there_when_it_is_answered(loop: str, place: Place):
    place.make()

    async def test() -> None:
        def note(part: object) -> None:
            assert place.ids() == list(range(1, 501))

        async with destination(place.insert()) as to:
            outcomes = await Answers(note).of(to, batch(*range(1, 501)))
            assert not failures(outcomes) and len(outcomes) == 500
            assert all(0 < outcome.seconds < 60 for outcome in outcomes.values())
            assert not failures(await deliver(to, batch(501)))
            assert not failures(await deliver(to, batch(*range(502, 900))))
        rows = place.query("SELECT name, email, code FROM t WHERE id IN (1, 501, 899) ORDER BY id")
        assert rows == [(f"-k3v9-{n}", f"user{n}@example.com", 10) for n in (1, 501, 899)]
        assert place.ids() == list(range(1, 900))

    run(loop, test)


def test_d22_values_are_bound_whatever_is_in_them(place: Place):
    nasty = [
        "'); DROP TABLE t; --",
        '"); DROP TABLE t; --',
        "\\'); DROP TABLE t; --",
        "?, ?, %s %(x)s $1 :a @b",
        "\\",
        "\N{PILE OF POO} \u202e\x01\x1a\n",
    ]
    place.make()
    place.query("CREATE TABLE wide (id bigint, words text)")

    async def test() -> None:
        spec = place.statement("INSERT INTO wide VALUES (?, ?)", "id", "bounce_text")
        events = [
            outgoing(n, Event(event_type="bounce_all", email="a@example.com", bounce_text=text))
            for n, text in enumerate(nasty)
        ]
        async with destination(spec) as to:
            assert not failures(await deliver(to, events))
        assert [text for (text,) in place.query("SELECT words FROM wide ORDER BY id")] == nasty
        assert place.ids() == []

    run("uvloop", test)


def test_values_are_those_of_the_classic_row(place: Place):
    json_type = "jsonb" if place.database is Database.POSTGRESQL else "text"
    place.query(
        "CREATE TABLE wide (id bigint, email varchar(99), at bigint, code int, uniq boolean, send varchar(9),"
        f" json_a text, json_b {json_type}, campaign varchar(20), retry int)"
    )
    names = ("id", "email", "event_time", "bounce_code", "studio_is_unique", "sendid", "json_before", "json_after")
    more = ("studio_campaign_id", "is_retry")
    spec = place.statement("INSERT INTO wide VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *names, *more)
    event = Event(
        event_type="studio_subscriber_updated",
        email="a@example.com",
        event_time=1_790_000_000,
        studio_is_unique=1,
        studio_campaign_id=12,
        json_after={"id": 900, "status": "ü"},
    )

    async def test() -> None:
        async with destination(spec) as to:
            assert not failures(await deliver(to, [outgoing(7, event)]))
        after = {"id": 900, "status": "ü"} if json_type == "jsonb" else '{"id":900,"status":"ü"}'
        (row,) = place.query("SELECT * FROM wide")
        assert row == (7, "a@example.com", 1_790_000_000, None, 1, "", "", after, "12", None)

    run("uvloop", test)


def test_d22_one_event_that_will_not_do_is_found_among_500(loop: str, place: Place):
    place.make()

    async def test() -> None:
        def note(part: list[Outgoing]) -> None:
            told = {number for number, outcome in answers.outcomes.items() if outcome.delivered}
            assert told <= set(place.ids()), "a part is answered when it is committed"

        answers = Answers(note)  # type: ignore[arg-type]
        events = batch(*range(1, 501))
        events[317] = outgoing(318, Event(event_type="bounce_all", email="x" * 50 + "@example.com"))
        async with destination(place.insert()) as to:
            outcomes = await answers.of(to, events)
            assert failures(outcomes) == {318: Failure.EVENT}
            assert outcomes[318].text
            assert len(answers.parts) > 2
            assert not failures(await deliver(to, batch(501))), "the connection is as good as before"
        assert place.ids() == [n for n in range(1, 502) if n != 318]

    run(loop, test)


def test_d22_a_duplicate_is_an_events_own_and_no_failure_with_the_right_statement(place: Place):
    place.make()

    async def test() -> None:
        async with destination(place.insert(harmless=False)) as to:
            assert not failures(await deliver(to, batch(3, 5)))
            assert failures(await deliver(to, batch(1, 2, 3, 4, 5, 6))) == {3: Failure.EVENT, 5: Failure.EVENT}
        async with destination(place.insert()) as to:
            assert not failures(await deliver(to, batch(5, 6, 7)))
        assert place.ids() == [1, 2, 3, 4, 5, 6, 7]

    run("uvloop", test)


def test_d22_a_wrong_type_is_an_events_own(place: Place):
    strict = " STRICT" if place.database is Database.SQLITE else ""
    place.query(f"CREATE TABLE wide (id int, code int){strict}")
    spec = place.statement("INSERT INTO wide (id, code) VALUES (?, ?)", "id", "email")

    async def test() -> None:
        events = batch(1, 2, 3)
        events[1] = outgoing(2, Event(event_type="bounce_all", email="17"))
        async with destination(spec) as to:
            assert failures(await deliver(to, events)) == {1: Failure.EVENT, 3: Failure.EVENT}
        assert place.query("SELECT * FROM wide") == [(2, 17)]

    run("uvloop", test)


def test_d22_a_number_that_is_too_large_is_an_events_own(server: Place):
    server.make()
    spec = server.statement("INSERT INTO t (id, code) VALUES (?, ?)", "id", "event_time")

    async def test() -> None:
        events = [
            outgoing(n, Event(event_type="bounce_all", email="a@example.com", event_time=2**n)) for n in (5, 30, 31, 62)
        ]
        async with destination(spec) as to:
            assert failures(await deliver(to, events)) == {31: Failure.EVENT, 62: Failure.EVENT}

    run("uvloop", test)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO missing (id) VALUES (?)",
        "INSERT INTO t (missing) VALUES (?)",
        "INSRT INTO t (id) VALUES (?)",
        "UPDATE t SET id = missing(?)",
    ],
)
def test_d22_a_statement_that_is_wrong_fails_the_batch_without_narrowing(place: Place, sql: str):
    place.make()

    async def test() -> None:
        async with destination(place.statement(sql, "id")) as to:
            answers = Answers()
            outcomes = await answers.of(to, batch(*range(1, 101)))
            assert the_one(outcomes).failure is Failure.REFUSED
            assert len(answers.parts) == 1
            if "missing (" in sql:
                place.query("CREATE TABLE missing (id bigint)")
                assert not failures(await deliver(to, batch(1)))

    run("uvloop", test)


def test_d22_a_refused_login_fails_the_batch_and_shows_no_password(server: Place):
    wrong = server.url.replace("test%2Fsecret", "never%2Fright")

    async def test() -> None:
        async with destination(SqlStatement(server.database, wrong, INSERT, ("id",) * 4)) as to:
            outcome = the_one(await deliver(to, batch(1, 2)))
        assert outcome.failure is Failure.REFUSED and "never/right" not in outcome.text
        assert "mailvane" in outcome.text, "whose login it was"
        bare = server.url.replace("mailvane:test%2Fsecret@", "")
        spec = SqlStatement(server.database, bare, INSERT, ("id",) * 4, username="mailvane", password="test/secret")
        server.make()
        async with destination(SqlStatement(**{**vars(spec), "bind": ("id", "email", "email", "bounce_code")})) as to:
            assert not failures(await deliver(to, batch(1)))

    run("uvloop", test)


def test_secrets_are_read_when_a_connection_is_made(server: Place):
    server.make()
    kept = {"@file:/dsn": "postgresql://nonsense", "@env:PASSWORD": "not yet"}
    kept["@file:/dsn"] = server.url.replace("mailvane:test%2Fsecret@", "mailvane@")

    async def test() -> None:
        spec = SqlStatement(server.database, "@file:/dsn", INSERT, ("id", "email", "email", "id"), "", "@env:PASSWORD")
        async with destination(spec, reveal=lambda value: kept.get(value, value)) as to:
            assert the_one(await deliver(to, batch(1))).failure is Failure.REFUSED
            kept["@env:PASSWORD"] = "test/secret"
            assert not failures(await deliver(to, batch(1)))

    run("uvloop", test)


def test_a_database_that_is_not_there(server: Place, tmp_path: Path):
    async def test() -> None:
        spec = SqlStatement(server.database, server.url + "x", INSERT, ("id",) * 4)
        async with destination(spec) as to:
            assert the_one(await deliver(to, batch(1))).failure is Failure.REFUSED
        spec = SqlStatement(Database.SQLITE, f"sqlite:{tmp_path}/none.db", INSERT, ("id",) * 4)
        async with destination(spec) as to:
            assert the_one(await deliver(to, batch(1))).failure is Failure.CONNECT
        assert not (tmp_path / "none.db").exists()

    run("uvloop", test)


def test_an_update_and_other_shapes_are_run_event_by_event(place: Place):
    place.make()

    async def test() -> None:
        async with destination(place.insert()) as to:
            await deliver(to, batch(1, 2, 3))
        async with destination(place.statement("UPDATE t SET code = ? WHERE id = ?", "event_time", "id")) as to:
            events = [
                outgoing(n, Event(event_type="bounce_all", email="a@example.com", event_time=n)) for n in (1, 2, 3, 4)
            ]
            assert not failures(await deliver(to, events))
        assert place.query("SELECT id, code FROM t ORDER BY id") == [(1, 1), (2, 2), (3, 3)]
        spec = place.statement("INSERT INTO t (id, email) SELECT ?, '?' -- ?", "id")
        async with destination(spec) as to:
            assert not failures(await deliver(to, batch(8, 9)))
        assert place.query("SELECT id, email FROM t WHERE id > 3 ORDER BY id") == [(8, "?"), (9, "?")]
        async with destination(place.statement("DELETE FROM t WHERE code % 2 = 1")) as to:
            assert not failures(await deliver(to, batch(1, 2)))
        assert place.ids() == [2, 8, 9]

    run("uvloop", test)


PROCEDURES = {
    Database.MYSQL: "CREATE PROCEDURE twice(n bigint) BEGIN"
    " INSERT INTO t (id, name) VALUES (n, concat('a', n)); INSERT INTO t (id, name) VALUES (n, 'once'); END",
    Database.POSTGRESQL: "CREATE PROCEDURE twice(n bigint) LANGUAGE plpgsql AS $$ BEGIN"
    " INSERT INTO t (id, name) VALUES (n, concat('a', n)); INSERT INTO t (id, name) VALUES (n, 'once'); END $$",
}


def test_a_procedure_is_one_transaction_whatever_it_does(server: Place):
    server.make()
    server.query(PROCEDURES[server.database])

    async def test() -> None:
        async with destination(server.statement("CALL twice(?)", "id")) as to:
            assert failures(await deliver(to, batch(1))) == {}
            assert failures(await deliver(to, batch(2))) == {2: Failure.EVENT}
        assert server.query("SELECT id, name FROM t ORDER BY name") == [(1, "a1"), (1, "once")]

    run("uvloop", test)


def test_a_session_without_autocommit_is_committed(server: Place):
    server.make()

    async def test() -> None:
        async with destination(server.insert()) as to:
            assert failures(await deliver(to, batch(1))) == {}
            if isinstance(session := to._session, MysqlSession):
                await (await session._connection.prepare("SET SESSION autocommit = 0")).execute()
            assert failures(await deliver(to, batch(2))) == {}
            assert server.ids() == [1, 2]

    run("uvloop", test)


def test_a_batch_of_large_events_goes_in_pieces(server: Place):
    server.query(
        f"CREATE TABLE wide (id bigint, words {'mediumtext' if server.database is Database.MYSQL else 'text'})"
    )
    spec = server.statement("INSERT INTO wide VALUES (?, ?)", "id", "json_after")
    events = [
        outgoing(n, Event(event_type="studio_subscriber_updated", email="a@example.com", json_after="y" * 900_000))
        for n in range(20)
    ]

    async def test() -> None:
        async with destination(spec) as to:
            assert not failures(await deliver(to, events))
        assert server.query("SELECT count(*), min(length(words)) FROM wide") == [(20, 900_000)]

    run("uvloop", test)


def test_a_silent_server_is_given_up_after_the_deadline_for_connections(server: Place):
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"{server.database}://u:p@127.0.0.1:{silent.getsockname()[1]}/d"
            async with destination(
                SqlStatement(server.database, url, INSERT, ("id",) * 4), limits=Limits(connect=0.2, attempt=5)
            ) as to:
                outcome = the_one(await deliver(to, batch(1)))
        assert outcome.failure is Failure.CONNECT and "within 0.2 s" in outcome.text

    run("uvloop", test)


def test_a_statement_that_waits_for_too_long_is_given_up(place: Place):
    place.make()

    async def test() -> None:
        lock = {
            Database.MYSQL: "DO SLEEP(0 * COALESCE(?, 0) + 30)",
            Database.POSTGRESQL: "SELECT pg_sleep(30 + 0 * ?::int)",
            Database.SQLITE: "INSERT INTO t (id) VALUES (?)",
        }[place.database]
        held = None
        if place.database is Database.SQLITE:
            held = apsw.Connection(place.url.removeprefix("sqlite:"))
            held.execute("BEGIN IMMEDIATE")
        async with destination(place.statement(lock, "id"), limits=Limits(connect=5, attempt=0.3)) as to:
            assert the_one(await deliver(to, batch(1, 2))).failure is Failure.TIMEOUT
        if held:
            held.execute("ROLLBACK")
            held.close()

    run("uvloop", test)


def test_addresses_are_judged_and_the_name_is_not_asked_for_again(server: Place):
    server.make()
    named = server.url.replace("127.0.0.1", "db.example.com")

    async def test() -> None:
        bound = ("id", "event_unique_id", "email", "bounce_code")
        spec = SqlStatement(server.database, named, INSERT, bound)
        async with destination(spec, names=Names(["169.254.169.254"])) as to:
            outcome = the_one(await deliver(to, batch(1)))
            assert outcome.failure is Failure.ADDRESS and "metadata" in outcome.text
        async with destination(spec, policy=Policy("public")) as to:
            assert the_one(await deliver(to, batch(1))).failure is Failure.ADDRESS
        async with destination(spec, names=Names([])) as to:
            assert the_one(await deliver(to, batch(1))).failure is Failure.DNS
        async with destination(spec) as to:
            assert not failures(await deliver(to, batch(1)))

    run("uvloop", test)


def test_what_is_under_way_when_it_is_closed_is_answered(place: Place):
    place.make()

    async def test() -> None:
        answers = Answers()
        async with destination(place.insert()) as to:
            await deliver(to, batch(1))
            answers.send(to, batch(2, 3))
            answers.send(to, batch(4))
            await asyncio.sleep(0)
        assert set(failures(answers.outcomes).values()) == {Failure.CLOSED} and len(answers.outcomes) == 3
        late = Answers()
        assert failures(await late.of(to, batch(5))) == {5: Failure.CLOSED}

    run("uvloop", test)


def test_a_connection_that_was_idle_for_long_is_closed_and_opened_again(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mailvane.destinations.sql.IDLE", 0.02)
    place.make()

    async def test() -> None:
        async with destination(place.insert()) as to:
            for number in (1, 2):
                assert not failures(await deliver(to, batch(number)))
                await until(lambda: to._session is None)

    run("uvloop", test)
    assert place.ids() == [1, 2]


def test_postgresqls_types_take_what_can_be_read_as_one(postgresql: PostgreSQL, postgresql_url: str):
    postgresql.query(
        "CREATE TYPE mood AS ENUM ('bounce_all', 'scomp'); CREATE DOMAIN words AS varchar(20);"
        "CREATE TABLE wide (id numeric, kind mood, email words, ip inet, at timestamptz, code smallint, share real,"
        " flag boolean, three char(3), price money)",
        url=postgresql_url,
    )
    sql = "INSERT INTO wide VALUES (?, ?, ?, ?, to_timestamp(?), ?, ?, ?, ?, ?)"
    names = ("id", "event_type", "email", "engine_ip", "event_time", "bounce_code", "timestamp", "studio_is_unique")
    spec = SqlStatement(Database.POSTGRESQL, postgresql_url, sql, (*names, "sendid", "studio_campaign_id"))

    async def test() -> None:
        def event(ip: str) -> Event:
            return Event(
                event_type="scomp", email="a@example.com", engine_ip=ip, event_time=7, bounce_code=10, timestamp=1.5,
                studio_is_unique=0, sendid="s1", studio_campaign_id=12,
            )  # fmt: skip

        events = [outgoing(n, event("192.0.2.9")) for n in range(120)]
        events[60] = outgoing(60, event("nonsense"))
        async with destination(spec) as to:
            outcomes = await deliver(to, events)
            assert failures(outcomes) == {60: Failure.EVENT} and "nonsense" in outcomes[60].text
        spec_of_array = SqlStatement(Database.POSTGRESQL, postgresql_url, "SELECT ?::int[]", ("id",))
        async with destination(spec_of_array) as to:
            assert the_one(await deliver(to, batch(1))).failure is Failure.REFUSED

    run("uvloop", test)
    rows = postgresql.query(
        "SELECT id::int, kind::text, email, host(ip), extract(epoch FROM at)::int, code,"
        " share, flag, three, price::numeric FROM wide WHERE id = 119",
        url=postgresql_url,
    )
    assert rows == [(119, "scomp", "a@example.com", "192.0.2.9", 7, 10, None, False, "s1 ", 12)]


def test_d22_a_statement_may_meet_the_same_key_twice_in_a_batch(server: Place):
    server.make()
    again = {
        Database.MYSQL: "ON DUPLICATE KEY UPDATE code = code + 1",
        Database.POSTGRESQL: "ON CONFLICT (name) DO UPDATE SET code = t.code + 1",
    }
    sql = f"INSERT INTO t (id, name, code) VALUES (?, ?, 1) {again[server.database]}"

    async def test() -> None:
        async with destination(server.statement(sql, "id", "email")) as to:
            same = Event(event_type="bounce_all", email="a@example.com")
            assert not failures(await deliver(to, [outgoing(n, same) for n in range(200)]))
        assert server.query("SELECT id, name, code FROM t") == [(0, "a@example.com", 200)]

    run("uvloop", test)


def test_d22_a_batch_that_failed_has_left_nothing_behind(place: Place):
    place.make()

    async def test() -> None:
        events = batch(*range(1, 61))
        events[55] = outgoing(56, Event(event_type="bounce_all", email="x" * 50 + "@example.com"))
        async with destination(place.insert(harmless=False)) as to:
            assert failures(await deliver(to, events)) == {56: Failure.EVENT}
        assert place.ids() == [n for n in range(1, 61) if n != 56]

    run("uvloop", test)


def test_a_password_is_masked_whoever_says_it(server: Place):
    said = server.url.replace("test%2Fsecret", "mailvane")  # the server names the user that it refuses

    async def test() -> None:
        async with destination(SqlStatement(server.database, said, INSERT, ("id",) * 4)) as to:
            outcome = the_one(await deliver(to, batch(1)))
        assert outcome.failure is Failure.REFUSED
        assert "mailvane" not in outcome.text and "***" in outcome.text

    run("uvloop", test)
