"""What answers on a database's port but speaks something else: said so, within bounds, with no traceback."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from destinations.adversary import run
from destinations.databases import batch, deliver, destination
from mailvane.destinations.contract import Database, Failure, SqlStatement
from mailvane.destinations.dial import Limits

GREETINGS = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "smtp": b"220 mail.example.com ESMTP Postfix\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
}
NAMES = {Database.MYSQL: "MySQL", Database.POSTGRESQL: "PostgreSQL", Database.MSSQL: "SQL Server"}
ENDLESS = {"endless zeros": bytes(65_536), "endless words": b"busy " * 10_000}


@contextlib.asynccontextmanager
async def stranger(greeting: bytes, endless: bool) -> AsyncIterator[int]:
    """Says its words and waits for the other side to leave, or says them for ever."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            writer.write(greeting)
            while endless and not writer.is_closing():
                await writer.drain()
                writer.write(greeting)
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()


MODES = [
    *(
        (database, mode)
        for database in (Database.MYSQL, Database.POSTGRESQL)
        for mode in ("disable", "prefer", "verify-full")
    ),
    (Database.MSSQL, "disable"),  # its driver's TLS needs a package more
]


@pytest.mark.parametrize("greeting", [*GREETINGS, *ENDLESS])
@pytest.mark.parametrize(("database", "mode"), MODES)
def test_a_stranger_on_the_port_is_told_apart(
    database: Database, mode: str, greeting: str, caplog: pytest.LogCaptureFixture
):
    name = {Database.MYSQL: "ssl-mode", Database.POSTGRESQL: "sslmode", Database.MSSQL: "tls"}[database]

    async def test() -> None:
        said = GREETINGS.get(greeting) or ENDLESS[greeting]
        async with stranger(said, greeting in ENDLESS) as port:
            spec = SqlStatement(database, f"{database}://u:p@127.0.0.1:{port}/d?{name}={mode}", "DELETE FROM t")
            async with destination(spec, limits=Limits(connect=2, attempt=5)) as to:
                outcomes = await deliver(to, batch(1, 2))
        assert {outcome.failure for outcome in outcomes.values()} == {Failure.PROTOCOL}, outcomes
        assert f"what answers there does not speak {NAMES[database]}" in outcomes[1].text
        assert outcomes[1].seconds < 1

    with caplog.at_level(logging.ERROR):
        run("uvloop", test)
    assert not caplog.records
