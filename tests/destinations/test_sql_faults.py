"""Servers that go away, connections that are cut, TLS: what becomes of events whose statement was under way."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pymysql
import pytest

from destinations.adversary import run
from destinations.databases import BIND, HARMLESS, INSERT, TABLE, Answers, Place, batch, deliver, destination
from mailvane.destinations.contract import Database, Failure, Outcome, SqlStatement
from mailvane.destinations.dial import Limits
from mailvane.destinations.sql_mysql import judge as judge_mysql
from mailvane.destinations.sql_postgresql import judge as judge_postgresql
from support.certificates import Authority
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.postgresql_tls import TlsFront
from support.tcp_proxy import CuttingProxy

SERVERS: dict[Database, Callable[[], Any]] = {Database.MYSQL: MariaDB, Database.POSTGRESQL: PostgreSQL}


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def with_port(spec: SqlStatement, port: int, query: str = "") -> SqlStatement:
    """The same statement behind another port."""
    dsn = spec.dsn.replace(f":{port_of(spec.dsn)}/", f":{port}/") + query
    return dataclasses.replace(spec, dsn=dsn)


def the_failure(outcomes: dict[int, Outcome]) -> Failure | None:
    assert len({outcome.failure for outcome in outcomes.values()}) == 1, outcomes
    return next(iter(outcomes.values())).failure


@pytest.fixture(params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> Place:
    database: Database = request.param
    name = "mariadb" if database is Database.MYSQL else "postgresql"
    found, url = request.getfixturevalue(name), request.getfixturevalue(f"{name}_url")
    return Place(database, url, lambda sql: found.query(sql, url=url)).make()


def commits(data: bytes) -> bool:
    """MySQL's COMMIT, or the Sync at the end of PostgreSQL's pipeline."""
    return b"COMMIT" in data or data.endswith(b"S\0\0\0\4")


def executes(data: bytes) -> bool:
    """MySQL's COM_STMT_EXECUTE, which commits by itself; or as `commits`."""
    return data[4:5] == b"\x17" or commits(data)


@pytest.mark.parametrize(("events", "ends"), [(500, executes), (3, commits)], ids=["one statement", "several"])
def test_d22_a_connection_that_is_cut_after_the_commit_leads_to_a_repeat_that_does_no_harm(
    loop: str, server: Place, events: int, ends: Callable[[bytes], bool]
):
    last = 1 + events

    async def test() -> None:
        async with CuttingProxy(port_of(server.url)) as proxy:
            plain = tls_cases(server.database, "disable")  # the proxy must see what is asked
            async with destination(with_port(server.insert(), proxy.port, plain)) as to:
                assert the_failure(await deliver(to, batch(1))) is None
                proxy.cut_answer_to(ends)
                outcomes = await deliver(to, batch(*range(2, last + 1)))
                assert proxy.cut.is_set()
                assert the_failure(outcomes) is Failure.RESET, "nobody knows"
                assert server.ids() == list(range(1, last + 1)), "and it was committed"
                assert the_failure(await deliver(to, batch(*range(2, last + 1)))) is None
                assert server.ids() == list(range(1, last + 1))
            # What answers is asked first whether it is PostgreSQL, on a connection of its own.
            assert proxy.connections == (4 if server.database is Database.POSTGRESQL else 2)

    run(loop, test)


def test_a_connection_that_is_cut_while_it_is_idle_is_replaced_without_a_failure(server: Place):
    end = {
        Database.MYSQL: "SELECT id FROM information_schema.processlist WHERE user = 'mailvane' AND db = DATABASE()",
        Database.POSTGRESQL: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'mailvane' AND datname = current_database()",
    }

    async def test() -> None:
        async with destination(server.insert()) as to:
            assert the_failure(await deliver(to, batch(1))) is None
            for (number,) in server.query(end[server.database]):
                if server.database is Database.MYSQL:
                    server.query(f"KILL {number}")
            session = to._session
            while session is not None and session.alive:
                await asyncio.sleep(0.005)
            assert the_failure(await deliver(to, batch(2))) is None

    run("uvloop", test)


def locking(database: Database, url: str) -> Any:
    """A connection that holds the table, for nobody else to write."""
    if database is Database.POSTGRESQL:
        connection = psycopg.connect(url)
        connection.execute("LOCK TABLE t")
        return connection
    to = urlsplit(url)
    password = unquote(to.password or "")
    connection = pymysql.connect(
        host="127.0.0.1", port=to.port or 0, user=to.username, password=password, database=to.path[1:]
    )
    connection.cursor().execute("LOCK TABLES t WRITE")
    return connection


