"""What waits in memory for one destination: new events and old ones, taken in turn.

Nothing waits here unseen for long: after a second a row is looked up again before it is sent, because a person may have
deleted it meanwhile.

Rows are kept in the *parts* in which they came, so that a batch is cut out of one and not gathered row by row.
"""

from collections import deque
from collections.abc import Mapping, Sequence, Set

from mailvane.clock import Clock
from mailvane.processor.held import HELD_BYTES, Held
from mailvane.queue.contract import Row

STALE = 1.0
"""Seconds after which a row is looked up again."""


class _Part:
    """Rows that were read together, less those that were taken out: nothing of them stays here."""

    __slots__ = ("read_at", "rows")

    def __init__(self, rows: Sequence[Row], read_at: float) -> None:
        self.rows = list(rows)
        self.read_at = read_at

    def next(self, most: int, most_bytes: int) -> tuple[Sequence[Row], int]:
        """Takes out at most that many, up to the one whose body reaches `most_bytes` in all; and what those have."""
        some = self.rows[:most]
        size = sum([len(row.body) for row in some])
        if size > most_bytes:
            size = end = 0
            while size < most_bytes:
                size += len(some[end].body)
                end += 1
            some = some[:end]
        del self.rows[: len(some)]
        return some, size


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
        self.fresh = 0
        """How many of them are new."""
        self._fresh: deque[_Part] = deque()
        self._old: deque[_Part] = deque()
        self._turn_of_fresh = True

    def take(self, rows: Sequence[Row], sizes: Mapping[int, int], fresh: bool) -> None:
        """Holds rows, each of its size, until they are sent or given back."""
        self.size += self._held.take(sizes)
        if not rows:
            return
        self.waiting += len(rows)
        self.fresh += len(rows) if fresh else 0
        (self._fresh if fresh else self._old).append(_Part(rows, self._monotonic()))

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
            part = queue[0]
            if part.read_at < latest:
                self.stale = True
                break
            some, size = part.next(1 if fresh and old else most - len(rows), most_bytes)
            if not part.rows:
                queue.popleft()
            if queue is fresh:
                self.fresh -= len(some)
            rows += some
            most_bytes -= size
            self._turn_of_fresh = queue is old
        self.waiting -= len(rows)
        return rows

    def empty(self) -> list[Row]:
        """Takes out all that waits; it is neither held nor in hand any more."""
        rows = [row for queue in (self._fresh, self._old) for part in queue for row in part.rows]
        self.ended([row.id for row in rows])
        for row in rows:
            self._held.give_back(row.id)
        self._fresh.clear()
        self._old.clear()
        self.waiting = self.fresh = 0
        self.stale = False
        return rows

    def ids(self) -> list[int]:
        """What waits."""
        return [row.id for queue in (self._fresh, self._old) for part in queue for row in part.rows]

    def looked_up(self, asked: Sequence[int], there: Set[int], at: float) -> None:
        """Of what was asked for, this was still there at this moment (monotonic); the rest is gone."""
        gone = set(asked) - there
        lost: list[int] = []
        for queue in (self._fresh, self._old):
            parts = list(queue)
            queue.clear()
            for part in parts:
                left, rows = len(part.rows), [row for row in part.rows if row.id not in gone]
                lost += [row.id for row in part.rows if row.id in gone]
                # One row that nobody asked about, and the whole part is looked up once more.
                read_at = max(part.read_at, at) if all(row.id in there for row in rows) else part.read_at
                if rows:
                    queue.append(_Part(rows, read_at))
                self.waiting -= left - len(rows)
                self.fresh -= left - len(rows) if queue is self._fresh else 0
        self.ended(lost)
        self._held.release(lost)
        self.stale = False
