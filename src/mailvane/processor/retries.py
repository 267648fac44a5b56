"""Finds what failed and is due again, by the time at which it is due.

Routing is late, so `deferred` does not know destinations: the scan goes round, page by page, past the events of lanes
that stand or have no room, so that they never hide those of others.
"""

from collections.abc import Callable, Sequence

from mailvane.clock import Clock
from mailvane.processor.held import Held
from mailvane.processor.lane import Lane
from mailvane.processor.plan import Drop
from mailvane.processor.settle import Settler
from mailvane.processor.ways import Routing
from mailvane.queue.contract import DuePlace, OwnedQueue

PAGE = 256
FAR = 2**62
"""A due time that none has."""
ROUND = 1.0
"""Seconds between rounds while some of what is due is not taken."""


class Retries:
    """The scan over what is due. `sweeping` says whether there may be new events that nobody has looked at yet."""

    def __init__(
        self, queue: OwnedQueue, held: Held, settler: Settler, clock: Clock, sweeping: Callable[[], bool]
    ) -> None:
        self._queue = queue
        self._held = held
        self._settler = settler
        self._clock = clock
        self._sweeping = sweeping
        self.routing = Routing()
        self.next_look = 0.0
        """When something may be due (wall clock, seconds)."""
        self.crowded = False
        """Whether due events were passed over because their lane had no room."""
        self._crowded_this_round = False
        self._after = (0, 0)

    def look_at(self, moment: float = 0.0) -> None:
        """Something may be due at this moment (wall clock, seconds)."""
        self.next_look = min(self.next_look, moment)

    async def step(self) -> bool:
        """Looks through one page; whether anything came of it."""
        wall = self._clock.wall()
        if wall < self.next_look:
            return False
        routing = self.routing
        self._held.begin_read()
        try:
            page = await self._queue.due(self._after, int(wall * 1000), PAGE)
            if routing is not self.routing:
                return False
            # A probe is better made with an event that has not failed yet, if there may be one.
            sweeping = self._sweeping()
            rooms = {lane: 0 if not lane.open and (lane.backlog or sweeping) else lane.room() for lane in routing.lanes}
            taken = await self._take(page, rooms)
        finally:
            self._held.end_read()
        if len(page) == PAGE:
            self._after = (page[-1].due, page[-1].id)
            return True
        self.next_look = wall + ROUND
        if not page and self._after == (0, 0):
            next_due = await self._queue.next_due()
            if next_due is None:
                self.next_look = FAR
            elif next_due / 1000 > wall:  # else its event is gone, and it with the next upkeep
                self.next_look = next_due / 1000
        self.crowded, self._crowded_this_round, self._after = self._crowded_this_round, False, (0, 0)
        return taken

    async def _take(self, page: Sequence[DuePlace], rooms: dict[Lane, int]) -> bool:
        wanted: dict[int, Lane] = {}
        for place in page:
            if not self._held.admits(place.id):
                continue
            match self.routing.way(place.event_type, place.mail_class):
                case Lane() as lane:
                    if rooms[lane] > 0:
                        rooms[lane] -= 1
                        wanted[place.id] = lane
                    elif lane.open:
                        self._crowded_this_round = True
                case Drop():
                    self._held.take_id(place.id)
                    self._settler.dropped(place.id)
                case _:
                    pass
        if not wanted:
            return False
        taken = False
        for row in await self._queue.fetch(list(wanted)):
            if self._held.admits(row.id):
                if not wanted[row.id].offer_old((row,)):
                    taken = True
                elif wanted[row.id].open:
                    self._crowded_this_round = True
        return taken

    async def find_probe(self, lane: Lane) -> None:
        """A lane that only has events that failed, none of them due, may probe with one of them."""
        after = (0, 0)
        self._held.begin_read()
        try:
            while page := await self._queue.due(after, FAR, PAGE):
                mine = [
                    p for p in page if self._held.admits(p.id) and self.routing.way(p.event_type, p.mail_class) is lane
                ]
                if mine:
                    await self._take(mine[:1], {lane: lane.room()})
                    lane.pump()
                    return
                after = (page[-1].due, page[-1].id)
        finally:
            self._held.end_read()
        if not self._settler.busy:
            lane.deferred = 0  # people deleted them

    async def rerouted(self, before: Sequence[Routing]) -> list[int]:
        """Deferred events that the plan in force leads elsewhere than one before: their wait has lost its reason."""
        ids: list[int] = []
        after = (0, 0)
        while page := await self._queue.due(after, FAR, PAGE):
            for p in page:
                now = self.routing.way(p.event_type, p.mail_class)
                if isinstance(now, Lane | Drop) and any(r.way(p.event_type, p.mail_class) != now for r in before):
                    ids.append(p.id)
            after = (page[-1].due, page[-1].id)
        return ids