@pytest.fixture(params=list(SERVERS))
def own(request: pytest.FixtureRequest) -> Iterator[tuple[Database, Any]]:
    """A server that the test may kill."""
    with SERVERS[request.param]() as found:
        yield request.param, found


def test_d22_a_server_that_is_killed_in_the_middle_loses_nothing(own: tuple[Database, Any]):
    database, found = own
    url = found.database()
    found.query(TABLE[database], url=url)
    delivered: set[int] = set()

    async def test() -> None:
        async with destination(SqlStatement(database, url, HARMLESS[database], BIND)) as to:
            numbers = list(range(1, 501))
            assert the_failure(await deliver(to, batch(*numbers))) is None
            delivered.update(numbers)
            later = list(range(501, 1001))
            answers = Answers()
            locked = locking(database, url)  # so that it cannot be quicker than the kill
            answers.send(to, batch(*later))
            for _ in range(10):
                await asyncio.sleep(0.01)
            assert not answers.outcomes
            found.kill()
            assert the_failure(await answers.all()) is Failure.RESET
            locked.close()
            assert the_failure(await deliver(to, batch(*later))) is Failure.CONNECT
            found.start()
            assert the_failure(await deliver(to, batch(*later))) is None
            delivered.update(later)

    run("uvloop", test)
    assert {i for (i,) in found.query("SELECT id FROM t", url=url)} == delivered


def test_too_many_connections_and_a_read_only_server_are_the_servers_trouble(own: tuple[Database, Any]):
    database, found = own
    url = found.database()
    found.query(TABLE[database], url=url)
    user = "mailvane"
    few, many, read_only, writable = {
        Database.MYSQL: (
            f"ALTER USER {user} WITH MAX_USER_CONNECTIONS 1",
            f"ALTER USER {user} WITH MAX_USER_CONNECTIONS 0",
            "SET GLOBAL read_only = 1",
            "SET GLOBAL read_only = 0",
        ),
        Database.POSTGRESQL: (
            f"ALTER ROLE {user} CONNECTION LIMIT 1",
            f"ALTER ROLE {user} CONNECTION LIMIT -1",
            f"ALTER ROLE {user} SET default_transaction_read_only = on",
            f"ALTER ROLE {user} RESET default_transaction_read_only",
        ),
    }[database]
    spec = SqlStatement(database, url, HARMLESS[database], BIND)

    async def test() -> None:
        found.query(few)
        async with destination(spec) as first, destination(spec) as second:
            assert the_failure(await deliver(first, batch(1))) is None
            assert the_failure(await deliver(second, batch(2))) is Failure.BUSY
            found.query(many)
            assert the_failure(await deliver(second, batch(2))) is None
        found.query(read_only)
        async with destination(spec) as to:
            assert the_failure(await deliver(to, batch(3))) is Failure.SERVER
        found.query(writable)
        async with destination(spec) as to:
            assert the_failure(await deliver(to, batch(3))) is None

    run("uvloop", test)


# TLS.


def tls_cases(database: Database, mode: str) -> str:
    if database is Database.POSTGRESQL:
        return f"?sslmode={mode}"
    words = {"disable": "DISABLED", "prefer": "PREFERRED", "require": "REQUIRED", "verify-full": "VERIFY_IDENTITY"}
    return f"?ssl-mode={words[mode]}"


@pytest.fixture(params=list(SERVERS))
def tls_server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[tuple[Place, int, str]]:
    """A server with TLS, its port, and the file with the authority that it can be trusted by."""
    place = request.getfixturevalue("server_of")(request.param)
    if request.param is Database.MYSQL:
        yield place, port_of(place.url), str(request.getfixturevalue("mariadb").authority_file)
    else:
        with TlsFront(port_of(place.url), authority.good()) as front:
            yield place, front.port, str(authority.file)


@pytest.fixture
def server_of(request: pytest.FixtureRequest) -> Callable[[Database], Place]:
    def of(database: Database) -> Place:
        name = "mariadb" if database is Database.MYSQL else "postgresql"
        found, url = request.getfixturevalue(name), request.getfixturevalue(f"{name}_url")
        return Place(database, url, lambda sql: found.query(sql, url=url)).make()

    return of


