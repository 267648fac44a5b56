"""Who may write a SQLite queue: the one process that holds `queue.lock`.

A lock of flock(2) on an open file: the kernel gives it back when the process ends, however it ends. The file's text
tells people who holds it; it is never believed.
"""

import contextlib
import fcntl
import os
import threading
import time
import weakref
from dataclasses import dataclass

import msgspec

HOLDER_LENGTH = 256
"""Bytes of the lock's file."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock, in its own words."""

    pid: int
    command: str
    since: int


@dataclass(eq=False)
class Lock:
    """The lock of one home. `command` says in a few words what it is taken for."""

    path: str
    command: str
    _fd: int = -1

    @property
    def held(self) -> bool:
        """Whether it is held now."""
        return self._fd >= 0

    def take(self) -> bool:
        """Takes the lock if it is free; True if it is held now. Raises OSError if the file cannot be opened."""
        with _no_fork:
            return self._fd >= 0 or self._take()

    def _take(self) -> bool:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._keep(fd)
        return True

    def take_in_line(self, patience: float) -> bool:
        """As `take`, and waits up to so many seconds for it: who waits in line is woken when it is given back.

        Who only looks now and then comes too late again and again where many programs record all the time.
        """
        if self.take():
            return True
        over, given_up = threading.Lock(), False

        def wait() -> None:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            fcntl.flock(fd, fcntl.LOCK_EX)
            with over, _no_fork:
                if given_up:
                    os.close(fd)
                else:
                    self._keep(fd)

        waiting = threading.Thread(target=wait, name="mailvane-waits-for-lock", daemon=True)
        waiting.start()
        waiting.join(patience)
        with over:
            given_up = True
        return self.held

    def _keep(self, fd: int) -> None:
        self._fd = fd
        _held.add(self)
        said = msgspec.json.encode(Holder(os.getpid(), self.command, int(time.time())))
        with contextlib.suppress(OSError):  # the words are for people; a full disk must not keep the lock from us
            # Blanks wipe what a holder with more words left; truncating would be written to the disk's journal.
            os.pwrite(fd, said.ljust(HOLDER_LENGTH), 0)

    def release(self) -> None:
        with _no_fork:
            if self._fd >= 0:
                # A child forked a moment ago may not have closed its copy yet: closing ours would not be enough.
                fcntl.flock(self._fd, fcntl.LOCK_UN)
                self._forget()

    def _forget(self) -> None:
        os.close(self._fd)
        self._fd = -1
        _held.discard(self)

    def holder(self) -> Holder | None:
        """Who holds it, as far as the file tells."""
        try:
            with open(self.path, "rb") as f:
                return msgspec.json.decode(f.read(4096), type=Holder)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None


def describe(holder: Holder | None) -> str:
    """The holder in words, for a message."""
    return f"{holder.command} (process {holder.pid})" if holder else "another process"


# A forked child shares its parent's open file, and would keep the lock alive after the parent's death. So it closes
# what it got, and no fork comes between opening the file and noting it down.
_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()
_no_fork = threading.Lock()


def _forget_in_child() -> None:
    _no_fork.release()
    for lock in list(_held):
        lock._forget()  # pyright: ignore[reportPrivateUsage]  # not released: it is the parent's


os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_forget_in_child)
