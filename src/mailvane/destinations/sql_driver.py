"""What SqlDestination asks of a database's driver: a connection, and rows run in one transaction.

Each driver turns its library's errors into `Problem`s: what it was, in words, and its class. `Failure.EVENT` means that
one of the rows will not do: only then is it worth trying fewer.
"""

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from mailvane.destinations.contract import Database, Failure
from mailvane.destinations.dsn import Dsn
from mailvane.destinations.placeholders import Statement
from mailvane.destinations.sql_values import Kind, Values


class Problem(Exception):
    """A batch, or a connection, that failed."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure
        self.text = text


@dataclass(frozen=True)
class Place:
    """Where a driver connects: what the DSN says, an address that was judged, and who is trusted there.

    `address` is an IP address; "" with a socket or a file. `tls`: None for plain text.
    """

    dsn: Dsn
    address: str
    tls: ssl.SSLContext | None


class Session(Protocol):
    """A connection with the statement prepared; used for one batch at a time."""

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as is known without asking the server."""
        ...

    async def run(self, rows: Sequence[Values]) -> None:
        """Runs the statement for each row, in one transaction; returns when that is committed.

        Raises Problem; then nothing was committed, but for `Failure.RESET`: there nobody knows.
        """
        ...

    def abort(self) -> None:
        """Ends it at once, whatever is under way."""
        ...

    async def close(self) -> None:
        """Says good-bye, and ends it."""
        ...


def stranger(product: str, why: str) -> Problem:
    """What answers on the database's port is something else."""
    return Problem(Failure.PROTOCOL, f"what answers there does not speak {product} ({why}): look at host and port")


@contextlib.contextmanager
def as_problems(problem_of: Callable[[BaseException], Problem | None]) -> Generator[None, None, None]:
    """What a driver raises while a batch is under way, as a Problem. `problem_of` knows its library's errors; what is
    neither one of them nor a lost connection goes on as it is."""
    try:
        yield
    except Exception as error:
        if (problem := problem_of(error)) is not None:
            raise problem from None
        if isinstance(error, OSError):
            raise Problem(Failure.RESET, f"the connection was lost: {error.strerror or error}") from None
        raise


Open = Callable[[Place, Statement, Sequence[Kind]], Awaitable[Session]]
"""Opens a session; the kinds are those of the statement's values. Raises Problem; the caller sets the deadline."""


def missing_driver(database: Database) -> str:
    """What to do where the driver of a database is not installed; "" where it is. SQL Server's alone may be missing."""
    if database is Database.MSSQL and find_spec("pytds") is None:
        return "the driver for SQL Server is not installed: pip install 'mailvane[mssql]'"
    return ""
