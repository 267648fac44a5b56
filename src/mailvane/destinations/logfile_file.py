"""A file that lines are appended to: opened with care, whole lines only, on disk when `append` returns.

Everything here blocks; an `AppendedFile` belongs to one thread.

What stands at the path is judged before a byte is written: a regular file with one name that belongs to this user or to
root. A FIFO, a device, a folder, a symbolic link in the file's own place, or somebody else's file (planted in /tmp) is
refused, without waiting for it. Links among the folders above are followed: those folders are the operator's.

An append that fails is taken back, so that the file ends with a whole line. After a crash it may not: a half line at
its end was never acknowledged, and is cut off before anything is appended. What others left there without a line's end
is theirs: it gets one.
"""

import errno
import logging
import os
import stat
import time

from mailvane.destinations.texts import shown
from mailvane.errors import MailvaneError

MODE = 0o640
"""Of a new file, less what the umask takes."""
LINE_LIMIT = 4 * 1024 * 1024
"""Bytes that a line of ours may have; a longer tail is none."""
OURS = b'{"id":'
"""How a line of ours begins."""
STEADY_AFTER = 0.05
"""Seconds in which a file that ends in a half line must not change: else somebody is writing it right now."""
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BLOCK = 64 * 1024
_TRIES = 5

log = logging.getLogger("mailvane.processor")


class CannotWrite(MailvaneError):
    """A file cannot be written now: what it is, why, and what to do. Nothing of what was to be appended stays."""


class AppendedFile:
    """The file at a path, whichever that is at the time: it may be moved away, truncated or replaced meanwhile."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        """Bytes that it had when it was last looked at."""
        self.written = 0.0
        """When it was last written before it was opened here (wall clock, seconds); 0.0 for a new one."""
        self._fd = -1
        self._file = (0, 0)
        self._cut: tuple[int, int] | None = None
        """From where to where there is something that could not be taken back yet."""

    def ready(self) -> None:
        """Opens what stands at the path if it is another file than before. Raises CannotWrite."""
        try:
            if self._fd >= 0 and not self._still_there():
                self.close()
            for _ in range(_TRIES):
                if self._fd >= 0 or self._open():
                    break
            else:
                raise CannotWrite(f"{self.path} is removed whenever it is opened; see who does that")
            if self._cut is not None:
                self._take_back(*self._cut)
            self.size = os.fstat(self._fd).st_size
        except OSError as e:
            raise self._cannot(e) from e

    def append(self, lines: bytes) -> None:
        """Appends whole lines and brings them to the disk. Raises CannotWrite. To be called after `ready`."""
        written = end = 0
        try:
            view = memoryview(lines)
            while written < len(lines):
                written += os.write(self._fd, view[written:])
                end = os.lseek(self._fd, 0, os.SEEK_CUR)
            os.fdatasync(self._fd)
        except OSError as e:
            self._give_up(end - written, end)
            raise self._cannot(e) from e
        self.size += written

    def close(self) -> None:
        """Lets go of the file; everything appended is on disk."""
        if self._fd >= 0:
            fd, self._fd, self._cut = self._fd, -1, None
            os.close(fd)

    # Opening.

    def _still_there(self) -> bool:
        try:
            there = os.lstat(self.path)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == self._file

    def _open(self) -> bool:
        """False: it came or went in the middle of it."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            found = None
        if found is not None and (why := objection(found)):
            raise CannotWrite(f"{self.path} {why}")
        try:
            fd = os.open(self.path, _FLAGS if found else _FLAGS | os.O_CREAT | os.O_EXCL, MODE)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if found is None:
                raise
            return False
        try:
            opened = os.fstat(fd)
            if not opened.st_nlink:
                os.close(fd)
                return False
            if why := objection(opened):
                raise CannotWrite(f"{self.path} {why}")
            if found is None:
                sync_folder(self.path)
            self.written = opened.st_mtime if opened.st_size else 0.0
            _end_with_a_whole_line(fd, self.path)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._file = fd, (opened.st_dev, opened.st_ino)
        return True

    # Taking back.

    def _give_up(self, start: int, end: int) -> None:
        self._cut = (start, end) if end > start else None
        try:
            if self._cut is not None:
                self._take_back(start, end)
        except OSError as e:
            log.error("%s: an append that failed could not be taken back yet: %s", self.path, e.strerror)
        else:
            self.close()  # a descriptor whose sync failed may keep quiet about it the next time

    def _take_back(self, start: int, end: int) -> None:
        if os.fstat(self._fd).st_size == end:
            os.ftruncate(self._fd, start)
        else:  # not ours to cut
            log.error("%s: others wrote behind an append that failed; its lines stay, and come again", self.path)
        self._cut = None

    def _cannot(self, error: OSError) -> CannotWrite:
        return CannotWrite(f"{self.path} {_why(error, self.path)}")


