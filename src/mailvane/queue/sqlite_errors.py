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
        raise QueueUnavailable(f"{path} is no SQLite database: put it aside, or name another file by `queue`") from e
    except (apsw.IOError, apsw.CorruptError) as e:
        if getattr(e, "extendedresult", 0) in _NO_ROOM:
            raise DiskFull(f"{path} cannot be written ({e}): make room") from e
        raise Broken(f"{path}: {e}: disk or file are at fault; look at the system's log, then start again") from e
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError) as e:
        raise QueueUnavailable(f"{path} cannot be written: {e}") from e


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
