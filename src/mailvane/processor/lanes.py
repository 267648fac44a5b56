"""The lanes of the plan in force, one for each destination, and those that left it with something still on its way."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mailvane.destinations.contract import Target
from mailvane.processor.held import HELD_BYTES, HELD_EVENTS
from mailvane.processor.lane import Lane
from mailvane.processor.plan import LEGACY, Drop, Leave, Plan
from mailvane.processor.states import DestinationState
from mailvane.processor.ways import Way

SMALLEST_SHARE = 32
"""Events that a lane may have in hand, however many there are."""


@dataclass(frozen=True)
class RouteStatus:
    """A route as people see it."""

    destination: str
    state: DestinationState
    last_error: str
    deferred: int
    in_flight: int


class Lanes:
    """`make` makes the lane of a destination, given its name; `paused` are the names of those that people paused."""

    def __init__(self, make: Callable[[str, Target], Lane], paused: Iterable[str]) -> None:
        self.paused = set(paused)
        self._make = make
        self._lanes: dict[Target, Lane] = {}
        self._retired: list[Lane] = []

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def all(self) -> list[Lane]:
        """Also those that left the plan."""
        return [*self._lanes.values(), *self._retired]

    def adopt(self, plan: Plan) -> list[Way]:
        """Another plan: what each of its routes leads to. A lane whose destination stays is the same; all give back
        what waits in memory."""
        targets = {route.target: route.name for route in plan.routes if not isinstance(route.target, Drop | Leave)}
        for target in [t for t in self._lanes if t not in targets]:
            lane = self._lanes.pop(target)
            lane.stop()
            self._retired.append(lane)
        for target, name in targets.items():
            if target not in self._lanes:
                self._lanes[target] = self._make(name, target)
            lane = self._lanes[target]
            lane.name = name
            lane.give_back()
            lane.configured()
            lane.share = max(SMALLEST_SHARE, HELD_EVENTS // len(targets))
            lane.share_of_bytes = HELD_BYTES // len(targets)
            if name in self.paused:
                lane.pause()
        return [r.target if isinstance(r.target, Drop | Leave) else self._lanes[r.target] for r in plan.routes]

    async def close_retired(self) -> None:
        """Lets go of those that left and have nothing on its way any more."""
        for lane in [lane for lane in self._retired if not lane.in_flight]:
            self._retired.remove(lane)
            await lane.close()

    def stop(self) -> None:
        """Nothing more is sent."""
        for lane in self.all():
            lane.stop()

    def pause(self, name: str) -> list[str]:
        """Pauses the destinations of this name (`__legacy__`: all); returns their names."""
        for lane in (chosen := self._named(name)):
            lane.pause()
        names = {lane.name for lane in chosen}
        self.paused |= names
        return sorted(names)

    def resume(self, name: str) -> list[str]:
        """Resumes the destinations of this name (`__legacy__`: all); returns their names."""
        for lane in (chosen := self._named(name)):
            lane.resume()
        names = {lane.name for lane in chosen}
        # With all of them, those are meant too that were paused and are in no plan now.
        self.paused = set[str]() if name == LEGACY else self.paused - names
        return sorted(names)

    def _named(self, name: str) -> list[Lane]:
        return [lane for lane in self if name in {LEGACY, lane.name}]

    def in_flight(self) -> set[int]:
        """Ids of what is on its way now."""
        return {i for lane in self.all() for i in lane.in_flight}

    def routes(self) -> list[RouteStatus]:
        """The destinations of the plan, as people see them."""
        return [
            RouteStatus(lane.name, lane.state, lane.last_error, lane.deferred, len(lane.in_flight)) for lane in self
        ]
