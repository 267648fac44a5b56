import asyncio
import os
import select
import ssl
import subprocess

import asyncpg
import psycopg
import pytest

from support.certificates import Authority
from support.postgresql import PASSWORD, USER, PostgreSQL, database_of, program
from support.postgresql_tls import TlsFront


def test_databases_are_empty_and_belong_to_a_role_that_is_no_superuser(postgresql: PostgreSQL) -> None:
    first, second = postgresql.database(), postgresql.database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE here (n int)")
        assert connection.execute("SHOW is_superuser").fetchall() == [("off",)]
    assert postgresql.query("SELECT count(*) FROM pg_class WHERE relname = 'here'", url=first) == [(1,)]
    assert postgresql.query("SELECT count(*) FROM pg_class WHERE relname = 'here'", url=second) == [(0,)]
    postgresql.drop(first)
    postgresql.drop(second)


def test_a_wrong_password_is_refused(postgresql: PostgreSQL, postgresql_url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgresql.url_of(database_of(postgresql_url), password="wrong"))


def test_psql_reads_it(postgresql_url: str) -> None:
    result = subprocess.run(
        [program("psql"), "-XAt", postgresql_url, "-c", "SELECT 6 * 7"], capture_output=True, text=True, check=False
    )
    assert result.stdout == "42\n", result.stderr


def test_what_is_committed_stays_when_it_is_killed() -> None:
    with PostgreSQL() as server:
        url = server.database()
        server.query("CREATE TABLE kept (n int)", url=url)
        for n, end in enumerate((server.kill, lambda: server.stop(immediate=True), server.stop)):
            busy = psycopg.connect(url)
            busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000000)")
            with psycopg.connect(url) as committed, psycopg.connect(url) as left_open:
                session = os.pidfd_open(busy.info.backend_pid)
                left_open.execute("INSERT INTO kept VALUES (100)")
                committed.execute("INSERT INTO kept VALUES (%s)", (n,))
                committed.commit()
                end()
                ended, _, _ = select.select([session], [], [], 0)
                os.close(session)
                assert ended
                busy.close()
                with pytest.raises(psycopg.OperationalError):
                    left_open.execute("COMMIT")
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            server.start()
        assert server.query("SELECT n FROM kept ORDER BY n", url=url) == [(0,), (1,), (2,)]


def test_a_standby_has_what_was_there_and_takes_over_when_promoted() -> None:
    with PostgreSQL() as first:
        url = first.database()
        first.query("CREATE TABLE kept AS SELECT 1 AS n", url=url)
        with first.standby() as second:
            assert second.query("SELECT n FROM kept", url=url) == [(1,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                second.query("INSERT INTO kept VALUES (2)", url=url)
            first.kill()
            second.promote()
            second.query("INSERT INTO kept VALUES (2)", url=url)
            assert second.query("SELECT n FROM kept ORDER BY n", url=url) == [(1,), (2,)]


def test_settings_hold() -> None:
    with PostgreSQL({"fsync": "on", "default_transaction_isolation": "serializable"}) as server:
        assert server.query("SHOW fsync") == [("on",)]
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW transaction_isolation").fetchall() == [("serializable",)]


def test_tls_in_front_of_it_is_there_for_those_who_know_its_authority(
    postgresql: PostgreSQL, postgresql_url: str, authority: Authority
) -> None:
    async def answer(port: int, context: ssl.SSLContext) -> object:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user=USER, password=PASSWORD, database=database_of(postgresql_url), ssl=context
        )
        try:
            return await connection.fetchval("SELECT repeat('x', 1000000)")
        finally:
            await connection.close()

    trusting = ssl.create_default_context(cafile=str(authority.file))
    with TlsFront(postgresql.port, authority.good()) as front:
        assert asyncio.run(answer(front.port, trusting)) == "x" * 1_000_000
        assert front.encrypted == 1
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(answer(front.port, ssl.create_default_context()))
    with TlsFront(postgresql.port, authority.good(), offered=False) as front:
        with pytest.raises(ConnectionError, match="SSL"):
            asyncio.run(answer(front.port, trusting))
