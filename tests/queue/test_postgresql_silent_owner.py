"""An owner that stops in the middle of what it says to the server, which waits for the rest and is not idle."""

import asyncio
import contextlib

import psycopg

from mailvane.queue.postgresql import open_postgresql, stand_by_postgresql

PATIENCE = 60.0


def test_d14_a_stand_by_takes_over_from_an_owner_that_stopped_in_the_middle_of_a_statement(postgresql_url: str) -> None:
    """As a process that is paused between preparing its first settlement and sending it."""

    async def main() -> None:
        recorder = await open_postgresql(postgresql_url, "a recorder")
        with contextlib.closing(psycopg.connect(postgresql_url, autocommit=True)) as silent:
            owns = silent.execute("SELECT pg_try_advisory_lock('queue'::regclass::oid::int, 2)").fetchone()
            assert owns == (True,)
            silent.pgconn.enter_pipeline_mode()
            silent.pgconn.send_prepare(b"settle", b"SELECT 1")
            silent.pgconn.send_flush_request()
            silent.pgconn.flush()
            async with asyncio.timeout(PATIENCE):
                queue = await stand_by_postgresql(postgresql_url, "a stand-by")
            await queue.close()
        await recorder.close()

    asyncio.run(main())
