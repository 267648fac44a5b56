"""Time and chance, handed in, so that tests can hold them still.

Intervals are measured on the monotonic clock; wall time only labels.
"""

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds: `wall` since the Unix epoch, `monotonic` since some fixed moment, never going back."""

    def wall(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clocks, without a frame of ours between: they are asked for every event."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class Chance(Protocol):
    """Uniform chance in [0, 1)."""

    def random(self) -> float: ...


def system_chance() -> Chance:
    """Chance from the operating system's entropy."""
    return random.Random(random.SystemRandom().getrandbits(64))
