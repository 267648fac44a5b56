"""SQLite, by apsw, in a thread of its own: a batch is one transaction."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from mailvane.destinations.contract import Failure
from mailvane.destinations.placeholders import Statement
from mailvane.destinations.sql_driver import Place, Problem
from mailvane.destinations.sql_values import Kind, Values

T = TypeVar("T")

LOCK_WAIT = 10.0
"""Seconds that another program may hold the file's lock."""

_FAILURES: tuple[tuple[type[apsw.Error], Failure], ...] = (
    (apsw.ConstraintError, Failure.EVENT),
    (apsw.MismatchError, Failure.EVENT),
    (apsw.TooBigError, Failure.EVENT),
    (apsw.RangeError, Failure.REFUSED),
    (apsw.BindingsError, Failure.REFUSED),
    (apsw.SQLError, Failure.REFUSED),
    (apsw.AuthError, Failure.REFUSED),
    (apsw.BusyError, Failure.BUSY),
    (apsw.LockedError, Failure.BUSY),
    (apsw.InterruptError, Failure.TIMEOUT),
    (apsw.CantOpenError, Failure.CONNECT),
    (apsw.PermissionsError, Failure.REFUSED),
    (apsw.ReadOnlyError, Failure.REFUSED),
)
"""The rest is the file's or the machine's: no room, an I/O error, no database at all."""


def problem_of(error: BaseException) -> Problem | None:
    """What an error of apsw's means; None if it is none."""
    if not isinstance(error, apsw.Error):
        return None
    failure = next((failure for kind, failure in _FAILURES if isinstance(error, kind)), Failure.SERVER)
    return Problem(failure, str(error) or type(error).__name__)


class SqliteSession:
    """See Session."""

    def __init__(self, file: str, statement: str) -> None:
        self._file = file
        self._statement = statement
        self._database: apsw.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="SQL destination")

    async def open(self) -> None:
        """Opens the file, which must be there. Raises Problem."""
        await self._do(self._open)

    def _open(self) -> None:
        self._database = database = apsw.Connection(self._file, flags=apsw.SQLITE_OPEN_READWRITE)
        database.set_busy_timeout(int(LOCK_WAIT * 1000))

    @property
    def alive(self) -> bool:
        """See Session."""
        return self._database is not None

    async def run(self, rows: Sequence[Values]) -> None:
        """See Session."""
        await self._do(lambda: self._run(rows))

    def _run(self, rows: Sequence[Values]) -> None:
        database = self._database
        if database is None:
            raise Problem(Failure.RESET, "the file was closed")
        database.execute("BEGIN IMMEDIATE")
        try:
            for _ in database.executemany(self._statement, rows):
                pass  # what a RETURNING returns
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    async def _do(self, what: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, what)
        except apsw.Error as error:
            problem = problem_of(error)
            raise problem or error from None

    def abort(self) -> None:
        """See Session."""
        database, self._database = self._database, None
        if database is not None:
            database.interrupt()
            self._thread.submit(database.close)
        self._thread.shutdown(wait=False)

    async def close(self) -> None:
        """See Session."""
        self.abort()


async def open_sqlite(place: Place, statement: Statement, kinds: Sequence[Kind]) -> SqliteSession:
    """See Open."""
    session = SqliteSession(place.dsn.name, statement.marked())
    try:
        await session.open()
    except BaseException:
        session.abort()
        raise
    return session
