"""The folder `new` of a Maildir, as somebody else fills it: https://cr.yp.to/proto/maildir.html

Whoever delivers may be another user, and what lies there may be anything: only regular files are opened, no symbolic
link is followed, and everything is done relative to folders that are held open, so that nothing put in their place
meanwhile is touched. `cur`, which is what a person's mail reader has seen, is left alone.
"""

import contextlib
import heapq
import os
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from mailvane.bounces import BYTES_AT_MOST

ASIDE = ".CouldNotProcess"
"""The folder beside, in Maildir++ form, of mails that could not be processed."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAIL = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SECONDS_DIGITS = 12


class NoMail(Exception):
    """Something in `new` is no regular file; the text says what it is."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as it lies in `new`. `raw`: as much of it as is looked at; `token` names this very file, and no other."""

    raw: bytes
    token: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Names in `new`: of the `oldest` as many as were asked for, and those `left` that were to be left out."""

    oldest: list[str]
    left: set[str]


class NewMail:
    """`new` of a Maildir, held open: a context manager. Raises OSError when made: it is not there, or not ours to use.

    The Maildir itself may be a symbolic link, which is the operator's; `new` may not.
    """

    def __init__(self, maildir: Path) -> None:
        self._maildir = os.open(maildir, _FOLDER)
        try:
            self._new = os.open("new", _FOLDER | os.O_NOFOLLOW, dir_fd=self._maildir)
        except BaseException:
            os.close(self._maildir)
            raise

    def __enter__(self) -> "NewMail":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._new)
        os.close(self._maildir)

    @property
    def can_be_emptied(self) -> bool:
        """Whether mails can be removed from it. (A mail that cannot would be recorded again and again.)"""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self._new, effective_ids=True)

    def oldest(self, limit: int, without: Container[str] = ()) -> Listing:
        """The oldest `limit` mails, by the seconds that their names begin with, else by their time of change."""
        left: set[str] = set()
        return Listing([name for _, name in heapq.nsmallest(limit, self._arrivals(without, left))], left)

    def count(self) -> int:
        """How many there are."""
        with os.scandir(self._new) as entries:
            return sum(1 for entry in entries if not entry.name.startswith("."))

    def _arrivals(self, without: Container[str], left: set[str]) -> Iterator[tuple[float, str]]:
        with os.scandir(self._new) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if name in without:
                    left.add(name)
                    continue
                seconds = name.partition(".")[0]
                if seconds.isascii() and seconds.isdigit() and len(seconds) <= _SECONDS_DIGITS:
                    yield float(seconds), name
                else:
                    with contextlib.suppress(FileNotFoundError):
                        yield entry.stat(follow_symlinks=False).st_mtime, name

    def read(self, name: str) -> Letter:
        """A mail. Raises NoMail, and OSError: FileNotFoundError if somebody else has taken it."""
        # Looked at first: to open a device or a FIFO may do something.
        _refuse_odd(os.stat(name, dir_fd=self._new, follow_symlinks=False).st_mode)
        fd = os.open(name, _MAIL, dir_fd=self._new)
        try:
            status = os.fstat(fd)
            _refuse_odd(status.st_mode)
            raw = _head(fd)
        finally:
            os.close(fd)
        # Names may come again (a person copies the same file there twice), inode numbers do.
        known = f"{name}\n{status.st_dev} {status.st_ino} {status.st_mtime_ns} {status.st_size}\n"
        digest = blake2b(known.encode("utf-8", "surrogateescape"), digest_size=15)
        digest.update(raw)
        return Letter(raw, digest.hexdigest())

    def remove(self, name: str) -> None:
        """Takes a mail away. It is well if it is gone already. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._new)

    def set_aside(self, name: str) -> None:
        """Moves a mail to `.CouldNotProcess`, which is made if need be. It is well if it is gone. Raises OSError."""
        aside = self._aside()
        try:
            free, number = name, 0
            while _is_there(free, aside):
                number += 1
                free = f"{name}.{number}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(name, free, src_dir_fd=self._new, dst_dir_fd=aside)
        finally:
            os.close(aside)

    def _aside(self) -> int:
        """`.CouldNotProcess/new`, opened. Whoever may use `new` may use it."""
        mode = stat.S_IMODE(os.fstat(self._new).st_mode)
        folder = _made(ASIDE, self._maildir, mode)
        try:
            for name in ("cur", "tmp"):
                os.close(_made(name, folder, mode))
            with contextlib.suppress(FileExistsError):  # what tells a folder of a Maildir from one of its own
                os.close(os.open("maildirfolder", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o666, dir_fd=folder))
            return _made("new", folder, mode)
        finally:
            os.close(folder)


def _made(name: str, parent: int, mode: int) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        fresh = True
    except FileExistsError:
        fresh = False
    fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    if fresh:
        os.fchmod(fd, mode)
    return fd


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _head(fd: int) -> bytes:
    """As much of a file as is looked at, and a byte more if there is more, so that it is known."""
    pieces: list[bytes] = []
    wanted = BYTES_AT_MOST + 1
    while wanted and (piece := os.read(fd, wanted)):
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


_ODD = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _refuse_odd(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NoMail(_ODD.get(stat.S_IFMT(mode), "no regular file"))
