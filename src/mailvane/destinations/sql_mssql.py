"""SQL Server, by python-tds (the extra `mssql`), in a thread of its own: row by row through sp_executesql, in one
transaction.

Its errors are classed after Microsoft's list of them; no server was at hand to try this against.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import pytds  # pyright: ignore[reportMissingTypeStubs]
from pytds import tds_base  # pyright: ignore[reportMissingTypeStubs]

from mailvane.destinations import tls
from mailvane.destinations.contract import Failure
from mailvane.destinations.dsn import Tls
from mailvane.destinations.placeholders import Statement
from mailvane.destinations.sql_driver import Place, Problem, stranger
from mailvane.destinations.sql_mssql_tls import Trust, stand_in
from mailvane.destinations.sql_values import Kind, Values

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")

_NUMBERS = {
    # A wrong type, too long, too large, a duplicate, a constraint; what a trigger or a procedure threw.
    **dict.fromkeys((220, 232, 241, 242, 245, 248, 515, 547, 2601, 2627, 2628, 8114, 8115, 8152), Failure.EVENT),
    **dict.fromkeys((102, 156, 207, 208, 213, 229, 230, 262, 911, 916, 4060, 18452, 18456), Failure.REFUSED),
    **dict.fromkeys((18486, 18487, 18488, 2812, 8144, 201), Failure.REFUSED),
    **dict.fromkeys((701, 1205, 1222, 3960, 10928, 10929, 17809, 40197, 40501, 40613, 49918), Failure.BUSY),
    -2: Failure.TIMEOUT,
}
ANSWER = 4
"""The type of each packet that a server sends (MS-TDS 2.2.3.1.1)."""
THROWN = 50_000
"""From this number on messages are those of THROW and RAISERROR."""


def judge(number: int) -> Failure:
    """The class of a failure, by the number of the server's message."""
    return _NUMBERS.get(number) or (Failure.EVENT if number >= THROWN else Failure.SERVER)


def problem_of(error: BaseException) -> Problem | None:
    """What an error of python-tds's means; None if it is none."""
    if isinstance(error, tds_base.DatabaseError):
        number = error.msg_no or error.number
        if not number and isinstance(error, tds_base.LoginError):
            return Problem(Failure.REFUSED, error.text)
        return Problem(judge(number), f"{error.text} ({number})")
    if isinstance(error, tds_base.DataError):
        return Problem(Failure.EVENT, str(error))
    if isinstance(error, tds_base.ClosedConnectionError):
        return Problem(Failure.RESET, "the server closed the connection")
    if isinstance(error, tds_base.Error):
        return Problem(Failure.PROTOCOL, str(error))
    if isinstance(error, TimeoutError):
        return Problem(Failure.TIMEOUT, "the server did not answer in time")
    if isinstance(error, ssl.SSLError):
        return Problem(Failure.TLS, tls.reason(error))
    if isinstance(error, OSError):
        return Problem(Failure.RESET, f"the connection was lost: {error.strerror or error}")
    return None


class _Cursor(Protocol):
    """What is used of python-tds's cursor."""

    def execute(self, operation: str, params: Values) -> object: ...


class _Connection(Protocol):
    """What is used of python-tds's connection."""

    def cursor(self) -> _Cursor: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


_connect = cast(Callable[..., _Connection], pytds.connect)  # pyright: ignore[reportUnknownMemberType]
stand_in()


class _Socket(socket.socket):
    """Ends a login with what is no SQL Server, by the first byte that it says, and one that the server sends on to
    another server (ENVCHANGE of type 20, MS-TDS 2.2.7.9).

    python-tds would follow by itself, past the rules for addresses. It closes the socket first, while no error is being
    handled: that is where it is stopped.
    """

    logging_in = True
    heard = False

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> int:
        count = super().recv_into(buffer, nbytes, flags)
        if count and not self.heard:
            self.heard = True
            if (first := memoryview(buffer)[0]) != ANSWER:
                raise stranger("SQL Server", f"its first byte is {first}")
        return count

    def close(self) -> None:
        if self.logging_in and sys.exc_info()[0] is None:
            raise Problem(
                Failure.REDIRECT,
                "the server sends us on to another one (routing), which is not followed: it would lead past the rules"
                " for addresses; name that server in db_dsn",
            )
        super().close()


class MssqlSession:
    """See Session."""

    def __init__(self, place: Place, statement: Statement) -> None:
        self._place = place
        self._statement = statement.formatted() if statement.placeholders else statement.marked()
        self._socket: _Socket | None = None
        self._connection: _Connection | None = None
        self._broken = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="SQL destination")

    async def open(self) -> None:
        """Connects and logs in. Raises Problem, OSError."""
        dsn, loop = self._place.dsn, asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._place.address else socket.AF_INET
        self._socket = _Socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        await loop.sock_connect(self._socket, (self._place.address, dsn.port))
        self._socket.setblocking(True)
        await self._do(self._login)

    def _login(self) -> None:
        dsn = self._place.dsn
        self._connection = _connect(
            dsn=dsn.host,
            port=dsn.port,
            database=dsn.name,
            user=dsn.user,
            password=dsn.password,
            sock=self._socket,
            appname="mailvane",
            cafile=Trust.of(self._place.tls) if self._place.tls is not None else None,
            validate_host=False,  # the context does that
            enc_login_only=dsn.tls is Tls.PREFER,
            disable_connect_retry=True,
            login_timeout=10,
            timeout=30,
        )
        if self._socket is not None:
            self._socket.logging_in = False

    @property
    def alive(self) -> bool:
        """See Session."""
        return self._connection is not None and not self._broken

    async def run(self, rows: Sequence[Values]) -> None:
        """See Session."""
        await self._do(lambda: self._run(rows))

    def _run(self, rows: Sequence[Values]) -> None:
        connection = self._connection
        if connection is None:
            raise Problem(Failure.RESET, "the connection was closed")
        cursor = connection.cursor()
        try:
            for row in rows:
                cursor.execute(self._statement, row)
        except tds_base.DatabaseError:
            connection.rollback()
            raise
        connection.commit()

    async def _do(self, what: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, what)
        except (tds_base.Error, OSError) as error:
            problem = problem_of(error) or Problem(Failure.PROTOCOL, str(error))
            self._broken = problem.failure is not Failure.EVENT
            raise problem from None

    def abort(self) -> None:
        """See Session."""
        self._connection = None
        if self._socket is not None:
            # The thread that waits for an answer gets an end.
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._socket.logging_in = False
            self._socket.close()
        self._thread.shutdown(wait=False)

    async def close(self) -> None:
        """See Session."""
        if self._connection is not None:
            await self._do(self._connection.close)
        self.abort()


async def open_mssql(place: Place, statement: Statement, kinds: Sequence[Kind]) -> MssqlSession:
    """See Open."""
    if not place.address:
        raise Problem(Failure.REFUSED, "SQL Server is reached by TCP alone: name a host")
    session = MssqlSession(place, statement)
    try:
        await session.open()
    except BaseException:
        session.abort()
        raise
    return session
