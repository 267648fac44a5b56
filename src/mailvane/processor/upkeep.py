"""What has to be done now and then: the store's own upkeep, the clock, counting what failed."""

import logging
from collections.abc import Callable

from mailvane.clock import Clock
from mailvane.processor.lane import Lane
from mailvane.processor.schedule import CAP, FARTHEST
from mailvane.processor.ways import Routing
from mailvane.queue.contract import OwnedQueue

EVERY = 60.0
CLOCK_STEP = 1.0
"""Seconds by which the wall clock may move against the monotonic one between two runs, and was not set."""

log = logging.getLogger("mailvane.processor")


class Upkeep:
    """Done by the processor between its runs. `moved` is called when due times were changed."""

    def __init__(self, queue: OwnedQueue, clock: Clock, moved: Callable[[], None]) -> None:
        self._queue = queue
        self._clock = clock
        self._moved = moved
        self._next = clock.monotonic() + EVERY
        self._offset: float | None = None

    async def step(self, routing: Routing) -> None:
        """Does what it is time for."""
        now = self._clock.monotonic()
        await self._watch_clock(self._clock.wall() - now)
        if now >= self._next:
            self._next = now + EVERY
            await self._queue.upkeep()
            await self._pull_back()
            await self.census(routing)

    async def _watch_clock(self, offset: float) -> None:
        """Due times are wall clock: nobody waits for longer because it was set, now or while nobody delivered."""
        before, self._offset = self._offset, offset
        if before is None:
            await self._pull_back()
        elif abs(offset - before) > CLOCK_STEP:
            log.warning("the machine's clock was set by %.0f s: looking at all that waits for a retry", offset - before)
            await self._pull_back()

    async def _pull_back(self) -> None:
        now = self._clock.wall()
        await self._queue.pull_back(int(now * 1000), int((now + FARTHEST) * 1000), int((now + CAP) * 1000))
        self._moved()

    async def census(self, routing: Routing) -> None:
        """Counts what failed, by lane: what people delete by hand is not told to us."""
        counts = dict.fromkeys(routing.lanes, 0)
        for event_type, mail_class, n in await self._queue.census():
            way = routing.way(event_type, mail_class)
            if isinstance(way, Lane) and way in counts:
                counts[way] += n
        for lane, n in counts.items():
            lane.deferred = n
