"""Reads the queue and hands each row to the lane that the plan leads it to.

New events come first, handed over in memory as they are committed: they move the *head*. What lies below the head and
was not handed over is looked through from the bottom, the *sweep*, once for all lanes; a lane that has no room then
keeps the place in its own *backlog* and looks it through itself when it has. What failed is found by `retries`.

Whatever is found is a hint. A row is taken only if it is there, not held, and not held since the read began; so looking
twice does no harm, and after a restart or an edit everything is simply looked through again from the bottom.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from mailvane.clock import Clock
from mailvane.events.codecs import StoredForm
from mailvane.processor.held import Held
from mailvane.processor.lane import Lane
from mailvane.processor.plan import Drop
from mailvane.processor.ranges import Ranges
from mailvane.processor.retries import Retries
from mailvane.processor.settle import Settler
from mailvane.processor.ways import Routing
from mailvane.queue.contract import OwnedQueue, Place, Row

PAGE = 256
SMALLEST_PAGE = 16
"""Rows that are read at once however little room there is: looking through what is not wanted must get on."""
SCAN = 4_096


class Reader:
    """See the module. `step` does one bounded piece of work; the processor calls it as long as there is any."""

    def __init__(self, queue: OwnedQueue, held: Held, settler: Settler, clock: Clock) -> None:
        self.retries = Retries(queue, held, settler, clock, lambda: self.sweeping)
        self._queue = queue
        self._held = held
        self._settler = settler
        self._clock = clock
        self.routing = Routing()
        self._head = 0
        self._sweep = Ranges()
        self._sweep_dense = True
        self._came_back: list[int] = []

    @property
    def sweeping(self) -> bool:
        """Whether there are events that were neither handed over nor looked through yet."""
        return bool(self._sweep or self._came_back)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to do for lanes that do not stand (for a single run)."""
        waits = any(lane.backlog and lane.takes_new for lane in self.routing.lanes)
        return not (self.sweeping or self.retries.crowded or waits)

    def adopt(self, routing: Routing) -> None:
        """Another plan: everything that is not held is looked through again, from the bottom."""
        self.routing = self.retries.routing = routing
        for lane in routing.lanes:
            lane.backlog.clear()
        self._sweep.clear()
        self._sweep.add(0, self._head)
        self._sweep_dense = True
        self.retries.look_at()

    async def look_up(self) -> None:
        """Notices what was recorded without being handed over."""
        self.advance(await self._queue.last_id())

    def advance(self, upto: int) -> None:
        """There are ids up to this one: those that nobody handed over are for the sweep."""
        if upto > self._head:
            self._sweep.add(self._head, upto)
            self._head = upto

    def committed(self, first: int, events: Sequence[StoredForm]) -> None:
        """Events that were just committed, with consecutive ids from `first`."""
        self.advance(first - 1)
        if first <= self._head:  # the sweep has this place already
            return
        way, held = self.routing.way, self._held
        rows: dict[Lane, list[Row]] = {}
        event_id = first
        for e in events:
            match way(e.event_type, e.mail_class):
                case Lane() as lane:
                    row = Row(event_id, e.event_type, e.mail_class, e.valued, e.body, e.extra)
                    rows.setdefault(lane, []).append(row)
                case Drop():
                    held.take_id(event_id)
                    self._settler.dropped(event_id)
                case _:
                    pass
            event_id += 1
        self._head = event_id - 1
        for lane, offered in rows.items():
            for row in lane.offer_fresh(offered):
                lane.backlog.add(row.id - 1, row.id)
            lane.pump()

    def came_back(self, ids: Sequence[int]) -> None:
        """Events were put back that lie below what was looked through."""
        self._came_back += ids

    async def step(self) -> bool:
        """One piece of work on each of what there is; whether anything came of it."""
        if self._settler.trouble:
            return False
        # Only now: a page that is being read does not have them, and would pass over their place.
        for event_id in self._came_back:
            self._sweep.add(event_id - 1, event_id)
        self._came_back.clear()
        worked = await self._look_through_sweep()
        for lane in self.routing.lanes:
            if lane.window.stale:
                await self._look_up_again(lane)
            if await self._catch_up(lane):
                worked = True
                await asyncio.sleep(0)  # many lanes that catch up must not keep what is new from going out
        worked |= await self.retries.step()
        for lane in self.routing.lanes:
            lane.pump()
        return worked

    async def _look_through_sweep(self) -> bool:
        if not self._sweep or self._held.full:
            return False
        rooms = {
            lane: room
            for lane in self.routing.lanes
            if (room := lane.room()) > 0 and (lane.takes_new or lane.wants_probe)
        }
        drops = self.routing.drops
        if not rooms and not drops:
            if all(not lane.open for lane in self.routing.lanes):
                # Everybody stands, or nobody is there: the lanes keep the place, and the sweep has nothing to do.
                after, upto = self._sweep.first()
                for lane in self.routing.lanes:
                    lane.backlog.add(after, upto)
                self._sweep.passed(after, upto)
                return True
            return False

        way_of = self.routing.way

        def judge(place: Place | Row) -> Lane | bool | None:
            match way_of(place.event_type, place.mail_class):
                case Lane() as lane:
                    if left := rooms.get(lane, 0):
                        rooms[lane] = left - 1
                        return lane
                    lane.backlog.add(place.id - 1, place.id)
                case Drop():
                    if self._held.full:
                        return False
                    self._held.take_id(place.id)
                    self._settler.dropped(place.id)
                case _:
                    pass
            return None

        room = PAGE if drops else max(rooms.values())
        look = await self._look_through(self._sweep, self._sweep_dense, room, judge, lambda lane: rooms.get(lane, 0))
        self._sweep_dense = self._sweep_dense if look.dense is None else look.dense
        return True

    async def _catch_up(self, lane: Lane) -> bool:
        room = lane.room()
        if not lane.backlog or room <= 0 or self._held.full or not (lane.takes_new or lane.wants_probe):
            return False

        def judge(place: Place | Row) -> Lane | bool | None:
            nonlocal room
            if self.routing.way(place.event_type, place.mail_class) is not lane:
                return None
            room -= 1
            return lane if room >= 0 else False

        look = await self._look_through(lane.backlog, lane.dense, room, judge, lambda way: room if way is lane else 0)
        lane.dense = lane.dense if look.dense is None else look.dense
        return look.worked

    def _only_lane(self, places: Sequence[Place | Row]) -> Lane | None:
        """The lane that all of these are for, if there is one."""
        kinds = {(place.event_type, place.mail_class) for place in places}
        ways = {self.routing.way(*kind) for kind in kinds}
        only = ways.pop() if len(ways) == 1 else None
        return only if isinstance(only, Lane) else None

    async def _look_up_again(self, lane: Lane) -> None:
        """Rows that waited in memory for long: a person may have deleted some."""
        ids, at = lane.window.ids(), self._clock.monotonic()
        lane.window.looked_up(ids, await self._queue.still_there(ids), at)

    async def _look_through(
        self,
        ranges: Ranges,
        dense: bool,
        room: int,
        judge: Callable[[Place | Row], Lane | bool | None],
        room_of: Callable[[Lane], int],
    ) -> "_Look":
        """Looks through the lowest stretch, one page. `judge` gives the lane that takes a row, None for nobody, False
        to stop before it; `room_of` says how many rows a lane takes, so that it need not be asked for each.
        """
        after, upto = ranges.first()
        routing = self.routing
        rows: dict[Lane, list[Row]] = {}
        wanted: dict[int, Lane] = {}
        refused = 0
        self._held.begin_read()
        try:
            size = min(max(room, SMALLEST_PAGE), PAGE)
            found: Sequence[Place | Row] = await (
                self._queue.read(after, size) if dense else self._queue.scan(after, SCAN)
            )
            if routing is not self.routing:
                return _Look(True)
            inside = found if not found or found[-1].id <= upto else [p for p in found if p.id <= upto]
            passed, seen, taken = found[-1].id if found and len(inside) == len(found) else upto, len(inside), 0
            admitted = self._held.admitted(inside)
            only = self._only_lane(admitted) if dense else None
            if only is not None and len(admitted) <= room_of(only):
                rows[only] = cast("list[Row]", admitted)
                admitted, taken = [], len(admitted)
            for place in admitted:
                lane = judge(place)
                if lane is False:
                    passed, seen = place.id - 1, sum(1 for p in inside if p.id < place.id)
                    break
                if isinstance(lane, Lane):
                    taken += 1
                    if not isinstance(place, Row):
                        wanted[place.id] = lane
                    elif lane in rows:
                        rows[lane].append(place)
                    else:
                        rows[lane] = [place]
            ranges.passed(after, passed)
            for row in await self._queue.fetch(list(wanted)) if wanted else ():
                if routing is not self.routing:
                    return _Look(True)
                if self._held.admits(row.id):
                    rows.setdefault(wanted[row.id], []).append(row)
            for lane, offered in rows.items():
                for row in lane.offer_old(offered):
                    refused += 1
                    lane.backlog.add(row.id - 1, row.id)
        finally:
            self._held.end_read()
        # A page of which everything was refused will be refused again until there is room.
        worked = passed > after and not (0 < refused == taken)
        return _Look(worked, taken * 2 >= seen if seen >= SMALLEST_PAGE else None)


@dataclass(frozen=True)
class _Look:
    """What came of looking through a page: whether to go on, and whether it was dense: most of it taken (None: too
    short to tell)."""

    worked: bool
    dense: bool | None = None
