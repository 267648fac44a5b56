"""MySQL and MariaDB, by asyncmy: prepared statements alone, so that the server binds the values.

An INSERT of one row is made one of many rows; every other statement is run row by row. A batch is one transaction: by
itself (autocommit) where it is a single statement, which saves the way to and fro of a BEGIN and of a COMMIT.
"""

import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

import asyncmy
from asyncmy import errors

from mailvane.destinations.contract import Failure
from mailvane.destinations.dsn import Dsn, Tls
from mailvane.destinations.placeholders import Statement, row_shape
from mailvane.destinations.sql_driver import Place, Problem, as_problems, stranger
from mailvane.destinations.sql_values import Kind, Values

PLACEHOLDERS_MOST = 65_535
ROWS_MOST = 500
"""Rows of one INSERT: a full batch."""

_NUMBERS = {
    # This event alone.
    **dict.fromkeys(
        (
            *(1048, 1062, 1118, 1153, 1169, 1216, 1217, 1264, 1265, 1292, 1366, 1406, 1411, 1416, 1441, 1451, 1452),
            *(1557, 1586, 1644, 1690, 3140, 3156, 3157, 3819, 4025, 4161),
        ),
        Failure.EVENT,
    ),
    # The login, or the statement.
    **dict.fromkeys(
        (1044, 1045, 1049, 1129, 1130, 1136, 1142, 1143, 1146, 1227, 1251, 1364, 1370, 1698), Failure.REFUSED
    ),
    **dict.fromkeys((1040, 1203, 1205, 1206, 1213, 1226), Failure.BUSY),
    **dict.fromkeys((1290, 1792, 1836, 1021, 1030, 1114), Failure.SERVER),
    **dict.fromkeys((1053, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055), Failure.RESET),
    **dict.fromkeys((1317, 1969, 3024), Failure.TIMEOUT),
    **dict.fromkeys((2002, 2003, 2005), Failure.CONNECT),
    2026: Failure.TLS,
    2027: Failure.PROTOCOL,
}
"""Numbers of the servers' and clients' errors (MySQL 8.4 and MariaDB 11 references) whose SQLSTATE says too little."""
_CLASSES = {
    "08": Failure.RESET,
    "22": Failure.EVENT,
    "23": Failure.EVENT,
    "28": Failure.REFUSED,
    "3D": Failure.REFUSED,
    "40": Failure.BUSY,
    "42": Failure.REFUSED,
    "44": Failure.EVENT,
    "45": Failure.EVENT,
    "70": Failure.TIMEOUT,
}


def judge(number: int, state: str) -> Failure:
    """The class of a failure, by its number and SQLSTATE."""
    return _NUMBERS.get(number) or _CLASSES.get(state[:2], Failure.SERVER)


def problem_of(error: BaseException) -> Problem | None:
    """What an error of asyncmy's means; None if it is none."""
    if not isinstance(error, errors.MySQLError):
        return None
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    words = str(error.args[1] if len(error.args) > 1 else error)
    if isinstance(error, errors.InterfaceError) and not number:
        return Problem(Failure.RESET, words)
    state: object = getattr(error, "sqlstate", None)
    return Problem(judge(number, str(state or "")), f"{words} ({number})" if number else words)


class _Prepared(Protocol):
    """A statement at the server."""

    async def execute(self, args: Sequence[object] = ()) -> object: ...


class _Connection(Protocol):
    """What is used of asyncmy's connection."""

    connected: bool

    async def prepare(self, query: str) -> _Prepared: ...
    async def begin(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    def get_transaction_status(self) -> bool: ...
    async def ensure_closed(self) -> None: ...
    def close(self) -> None: ...


_open = cast(Callable[..., Awaitable[_Connection]], asyncmy.connect)  # pyright: ignore[reportUnknownMemberType]


class MysqlSession:
    """See Session."""

    def __init__(self, connection: _Connection, statement: Statement) -> None:
        self._connection = connection
        self._single = statement.marked()
        self._shape = row_shape(statement)
        self._most = min(ROWS_MOST, PLACEHOLDERS_MOST // max(1, statement.placeholders)) if self._shape else 1
        self._prepared: dict[int, _Prepared] = {}

    @property
    def alive(self) -> bool:
        """See Session."""
        broken = cast(bool, getattr(self._connection, "_stream_broken", False))
        return self._connection.connected and not broken

    async def run(self, rows: Sequence[Values]) -> None:
        """See Session."""
        sizes = self._sizes(len(rows))
        with as_problems(problem_of):
            if self._shape is not None and len(sizes) == 1:  # a CALL is many statements
                await self._execute(rows, sizes)
                if self._connection.get_transaction_status():  # a server, or a proxy, without autocommit
                    await self._connection.commit()
                return
            await self._connection.begin()
            try:
                await self._execute(rows, sizes)
            except errors.MySQLError:
                if self.alive:
                    await self._connection.rollback()
                raise
            await self._connection.commit()

    def _sizes(self, left: int) -> list[int]:
        """How many rows each statement has: a full batch is one, others are put together from powers of two, so that
        few are prepared."""
        sizes: list[int] = []
        while left:
            sizes.append(self._most if left >= self._most else 1 << (left.bit_length() - 1))
            left -= sizes[-1]
        return sizes

    async def _execute(self, rows: Sequence[Values], sizes: Sequence[int]) -> None:
        at = 0
        for some in sizes:
            prepared = self._prepared.get(some)
            if prepared is None:
                text = self._shape.of(some) if self._shape is not None else self._single
                prepared = self._prepared[some] = await self._connection.prepare(text)
            await prepared.execute([value for row in rows[at : at + some] for value in row])
            at += some

    def abort(self) -> None:
        """See Session."""
        self._connection.close()

    async def close(self) -> None:
        """See Session."""
        try:
            await self._connection.ensure_closed()
        except (errors.MySQLError, OSError):
            self._connection.close()


async def open_mysql(place: Place, statement: Statement, kinds: Sequence[Kind]) -> MysqlSession:
    """See Open."""
    try:
        connection = await _connect(place.dsn, place.address, place.tls)
    except ssl.SSLError:  # a server without TLS answers the handshake with words of its own
        if place.dsn.tls is not Tls.PREFER:
            raise
        connection = await _connect(place.dsn, place.address, None)
    return MysqlSession(connection, statement)


async def _connect(dsn: Dsn, address: str, context: ssl.SSLContext | None) -> _Connection:
    try:
        return await _open(
            host=address or None,
            port=dsn.port,
            unix_socket=dsn.socket or None,
            user=dsn.user or None,
            password=dsn.password.encode(),
            database=dsn.name,
            charset="utf8mb4",
            ssl=context,
            autocommit=True,
            connect_timeout=3600,  # the deadline is the caller's
            program_name="mailvane",
        )
    except errors.MySQLError as error:
        if isinstance(cause := error.__cause__, OSError):
            raise cause from None
        if str(error.args[0] if error.args else "").startswith("Packet sequence number wrong"):
            raise stranger("MySQL", "its first packet is none") from None
        problem = problem_of(error)
        raise problem or error from None
    except (LookupError, ValueError, struct.error):  # asyncmy reads the greeting as if it were whole
        raise stranger("MySQL", "its greeting cannot be read") from None
