"""What waits in memory for one destination: new events and old ones, taken in turn.

Nothing waits here unseen for long: after a second a row is looked up again before it is sent, because a person may have
deleted it meanwhile.
"""

from collections import deque
from collections.abc import Mapping, Sequence, Set

from mailvane.clock import Clock
from mailvane.processor.held import HELD_BYTES, Held
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

    def take(self, rows: Sequence[Row], sizes: Mapping[int, int], fresh: bool) -> None:
        """Holds rows, each of its size, until they are sent or given back."""
        self.size += self._held.take(sizes)
        self.waiting += len(rows)
        now = self._monotonic()
        (self._fresh if fresh else self._old).extend([(row, now) for row in rows])

    def ended(self, ids: Sequence[int]) -> None:
        """What was taken is no longer in hand; it is still held."""
        self.size -= self._held.size_of(ids)

    def next(self, most: int, most_bytes: int = HELD_BYTES) -> list[Row]:
        """Takes out at most that many, one that is new, one that is old; it ends after the one whose body reaches
        `most_bytes` in all, and before one that must be looked up again."""
        rows: list[Row] = []
        fresh, old = self._fresh, self._old
        latest = self._monotonic() - STALE
        while len(rows) < most and most_bytes > 0:
            queue = (fresh or old) if self._turn_of_fresh else (old or fresh)
            if not queue:
                break
            row, read_at = queue[0]
            if read_at < latest:
                self.stale = True
                break
            queue.popleft()
            rows.append(row)
            most_bytes -= len(row.body)
            self._turn_of_fresh = queue is old
        self.waiting -= len(rows)
        return rows

    def empty(self) -> list[Row]:
        """Takes out all that waits; it is neither held nor in hand any more."""
        rows = [row for queue in (self._fresh, self._old) for row, _ in queue]
        self.ended([row.id for row in rows])
        for row in rows:
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
                    self.ended((row.id,))
                    self._held.release((row.id,))
                else:
                    queue.append((row, max(read_at, at) if row.id in there else read_at))
        self.stale = False