def objection(found: os.stat_result) -> str:
    """Why nothing is appended to what has this stat; "" if nothing speaks against it."""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link, which is not followed; remove it, or name the file it leads to"
    if stat.S_ISDIR(found.st_mode):
        return "is a folder; name a file in it"
    if not stat.S_ISREG(found.st_mode):
        kind = "a FIFO" if stat.S_ISFIFO(found.st_mode) else "a device or a socket"
        return f"is {kind}, which keeps nothing; name a regular file"
    if found.st_uid not in {os.geteuid(), 0}:
        return f"belongs to user {found.st_uid}; chown it to user {os.geteuid()}, who writes it, or remove it"
    if found.st_nlink > 1:
        return f"has {found.st_nlink} names (hard links), so that another file may be meant; remove the others"
    return ""


def look(path: str) -> str:
    """Why lines could not be appended to the file at a path, as far as can be seen without touching it; "" if none."""
    folder = os.path.dirname(path)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if not os.path.isdir(folder):
            return f"cannot be made: the folder {folder} is not there"
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"cannot be made by user {os.geteuid()}"
    except OSError as e:
        return _why(e, path)
    return objection(found) or (
        "" if os.access(path, os.R_OK | os.W_OK) else f"cannot be read and written by user {os.geteuid()}"
    )


def sync_folder(path: str) -> None:
    """Brings the folder of a file to the disk: which names are in it. Raises OSError."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _end_with_a_whole_line(fd: int, path: str) -> None:
    """See the module. Raises OSError and CannotWrite."""
    for _ in range(_TRIES):
        before = os.fstat(fd)
        size = before.st_size
        if not size or os.pread(fd, 1, size - 1) == b"\n":
            return
        time.sleep(STEADY_AFTER)
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) == (size, before.st_mtime_ns):
            break
    else:
        raise CannotWrite(f"{path} is written by somebody else all the time, and never whole lines; see who does that")
    end = _end_of_lines(fd, size)
    tail = b"" if end is None else os.pread(fd, size - end, end)
    if end is not None and (tail.startswith(OURS) or OURS.startswith(tail) or not tail.strip(b"\0")):
        log.warning(
            "%s: %d bytes of a line that was not finished are cut off behind byte %d (its event was not acknowledged,"
            " and comes again): %s", path, len(tail), end, shown(tail)
        )  # fmt: skip
        os.ftruncate(fd, end)
    else:
        log.warning("%s ends in the middle of a line that is not ours: it is ended", path)
        os.write(fd, b"\n")
    os.fdatasync(fd)


def _end_of_lines(fd: int, size: int) -> int | None:
    """Where the last line's end is; 0 for a file that is the beginning of one line; None if it is farther away than
    a line of ours is long."""
    at = size
    while at > 0 and size - at < LINE_LIMIT:
        start = max(0, at - _BLOCK)
        if (found := os.pread(fd, at - start, start).rfind(b"\n")) >= 0:
            return start + found + 1
        at = start
    return 0 if at == 0 else None


def _why(error: OSError, path: str) -> str:
    folder = os.path.dirname(path)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return f"cannot be made: the folder {folder} is not there; make it"
        case errno.EACCES | errno.EPERM:
            return f"may not be read and written by user {os.geteuid()}; see the permissions of it and of {folder}"
        case errno.ENOSPC | errno.EDQUOT:
            return "cannot be written: the disk is full; make room"
        case errno.EFBIG:
            return "cannot be written: it is as large as this process may make a file (ulimit -f, LimitFSIZE)"
        case errno.ELOOP:
            return "is a symbolic link, which is not followed; remove it, or name the file it leads to"
        case errno.EIO:
            return "cannot be written: the disk is at fault; look at the system's log"
        case _:
            return f"cannot be written: {error.strerror or error}"
