"""A bound on the processor time of code that is not ours.

Python's regular expressions can take hours over a few kilobytes (a hundred thousand ``<`` before one pattern of
flufl.bounce's does), and look for signals meanwhile: so a timer's signal ends them, and no child process is needed.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

_AGAIN_AFTER = 0.1
"""Seconds after which the signal comes once more: an exception that is raised inside a destructor is lost."""


class TookTooLong(Exception):
    """The time is up."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """What *work* returns. Raises ``TookTooLong`` once it has had so many seconds of processor time.

    Only the main thread can be interrupted so: in any other one *work* takes as long as it takes.
    """
    working = True

    def end(number: int, frame: FrameType | None) -> None:
        if working:
            raise TookTooLong

    try:
        before = signal.signal(signal.SIGVTALRM, end)
    except ValueError:  # not the main thread
        return work()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN_AFTER)
        return work()
    finally:
        working = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL if before is None else before)
