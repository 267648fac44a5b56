"""A session of ours at a PostgreSQL server: opened, set up, and looked at for what would break the queue's promises.

A server or a network that died shows within five seconds, on either side, by keepalives and by what may stay
unacknowledged (TCP_USER_TIMEOUT).
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from mailvane.errors import QueueUnavailable
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.errors import Disconnected, away, read_only, shared_sessions, told
from mailvane.queue.statements import statements

CONNECT_SECONDS = 10
LOOK_SECONDS = 2.0
"""How long a second session may take to show whether sessions are shared."""
NAME_LENGTH = 63

SQL = statements("postgresql.sql")


class Record(Protocol):
    """A row of an answer."""

    def __getitem__(self, key: int) -> Any: ...


class Connection(Protocol):
    """What we use of a driver's connection."""

    async def fetch(self, query: str, *values: object) -> Sequence[Record]: ...
    async def fetchrow(self, query: str, *values: object) -> Record | None: ...
    async def fetchval(self, query: str, *values: object) -> Any: ...
    async def execute(self, query: str, *values: object) -> str: ...
    async def add_listener(self, channel: str, callback: Callable[[object, int, str, str], None]) -> None: ...
    def add_termination_listener(self, callback: Callable[[object], None]) -> None: ...
    def transaction(self) -> contextlib.AbstractAsyncContextManager[object]: ...
    def is_closed(self) -> bool: ...
    def get_server_pid(self) -> int: ...
    def get_server_version(self) -> tuple[int, ...]: ...
    def terminate(self) -> None: ...
    async def close(self, *, timeout: float | None = None) -> None: ...


def named(command: str) -> str:
    """How a session calls itself in pg_stat_activity: for whom it is, where."""
    return f"{command} on {socket.gethostname()} (process {os.getpid()})"[:NAME_LENGTH]


async def connect(
    address: Address,
    command: str,
    lock_timeout: float = 10.0,
    writes: bool = True,
    seconds: int = CONNECT_SECONDS,
) -> Connection:
    """A session that is ready to be used. Raises QueueUnavailable, with `writes` also for a server that takes none.

    A server that is long in answering is waited for, so many seconds.
    """
    with told(address.shown):
        try:
            connection = await _open(address, command, seconds)
        except (OSError, TimeoutError) as e:
            raise away(address.shown, e) from e
    try:
        with told(address.shown):
            row = await connection.fetchrow(SQL["begin_session"], address.schema, f"{int(lock_timeout * 1000)}ms")
            assert row is not None
            pid, encoding, is_read_only = row[0], row[1], row[2]
            if encoding != "UTF8":
                raise QueueUnavailable(
                    f"{address.shown}: the database's encoding is {encoding}, wanted is UTF8: events have letters that"
                    " others lack. CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
                )
            if writes and is_read_only:
                raise read_only(address.shown)
            if pid != connection.get_server_pid():
                await _refuse_shared_sessions(connection, address, pid)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _open(address: Address, command: str, seconds: int = CONNECT_SECONDS) -> Connection:
    connection = cast(
        Connection,
        await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType]
            address.url,
            timeout=seconds,
            server_settings={"application_name": named(command)},
            target_session_attrs="read-write"
            if address.several_hosts and "target_session" not in address.url
            else None,
        ),
    )
    _notice_death(connection)
    return connection


async def _refuse_shared_sessions(connection: Connection, address: Address, pid: int) -> None:
    """What answers has another process than it said: a proxy. A session that was set aside must stay ours meanwhile."""
    other = await _open(address, "mailvane looks at a proxy")
    try:
        await connection.fetchval("SELECT set_config('mailvane.session', $1, false)", str(pid))
        async with asyncio.timeout(LOOK_SECONDS):
            async with other.transaction():
                await other.fetchval("SELECT 1")
                row = await connection.fetchrow("SELECT pg_backend_pid(), current_setting('mailvane.session', true)")
        ours = row is not None and (row[0], row[1]) == (pid, str(pid))
    except TimeoutError:
        ours = False
    finally:
        other.terminate()
    if not ours:
        raise shared_sessions(address.shown)


def _notice_death(connection: Connection) -> None:
    transport: Any = getattr(connection, "_transport", None)  # the driver has no other way to its socket
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    # A copy of the descriptor: loops hand out sockets that cannot be set.
    with contextlib.suppress(OSError), socket.socket(sock.family, sock.type, fileno=os.dup(sock.fileno())) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2), ("TCP_USER_TIMEOUT", 4_000),
        ):  # fmt: skip
            if (number := getattr(socket, option, None)) is not None:  # not every system has all of them
                copy.setsockopt(socket.IPPROTO_TCP, number, value)


async def who_is_in_the_way(connection: Connection) -> str:
    """Sessions that keep others from the queue, for a message; "" if none is seen."""
    with contextlib.suppress(Disconnected, QueueUnavailable), told(""):
        found = await connection.fetch(SQL["in_the_way"])
        return ", ".join(f"{row[1] or row[2] or 'a session'} (backend {row[0]})" for row in found)
    return ""
