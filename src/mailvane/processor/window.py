"""What waits in memory for one destination: new events and old ones, taken in turn.

Nothing waits here unseen for long: after a second a row is looked up again before it is sent, because a person may have
deleted it meanwhile.
"""

from collections import deque
from collections.abc import Sequence, Set

from mailvane.clock import Clock
from mailvane.processor.held import Held
from mailvane.queue.contract import Row

STALE = 1.0
"""Seconds after which a row is looked up again."""


class Window:
    """`size` counts what was taken and not yet `ended`: what waits here and what is on its way."""

    def __init__(self, held: Held, clock: Clock) -> None:
        self.size = 0
        self.waiting = 0
        """How many rows wait here."""
        self.stale = False
        """Whether what waits must be looked up again before it is sent."""
        self._held = held
        self._monotonic = clock.monotonic
        self._fresh: deque[tuple[Row, float]] = deque()
        self._old: deque[tuple[Row, float]] = deque()
        self._turn_of_fresh = True

    @property
    def fresh(self) -> int:
        """How many of them are new."""
        return len(self._fresh)

    def take(self, row: Row, fresh: bool) -> None:
        """Holds a row until it is sent or given back."""
        self.size += self._held.take(row)
        self.waiting += 1
        (self._fresh if fresh else self._old).append((row, self._monotonic()))

    def ended(self, row: Row) -> None:
        """A row that was taken is no longer in hand; it is still held."""
        self.size -= self._held.size_of(row.id)

    def next(self) -> Row | None:
        """One that is new, one that is old; None if nothing waits, or what is next must be looked up again."""
        queue = (self._fresh or self._old) if self._turn_of_fresh else (self._old or self._fresh)
        if not queue:
            return None
        if self._monotonic() - queue[0][1] > STALE:
            self.stale = True
            return None
        self._turn_of_fresh = queue is self._old
        self.waiting -= 1
        return queue.popleft()[0]

    def empty(self) -> list[Row]:
        """Takes out all that waits; it is neither held nor in hand any more."""
        rows = [row for queue in (self._fresh, self._old) for row, _ in queue]
        for row in rows:
            self.ended(row)
            self._held.give_back(row.id)
        self._fresh.clear()
        self._old.clear()
        self.waiting = 0
        self.stale = False
        return rows

    def ids(self) -> list[int]:
        """What waits."""
        return [row.id for queue in (self._fresh, self._old) for row, _ in queue]

    def looked_up(self, asked: Sequence[int], there: Set[int], at: float) -> None:
        """Of what was asked for, this was still there at this moment (monotonic); the rest is gone."""
        gone = set(asked) - there
        for queue in (self._fresh, self._old):
            rows = list(queue)
            queue.clear()
            for row, read_at in rows:
                if row.id in gone:
                    self.waiting -= 1
                    self.ended(row)
                    self._held.release(row.id)
                else:
                    queue.append((row, max(read_at, at) if row.id in there else read_at))
        self.stale = False
