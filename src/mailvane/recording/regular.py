"""Reads small files that people write, whatever stands at their path.

Symbolic links are followed, so that a file can be swapped by one. What is no regular file is refused without waiting
for it (a FIFO without a writer would hold whoever opens it), and never more than a bound is read.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mailvane.errors import MailvaneError

_WORDS = {
    errno.EACCES: "may not be read by this user",
    errno.EPERM: "may not be read by this user",
    errno.ELOOP: "is a symbolic link that leads in a circle",
    errno.ENOTDIR: "lies in something that is no folder",
    errno.ENAMETOOLONG: "has too long a name",
    errno.ENXIO: "is no regular file",
}


class Unreadable(MailvaneError):
    """A file that is not there or cannot be read; `why` tells it without the path, `missing` if nothing is there."""

    def __init__(self, path: Path, why: str, missing: bool = False) -> None:
        super().__init__(f"{path} {why}")
        self.why = why
        self.missing = missing


class Fingerprint(NamedTuple):
    """What changes when a file changes. An error of looking stands in `device`, negative."""

    device: int
    inode: int = 0
    size: int = 0
    modified_ns: int = 0
    changed_ns: int = 0


ABSENT = Fingerprint(-errno.ENOENT)


@dataclass(frozen=True)
class Contents:
    """A file's bytes and what it looked like when they were read; `steady`: it did not change meanwhile."""

    data: bytes
    fingerprint: Fingerprint
    steady: bool
    mode: int
    owner: int


def fingerprint(path: Path) -> Fingerprint:
    """One stat. Links are followed."""
    try:
        return _print(os.stat(path))
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return Fingerprint(-(error.errno or errno.EIO))


def read_regular(path: Path, limit: int) -> Contents:
    """Reads a regular file of at most `limit` bytes.

    Raises Unreadable, with the reason in words.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        dangling = os.path.islink(path)
        why = "is a symbolic link that leads nowhere" if dangling else "is not there"
        raise Unreadable(path, why, missing=True) from None
    except OSError as error:
        raise Unreadable(path, _in_words(error)) from None
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise Unreadable(path, f"is {_kind(before.st_mode)}, no regular file")
        if before.st_size > limit:
            raise Unreadable(path, f"has {before.st_size:,} bytes; at most {limit:,} are read")
        data = _read(handle, limit + 1)
        after = os.fstat(handle)
    except OSError as error:
        raise Unreadable(path, _in_words(error)) from None
    finally:
        os.close(handle)
    if len(data) > limit:
        raise Unreadable(path, f"has more than {limit:,} bytes, which is the most that is read")
    return Contents(data, _print(after), _print(before) == _print(after), after.st_mode, after.st_uid)


def _read(handle: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most > 0 and (part := os.read(handle, most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _print(found: os.stat_result) -> Fingerprint:
    return Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _in_words(error: OSError) -> str:
    return _WORDS.get(error.errno or 0, f"cannot be read: {error.strerror or 'no reason given'}")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a device or socket"