def test_tls_to_the_database_with_certificate_and_name_checked(
    loop: str, tls_server: tuple[Place, int, str], authority: Authority, tmp_path: Any
):
    place, port, trusted = tls_server
    stranger = str(Authority(tmp_path).file)

    async def test() -> None:
        full = with_port(place.insert(), port, tls_cases(place.database, "verify-full"))
        async with destination(full, tls_ca_file=trusted) as to:
            assert the_failure(await deliver(to, batch(1))) is None
        async with destination(full, tls_ca_file=stranger) as to:
            outcomes = await deliver(to, batch(2))
            assert the_failure(outcomes) is Failure.TLS and "certificate" in outcomes[2].text, outcomes
        wrong_name = dataclasses.replace(full, dsn=full.dsn.replace("127.0.0.1", "db.example.com"))
        async with destination(wrong_name, tls_ca_file=trusted) as to:
            outcomes = await deliver(to, batch(2))
            assert the_failure(outcomes) is Failure.TLS and "db.example.com" in outcomes[2].text, outcomes
        right_name = dataclasses.replace(full, dsn=full.dsn.replace("127.0.0.1", "localhost"))
        async with destination(right_name, tls_ca_file=trusted) as to:
            assert the_failure(await deliver(to, batch(3))) is None
        for mode in ("prefer", "require"):
            async with destination(with_port(place.insert(), port, tls_cases(place.database, mode))) as to:
                assert the_failure(await deliver(to, batch(4))) is None
        async with destination(full, tls_ca_file=str(tmp_path / "none.pem")) as to:
            assert the_failure(await deliver(to, batch(5))) is Failure.TLS

    run(loop, test)
    assert place.ids() == [1, 3, 4]


def test_a_server_without_tls_gets_plain_text_only_if_that_is_allowed(postgresql: PostgreSQL, postgresql_url: str):
    postgresql.query(TABLE[Database.POSTGRESQL], url=postgresql_url)
    with MariaDB({"skip-ssl": "ON"}) as without:
        url = without.database()
        without.query(TABLE[Database.MYSQL], url=url)
        specs = [
            SqlStatement(Database.POSTGRESQL, postgresql_url, INSERT, BIND),
            SqlStatement(Database.MYSQL, url, INSERT, BIND),
        ]

        async def test() -> None:
            for spec in specs:
                for mode, failure in (("require", Failure.TLS), ("verify-full", Failure.TLS), ("prefer", None)):
                    dsn = spec.dsn + tls_cases(spec.database, mode)
                    async with destination(dataclasses.replace(spec, dsn=dsn), limits=Limits()) as to:
                        outcomes = await deliver(to, batch(1))
                        assert the_failure(outcomes) is failure, (spec.database, mode, outcomes)

        run("uvloop", test)


# Which error is what.


@pytest.mark.parametrize(
    ("state", "failure"),
    [
        ("22001", Failure.EVENT),
        ("22P02", Failure.EVENT),
        ("23505", Failure.EVENT),
        ("54000", Failure.EVENT),
        ("P0001", Failure.EVENT),
        ("42P01", Failure.REFUSED),
        ("42501", Failure.REFUSED),
        ("28P01", Failure.REFUSED),
        ("3D000", Failure.REFUSED),
        ("40001", Failure.BUSY),
        ("40P01", Failure.BUSY),
        ("53300", Failure.BUSY),
        ("57P03", Failure.BUSY),
        ("53100", Failure.SERVER),
        ("25006", Failure.SERVER),
        ("XX000", Failure.SERVER),
        ("57014", Failure.TIMEOUT),
        ("57P01", Failure.RESET),
        ("08006", Failure.RESET),
    ],
)
def test_d22_postgresqls_errors_have_their_class(state: str, failure: Failure):
    assert judge_postgresql(state) is failure


@pytest.mark.parametrize(
    ("number", "state", "failure"),
    [
        (1406, "22001", Failure.EVENT),
        (1062, "23000", Failure.EVENT),
        (1366, "HY000", Failure.EVENT),
        (1265, "01000", Failure.EVENT),
        (4025, "23000", Failure.EVENT),
        (1644, "45000", Failure.EVENT),
        (1118, "42000", Failure.EVENT),
        (1146, "42S02", Failure.REFUSED),
        (1064, "42000", Failure.REFUSED),
        (1054, "42S22", Failure.REFUSED),
        (1045, "28000", Failure.REFUSED),
        (1364, "HY000", Failure.REFUSED),
        (1040, "08004", Failure.BUSY),
        (1213, "40001", Failure.BUSY),
        (1205, "HY000", Failure.BUSY),
        (1114, "HY000", Failure.SERVER),
        (1021, "HY000", Failure.SERVER),
        (1290, "HY000", Failure.SERVER),
        (2013, "", Failure.RESET),
        (1053, "08S01", Failure.RESET),
        (1969, "70100", Failure.TIMEOUT),
        (9999, "", Failure.SERVER),
    ],
)
def test_d22_mysqls_errors_have_their_class(number: int, state: str, failure: Failure):
    assert judge_mysql(number, state) is failure
