"""Events sent many at a time, for destinations that take batches (`batch_limit` above 1).

What waits goes at once while nothing is on its way, be it one event alone: a batch grows by itself while the one before
is under way. A second one goes along only when it is full, so that the destination need not wait for it.
"""

from collections.abc import Callable, Sequence

from mailvane.destinations.contract import Destination, Outcome, Outgoing
from mailvane.processor.concurrency import Limit
from mailvane.processor.window import Window
from mailvane.queue.contract import Row

BATCHES_AT_ONCE = 2
BATCH_BYTES = 1024 * 1024
"""Of bodies, in a batch; one event may have more."""


class Batches:
    """Gathers batches of what waits in `window`, as long as there are fewer on their way than `limit` has."""

    def __init__(
        self,
        destination: Destination,
        window: Window,
        in_flight: dict[int, Row],
        limit: Limit,
        done: Callable[[Sequence[Outgoing], Sequence[Outcome]], None],
    ) -> None:
        self._destination = destination
        self._window = window
        self._in_flight = in_flight
        self._limit = limit
        self._done = done
        self._under_way: dict[int, int] = {}
        """Of each event, the number of its batch."""
        self._left: dict[int, int] = {}
        """Of each batch, how many of its events have no answer yet."""
        self._number = 0

    def send(self) -> None:
        """Sends as much as may be on its way."""
        while len(self._left) < self._limit.value:
            if self._left and self._window.waiting < self._destination.batch_limit:
                return
            if not (batch := self._gather()):
                return
            self._destination.send(batch, self.answered)

    def _gather(self) -> list[Outgoing]:
        rows = self._window.next(self._destination.batch_limit, BATCH_BYTES)
        if rows:
            self._in_flight.update({row.id: row for row in rows})
            self._number += 1
            self._left[self._number] = len(rows)
            self._under_way.update(dict.fromkeys((row.id for row in rows), self._number))
        return [Outgoing(row.id, row.attempts + 1, row.body, row.extra, row.valued) for row in rows]

    def answered(self, batch: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        """A part of a batch was answered."""
        for sent in batch:
            number = self._under_way.pop(sent.id, 0)  # a probe goes alone, and is in none
            if number:
                self._left[number] -= 1
                if not self._left[number]:
                    del self._left[number]
        self._done(batch, outcomes)
