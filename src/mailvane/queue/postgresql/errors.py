"""PostgreSQL's errors in our words: what a person reads, and what the process does next."""

import contextlib
from collections.abc import Generator

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from mailvane.errors import MailvaneError, OwnershipLost, QueueUnavailable

NOT_THE_OWNER = "MV001"
"""What our own functions raise when a session that settles has no right to."""

_AGAIN = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock timeout: nothing was done, and the next try may well succeed."""
_GONE = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "53300", "25P03"})
"""The server ends, crashed, starts, dropped the database, ended an idle session, or has no connection to give."""
_SHARED = frozenset({"26000", "42P05"})
"""A prepared statement is missing, or there although nobody made it: the session was another one a moment ago."""


class BadAddress(MailvaneError):
    """A `postgresql://` URL that cannot be used; the text says what is wrong and shows no password."""


class Disconnected(QueueUnavailable):
    """There is no connection, or it was lost: whether what was sent last was done is unknown."""


class TryAgain(QueueUnavailable):
    """Others were in the way; nothing was done."""


class ReadOnly(QueueUnavailable):
    """The server takes no writes."""


class NoQueueYet(QueueUnavailable):
    """The tables are not there, and are not made by who only looks."""


class SharedSessions(QueueUnavailable):
    """A proxy stands before the server that gives a session to another client after each transaction."""


class Unfit(QueueUnavailable):
    """Something that was handed in cannot be stored as it is."""


def shared_sessions(shown: str) -> SharedSessions:
    return SharedSessions(
        f"{shown}: a proxy that pools by transaction stands before PostgreSQL. The queue needs sessions of its own"
        " (locks, LISTEN): name the server itself by `queue`, or let the proxy pool by session"
    )


def away(shown: str, error: OSError | TimeoutError) -> Disconnected:
    """Nobody answers at the address."""
    why = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return Disconnected(f"{shown} is away ({why}): start the server, or name the right one by `queue` in mailvane.conf")


def read_only(shown: str) -> ReadOnly:
    return ReadOnly(
        f"{shown} is read-only (a stand-by, or default_transaction_read_only is on): nothing can be recorded or"
        " delivered until it is promoted, or `queue` names the primary"
    )


@contextlib.contextmanager
def told(shown: str) -> Generator[None, None, None]:
    """Raises an error of ours in the place of what the driver raises. `shown` is the address as people see it."""
    try:
        yield
    except asyncpg.PostgresError as e:
        raise _ours(e, shown) from e
    except (asyncpg.DataError, UnicodeError) as e:
        raise Unfit(f"{shown}: cannot be stored: {e}") from e
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as e:
        raise Disconnected(f"{shown}: {e}") from e
    except TimeoutError as e:
        raise Disconnected(f"{shown} does not answer") from e
    except OSError as e:
        raise Disconnected(f"{shown}: {e.strerror or e}") from e


def _ours(error: asyncpg.PostgresError, shown: str) -> MailvaneError:
    state = str(getattr(error, "sqlstate", "") or "")
    if state == NOT_THE_OWNER:
        return OwnershipLost(f"{shown}: {error}")
    if state in _AGAIN or isinstance(error, asyncpg.InvalidCachedStatementError):
        return TryAgain(f"{shown}: {error}")
    if state in _GONE or state.startswith("08"):
        return Disconnected(f"{shown}: {error}")
    if state in _SHARED:
        return shared_sessions(shown)
    if state == "25006":
        return read_only(shown)
    if state.startswith("22"):
        return Unfit(f"{shown}: cannot be stored: {error}")
    if state == "53100":
        return QueueUnavailable(f"{shown}: the server's disk is full ({error}): make room there")
    if state.startswith("28"):
        return QueueUnavailable(f"{shown}: the server refuses the login: {error}")
    if state in {"42P01", "42883"}:
        return QueueUnavailable(f"{shown}: the queue's tables are gone or damaged: {error}")
    return QueueUnavailable(f"{shown}: {error}")
