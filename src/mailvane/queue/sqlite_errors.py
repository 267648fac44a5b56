"""SQLite's errors in our words: what a person reads, and what the process has to do."""

import contextlib
import os
from collections.abc import Generator

import apsw

from mailvane.errors import QueueUnavailable
from mailvane.queue.blocking import who_holds

BUSY_MS = 30_000
"""How long a lock is waited for: a person's shell may hold a transaction open."""

_NO_ROOM = frozenset({apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE})
"""A quota or a size limit; no room for the log's index, which every connection needs. Nothing was written then."""


WHAT_TO_DO = (
    "stop mailvane and leave its files as they are; `mailvane doctor` tells more, `mailvane queue salvage` copies what "
    "can be read into a new file"
)
"""For people with a damaged queue."""


class Broken(QueueUnavailable):
    """A sync failed, or the file is damaged: nothing more may be written by this process."""


class DiskFull(QueueUnavailable):
    """There is no room; what was written before is intact."""


@contextlib.contextmanager
def told(path: str) -> Generator[None, None, None]:
    """Raises DiskFull, Broken or QueueUnavailable in the place of what SQLite raises while it writes."""
    try:
        yield
    except apsw.FullError as e:
        raise DiskFull(f"no room on the disk for {path}: make room") from e
    except apsw.BusyError as e:
        raise QueueUnavailable(
            f"{path} was locked for {BUSY_MS // 1000} s by {who_holds(path)}: end its transaction"
        ) from e
    except apsw.NotADBError as e:
        raise QueueUnavailable(
            f"{path} is no SQLite database: put it aside, or name another file by `queue`; if it was the queue,"
            f" {WHAT_TO_DO}"
        ) from e
    except apsw.CorruptError as e:
        raise Broken(f"{path} is damaged ({e}): {WHAT_TO_DO}") from e
    except apsw.IOError as e:
        if getattr(e, "extendedresult", 0) in _NO_ROOM:
            raise DiskFull(f"{path} cannot be written ({e}): make room") from e
        raise Broken(f"{path}: {e}: disk or file are at fault; look at the system's log, then start again") from e
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError) as e:
        raise QueueUnavailable(f"{path} cannot be written: {e}") from e
    except apsw.ConstraintError as e:
        if getattr(e, "extendedresult", 0) != apsw.SQLITE_CONSTRAINT_TRIGGER:
            raise
        raise QueueUnavailable(str(e)) from e  # it says why: the queue was moved


def refuse_emptied(path: str, in_use_before: bool) -> None:
    """Raises QueueUnavailable for a file that must have had events and is empty: SQLite would begin it anew, and throw
    its log away. `in_use_before`: whether something else tells that there was a queue."""
    try:
        if os.path.getsize(path):
            return
    except OSError:
        return
    has_log = os.path.exists(path + "-wal") and os.path.getsize(path + "-wal") > 0
    if has_log or in_use_before:
        raise QueueUnavailable(
            f"{path} is empty, and was not: what was in it is lost, bring it back from a backup"
            + (f", or from its log: {WHAT_TO_DO}" if has_log else "")
            + f". To begin with nothing, delete {path}"
        )


def sync(path: str) -> None:
    """Brings a file or a folder to the disk. Raises Broken: SQLite keeps some failures of this to itself, we do not."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise Broken(f"{path} could not be brought to the disk: {e.strerror}; look at the system's log") from e
