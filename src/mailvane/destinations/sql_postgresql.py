"""PostgreSQL, by asyncpg: a batch is one pipeline of Bind and Execute, with one Sync at its end that commits it.

An INSERT of one row is made one of many, which takes the server a third less time.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from mailvane.destinations.contract import Database, Failure
from mailvane.destinations.dsn import Tls
from mailvane.destinations.placeholders import Statement, parse_statement, row_shape
from mailvane.destinations.sql_driver import Place, Problem, as_problems, stranger
from mailvane.destinations.sql_values import Kind, Value, Values

ROWS = 50
"""Rows of one INSERT, where it can have several: from here on more of them make it no quicker."""
PLACEHOLDERS_MOST = 32_767

_TEXTS = frozenset({"text", "varchar", "bpchar", "name", "json", "jsonb", "xml", "unknown"})
_NATIVE: dict[Kind, frozenset[str]] = {
    "text": _TEXTS,
    "integer": frozenset({"int8", "int4", "int2", "float8", "float4"}),
    "number": frozenset({"float8", "float4"}),
}
"""Types that asyncpg writes as they are. All others go as text: the server reads them as people write them in psql."""

_CLASSES = {
    "08": Failure.RESET,
    "22": Failure.EVENT,
    "23": Failure.EVENT,
    "28": Failure.REFUSED,
    "2F": Failure.REFUSED,
    "3D": Failure.REFUSED,
    "3F": Failure.REFUSED,
    "40": Failure.BUSY,
    "42": Failure.REFUSED,
    "0A": Failure.REFUSED,
    "21": Failure.REFUSED,
    "44": Failure.EVENT,
    "P0": Failure.EVENT,
}
_STATES = {
    "23001": Failure.EVENT,
    "40002": Failure.EVENT,  # a deferred constraint
    "53300": Failure.BUSY,  # too many connections
    "54000": Failure.EVENT,  # too long for its index
    "55P03": Failure.BUSY,  # lock_timeout
    "57014": Failure.TIMEOUT,  # statement_timeout
    "57P01": Failure.RESET,
    "57P02": Failure.RESET,
    "57P03": Failure.BUSY,  # starting up, or shutting down
    "57P05": Failure.RESET,
}
"""SQLSTATE (PostgreSQL's appendix A): single ones, then classes; all else is the server's."""


def judge(state: str) -> Failure:
    """The class of a failure, by its SQLSTATE."""
    return _STATES.get(state) or _CLASSES.get(state[:2], Failure.SERVER)


def problem_of(error: BaseException) -> Problem | None:
    """What an error of asyncpg's means; None if it is none."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", None) or "")
        detail = str(getattr(error, "detail", None) or "")
        return Problem(judge(state), f"{error.args[0] if error.args else error}{f' ({detail})' if detail else ''}")
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg's own DataError: a value that cannot be written as the parameter's type.
        failure = Failure.EVENT if isinstance(error, ValueError) else Failure.RESET
        return Problem(failure, str(error))
    if isinstance(error, asyncpg.InternalClientError):
        return Problem(Failure.RESET, f"the connection is in a state that was not expected: {error}")
    return None


class _Type(Protocol):
    """The type of a parameter."""

    name: str
    schema: str
    kind: str


class _Prepared(Protocol):
    """A statement at the server."""

    def get_parameters(self) -> Sequence[_Type]: ...
    async def executemany(self, args: Sequence[Sequence[Value]]) -> None: ...


class _Connection(Protocol):
    """What is used of asyncpg's connection, which has no types of its own."""

    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    async def prepare(self, query: str) -> _Prepared: ...
    def transaction(self) -> AbstractAsyncContextManager[None]: ...
    async def set_type_codec(
        self, typename: str, *, schema: str, encoder: type[str], decoder: type[str], format: str
    ) -> None: ...


_connect = cast(Callable[..., Awaitable[_Connection]], asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]


class PostgresqlSession:
    """See Session."""

    def __init__(self, connection: _Connection, statement: Statement, kinds: Sequence[Kind]) -> None:
        self._connection = connection
        self._statement = statement
        self._kinds = kinds
        self._prepared: _Prepared | None = None
        self._many: _Prepared | None = None
        self._written: Sequence[int] = ()

    @property
    def alive(self) -> bool:
        """See Session."""
        return not self._connection.is_closed()

    async def run(self, rows: Sequence[Values]) -> None:
        """See Session."""
        with as_problems(problem_of):
            if self._prepared is None:
                self._prepared = await self._prepare()
            await self._run(self._prepared, [self._as_text(row) for row in rows] if self._written else rows)

    async def _run(self, prepared: _Prepared, rows: Sequence[Sequence[Value]]) -> None:
        many = len(rows) - len(rows) % ROWS if self._many is not None else 0
        if self._many is None or not many:
            await prepared.executemany(rows)  # a transaction by itself
            return
        some = [[value for row in rows[at : at + ROWS] for value in row] for at in range(0, many, ROWS)]
        if many == len(rows):
            await self._many.executemany(some)
            return
        async with self._connection.transaction():
            await self._many.executemany(some)
            await prepared.executemany(rows[many:])

    async def _prepare(self) -> _Prepared:
        text = self._statement.numbered()
        prepared = await self._connection.prepare(text)
        types = prepared.get_parameters()
        if len(types) != len(self._kinds):
            raise Problem(Failure.REFUSED, f"the server counts {len(types)} placeholders, bind_list {len(self._kinds)}")
        foreign = {
            (t.schema, t.name): t for t, kind in zip(types, self._kinds, strict=True) if t.name not in _NATIVE[kind]
        }
        for at, known in enumerate(types, 1):
            if known.kind != "scalar":
                raise Problem(Failure.REFUSED, f"placeholder {at} is of type {known.name}, which no field has")
        for schema, name in foreign:
            await self._connection.set_type_codec(name, schema=schema, encoder=str, decoder=str, format="text")
        # A value of a type that now goes as text, or that is text itself, must be a string.
        self._written = [
            n
            for n, (t, kind) in enumerate(zip(types, self._kinds, strict=True))
            if kind != "text" and (t.name in _TEXTS or (t.schema, t.name) in foreign)
        ]
        shape = row_shape(self._statement)
        if shape is not None and len(types) * ROWS <= PLACEHOLDERS_MOST:
            many = parse_statement(shape.of(ROWS), Database.POSTGRESQL).numbered()
            self._many = await self._connection.prepare(many)
            if list(self._many.get_parameters()) != [*types] * ROWS:
                self._many = None
        return await self._connection.prepare(text) if foreign else prepared

    def _as_text(self, row: Values) -> list[Value]:
        values = list(row)
        for n in self._written:
            if (value := values[n]) is not None:
                values[n] = str(value)
        return values

    def abort(self) -> None:
        """See Session."""
        self._connection.terminate()

    async def close(self) -> None:
        """See Session."""
        try:
            await self._connection.close(timeout=1.0)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._connection.terminate()


ASK_FOR_GSS = struct.pack(">II", 8, 80877104)
"""GSSENCRequest (PostgreSQL's manual, message formats): answered by one byte, by servers and proxies alike, and the
one question after which a client may leave without a line in the server's log."""


async def _ask(address: str, port: int) -> None:
    """Refuses what is no PostgreSQL, by its first byte, on a connection of its own.

    asyncpg does not look: of words it waits for the rest until the deadline, and zeros keep it, and with it the whole
    event loop, busy for ever. Raises Problem, OSError.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, (address, port))
        await loop.sock_sendall(asking, ASK_FOR_GSS)
        first = await loop.sock_recv(asking, 1)
    if first and first not in b"NGE":  # no, yes, or an error: before version 12
        raise stranger("PostgreSQL", f"its first byte is {first[0]}")


async def open_postgresql(place: Place, statement: Statement, kinds: Sequence[Kind]) -> PostgresqlSession:
    """See Open."""
    dsn = place.dsn
    if place.address:
        await _ask(place.address, dsn.port)
    try:
        connection = await _connect(
            host=dsn.socket or place.address,
            port=dsn.port,
            user=dsn.user or None,
            password=dsn.password,
            database=dsn.name,
            # Its own "prefer" asks the server, and takes plain text if that has no TLS; a context of ours insists.
            ssl="prefer" if dsn.tls is Tls.PREFER else place.tls or "disable",
            target_session_attrs="any",
            server_settings={"application_name": "mailvane"},
            timeout=3600,  # the deadline is the caller's
        )
    except Exception as error:
        if (problem := problem_of(error)) is not None:
            raise problem from None
        raise
    return PostgresqlSession(connection, statement, kinds)
