"""Rotation of a log file: when it is due, what the older ones are called, which are compressed, which are kept.

A file that is rotated gets the time in UTC behind its name: `events.log` becomes `events.log.20261124-235959`, and of
two in one second the later `events.log.20261124-235959-2`. Names ascend whatever the clock does, so that they alone say
which is older.

The youngest of the older ones stays as it is until the next comes: whoever had it open when it was moved, another
writer or a reader, is done with it by then. The others are compressed. All of it bears being killed at any moment:
moving is one rename, compressing makes a whole file beside the old one, which only then goes.
"""

import gzip
import logging
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from mailvane.destinations.contract import LogFile
from mailvane.destinations.logfile_file import sync_folder

COMPRESSED = ".gz"
PARTIAL = ".gz.part"
_CHUNK = 1024 * 1024
_DAY = 86_400
_STAMP = "%Y%m%d-%H%M%S"
_SUFFIX = re.compile(r"\.(?P<stamp>[0-9]{8}-[0-9]{6})(?:-(?P<number>[0-9]{1,6}))?")

log = logging.getLogger("mailvane.processor")


class Older(NamedTuple):
    """An older file, by when it was rotated; the later of one second has the higher number."""

    stamp: str
    number: int = 1

    def of(self, path: str) -> str:
        """Its path, of the file at `path`."""
        return f"{path}.{self.stamp}" + (f"-{self.number}" if self.number > 1 else "")


def due(spec: LogFile, size: int, coming: int, last: float, now: float) -> bool:
    """Whether a file is rotated before `coming` more bytes. `last` is when it was written last (wall clock, seconds,
    0.0 for not known)."""
    if not size:
        return False
    too_large = 0 < spec.rotate_bytes < size + coming
    return too_large or (spec.rotate_daily and 0 < last // _DAY < now // _DAY)


def next_name(there: Iterable[Older], now: float) -> Older:
    """What the next one is called, after those that are there."""
    fresh = Older(datetime.fromtimestamp(now, UTC).strftime(_STAMP))
    youngest = max(there, default=None)
    return fresh if youngest is None or youngest < fresh else Older(youngest.stamp, youngest.number + 1)


def older(path: str) -> list[Older]:
    """The older files of the one at `path`, youngest first. Raises OSError."""
    folder, name = os.path.split(path)
    return sorted({found for entry in os.listdir(folder) if (found := _read(entry, name)) is not None}, reverse=True)


def _read(entry: str, name: str) -> Older | None:
    if not entry.startswith(name + "."):
        return None
    suffix = entry[len(name) :].removesuffix(PARTIAL).removesuffix(COMPRESSED)
    found = _SUFFIX.fullmatch(suffix)
    return Older(found["stamp"], int(found["number"] or 1)) if found else None


def rotate(path: str, now: float) -> None:
    """Moves the file at `path` aside. Raises OSError, with the file where it was."""
    os.rename(path, next_name(older(path), now).of(path))
    sync_folder(path)


def tidy(path: str, spec: LogFile) -> None:
    """Removes the oldest beyond `keep`, compresses all but the youngest. May take long. Raises OSError."""
    there = older(path)
    for old in there[max(1, spec.keep) :]:
        for form in ("", COMPRESSED, PARTIAL):
            _remove(old.of(path) + form)
    for old in there[1 : max(1, spec.keep)]:
        _remove(old.of(path) + PARTIAL)  # of a process that was killed
        if spec.compress and os.path.lexists(old.of(path)):
            compress(old.of(path))
    sync_folder(path)


def compress(path: str) -> None:
    """Puts `path`.gz in the place of a file. Raises OSError, with the file as it was."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(source, "rb") as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            return
        part = os.open(path + PARTIAL, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(part, "wb") as target:
                with gzip.GzipFile(os.path.basename(path), "wb", 6, target, before.st_mtime) as packed:
                    left = before.st_size  # not more: somebody may be writing faster than we read
                    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                        packed.write(chunk)
                        left -= len(chunk)
                target.flush()
                os.fchmod(part, stat.S_IMODE(before.st_mode))
                os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
                os.fsync(part)
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                log.warning("%s is still written by somebody: it is compressed later", path)
                _remove(path + PARTIAL)
                return
        except BaseException:
            _remove(path + PARTIAL)
            raise
    os.rename(path + PARTIAL, path + COMPRESSED)
    sync_folder(path)
    os.unlink(path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
