"""Events sent many at a time, for destinations that take batches (`batch_limit` above 1).

What waits goes at once while nothing is on its way, be it one event alone: a batch grows by itself while the one before
is under way. A second one goes along only when it is full, so that the destination need not wait for it.
"""

from collections.abc import Callable, Sequence

from mailvane.destinations.contract import Done, Outcome, Outgoing
from mailvane.processor.concurrency import Limit
from mailvane.processor.window import Window
from mailvane.queue.contract import Row

BATCHES_AT_ONCE = 2
BATCH_BYTES = 1024 * 1024
"""Of bodies, in a batch; one event may have more."""


class Batches:
    """Gathers batches of what waits in `window`, at most `most` events each, and gives them to `send`, as long as there
    are fewer on their way than `limit` has."""

    def __init__(
        self, most: int, window: Window, limit: Limit, send: Callable[[Sequence[Row], Done], None], done: Done
    ) -> None:
        self._most = most
        self._window = window
        self._limit = limit
        self._send = send
        self._done = done
        self._under_way = 0

    def send(self) -> None:
        """Sends as much as may be on its way."""
        while self._under_way < self._limit.value:
            if self._under_way and self._window.waiting < self._most:
                return
            if not (rows := self._window.next(self._most, BATCH_BYTES)):
                return
            self._under_way += 1
            self._send(rows, self._answers(len(rows)))

    def _answers(self, left: int) -> Done:
        """What a batch of so many events is answered by, in one part or in several."""

        def answered(part: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
            nonlocal left
            left -= len(part)
            if not left:
                self._under_way -= 1
            self._done(part, outcomes)

        return answered
