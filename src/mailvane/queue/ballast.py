"""A file that takes up room, so that there is some when the disk is full.

SQLite cannot DELETE on a full disk either: without spare room an event that was delivered could not be removed, and
would be delivered again and again. The ballast is freed so that a settlement can be written; while it is missing nobody
records, or recording would eat the room. It is made again when there is room for it.
"""

import contextlib
import os
from dataclasses import dataclass

SIZE = 8 * 1024 * 1024
ROOM_TO_RECORD = 2 * 1024 * 1024
"""Bytes: a request of 1 MiB, and what surrounds it in the log."""


@dataclass(frozen=True)
class Ballast:
    """The ballast of one home: 8 MiB, on a small disk an eighth of it."""

    path: str

    def size(self) -> int:
        room = os.statvfs(os.path.dirname(self.path) or ".")
        return min(SIZE, room.f_blocks * room.f_frsize // 8)

    def room_to_record(self) -> bool:
        """Whether there is room beside the ballast for what one request may bring."""
        room = os.statvfs(os.path.dirname(self.path) or ".")
        return room.f_bavail * room.f_frsize >= ROOM_TO_RECORD

    def scarce(self) -> bool:
        """Whether the disk is near being full."""
        room = os.statvfs(os.path.dirname(self.path) or ".")
        return room.f_bavail * room.f_frsize < 8 * self.size()

    def is_there(self) -> bool:
        return os.path.exists(self.path)

    def free(self) -> bool:
        """Gives its room back; False if there was nothing to give."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return False
        return True

    def make(self) -> bool:
        """Makes it if there is room for it twice, so that making it does not fill the disk; True if it is there."""
        if self.is_there():
            return True
        size = self.size()
        room = os.statvfs(os.path.dirname(self.path) or ".")
        if room.f_bavail * room.f_frsize < 2 * size:
            return False
        unfinished = self.path + ".new"
        try:
            fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o660)
            try:
                os.posix_fallocate(fd, 0, size)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(unfinished, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            return False
        return True
