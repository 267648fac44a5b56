"""The Event Processor: reads the configuration before each run, reads the queue, delivers, settles.

A *run* is one round of the loop below: it starts when something was committed, came due, or has room again; once a
second it starts in any case, as a safety net.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from mailvane.clock import Chance, Clock
from mailvane.destinations.contract import Destination, LogFile, Target
from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.processor.beside import UNSEEN, Beside, Log
from mailvane.processor.held import Held
from mailvane.processor.lane import Counts, Lane
from mailvane.processor.lanes import Lanes, RouteStatus
from mailvane.processor.plan import Plan
from mailvane.processor.reader import Reader
from mailvane.processor.routing import Router
from mailvane.processor.settle import Settler
from mailvane.processor.upkeep import Upkeep
from mailvane.processor.ways import Routing
from mailvane.queue.contract import Filter, OwnedQueue, Row, Settlement

SAFETY_NET = 1.0
ONCE_PATIENCE = 5.0
"""Seconds for which a single run waits until outcomes can be written again: there is another run later."""
CUT_OFF_WITHIN = 2.0

log = logging.getLogger("mailvane.processor")


class PlanSource(Protocol):
    """Where the plan comes from."""

    def look(self) -> Plan | None:
        """The plan to go by from now on, if it is another than at the last look."""
        ...


class Processor:
    """Delivers what is in a queue that this process owns. `connect` makes the destination that a target names, `counts`
    gives the counters of a destination by its name; `open_log` makes the log file of a plan that has one beside its
    destinations."""

    def __init__(
        self,
        queue: OwnedQueue,
        plans: PlanSource,
        connect: Callable[[Target], Destination],
        clock: Clock,
        chance: Chance,
        counts: Callable[[str], Counts],
        paused: Iterable[str] = (),
        open_log: Callable[[LogFile], Log] | None = None,
    ) -> None:
        self._queue = queue
        self._plans = plans
        self._connect = connect
        self._open_log = open_log
        self._clock = clock
        self._chance = chance
        self._counts = counts
        self._held = Held()
        self._settler = Settler(queue, self._held, clock, self._settled)
        self._reader = Reader(queue, self._held, self._settler, clock)
        self._retries = self._reader.retries
        self._upkeep = Upkeep(queue, clock, self._retries.look_at)
        self._lanes = Lanes(self._lane, paused)
        self._plan: Plan = Plan()
        self._next_plan: Plan | None = None
        self._nudge = asyncio.Event()
        self.begun = asyncio.Event()
        """Set once a plan is in force: from then on the destinations are there that people name."""
        self._stopping = False
        self._next_look_up = 0.0
        self._came_from: list[Routing] = []  # routings before the one in force, whose deferred events are to be moved
        self._mark = 0
        self._next_move = 0.0

    # What others call.

    def committed(self, first: int, events: Sequence[StoredForm]) -> None:
        """Events were just committed, with consecutive ids from `first`: they go out at once."""
        self._look_at_plan()
        if self._next_plan is not None:  # what comes after an edit goes by it
            self._reader.advance(first + len(events) - 1)
            self._nudge.set()
        else:
            self._reader.committed(first, events)

    def woken(self, upto: int) -> None:
        """Others committed events: all ids up to this one are there to be read."""
        self._reader.advance(upto)
        self._nudge.set()

    async def run(self, once: bool = False) -> None:
        """Delivers until `stop`; with `once`, until nothing is left that can be delivered now.

        Raises OwnershipLost when another process has taken the queue; with `once`, QueueUnavailable when it cannot be
        read, or cannot be written for ONCE_PATIENCE seconds.
        """
        self._next_look_up = well = self._clock.monotonic()
        while not self._stopping:
            self._nudge.clear()
            worked = False
            try:
                worked = await self._round()
                self.begun.set()
            except QueueUnavailable as e:
                if once:
                    raise
                log.error("the queue cannot be read: %s", e)
            if self._settler.lost is not None:
                self._lanes.stop()
                raise self._settler.lost
            if not self._settler.trouble:
                well = self._clock.monotonic()
            elif once and self._clock.monotonic() - well > ONCE_PATIENCE:
                raise QueueUnavailable(
                    f"{self._settler.trouble}. What is in the queue waits for the next run; what was answered after "
                    "this began is sent again then"
                )
            if once and not worked and self._nothing_left():
                break
            if once and self._cannot_begin():
                raise QueueUnavailable(f"nothing was delivered: {self._settler.trouble}")
            if worked:
                await asyncio.sleep(0)
            else:
                await self._wait()

    async def _round(self) -> bool:
        self._look_at_plan()
        if self._next_plan is not None:
            plan, self._next_plan = self._next_plan, None
            await self._adopt(plan)
        now = self._clock.monotonic()
        if self._came_from and self._settler.passed(self._mark) and now >= self._next_move:
            self._next_move = now + SAFETY_NET
            await self._move_deferred()
        await self._upkeep.step(self._reader.routing)
        if now >= self._next_look_up:
            self._next_look_up = now + SAFETY_NET
            await self._reader.look_up()
        worked = await self._reader.step()
        for lane in self._lanes:
            if lane.wants_probe and lane.deferred and not lane.backlog and not self._reader.sweeping:
                await self._retries.find_probe(lane)
        await self._lanes.close_retired()
        return worked

    async def _wait(self) -> None:
        wait = SAFETY_NET
        if not self._settler.trouble:  # else nothing goes out, whatever is due
            wait = self._next_in(wait)
        timer = asyncio.get_running_loop().call_later(wait, self._nudge.set)
        await self._nudge.wait()
        timer.cancel()

    def _next_in(self, wait: float) -> float:
        """Seconds until something is due or a probe may go, at most `wait`."""
        for lane in self._lanes:
            # One that may go already and has not gone finds nothing to go with.
            if (probe := lane.probe_in()) and (lane.backlog or lane.deferred or self._reader.sweeping):
                wait = min(wait, probe)
        return max(0.001, min(wait, self._retries.next_look - self._clock.wall()))

    def _nothing_left(self) -> bool:
        flying = any(lane.in_flight or (lane.waiting and lane.open) for lane in self._lanes.all())
        due_now = self._retries.next_look <= self._clock.wall() and any(
            lane.open and lane.deferred for lane in self._lanes
        )
        return not (flying or due_now or self._came_from or self._settler.busy) and self._reader.exhausted

    def _cannot_begin(self) -> bool:
        """Whether the log file beside the destinations could not be opened, so that nothing was attempted."""
        settler = self._settler
        unseen = settler.beside is not None and not settler.beside.seen and settler.trouble not in {"", UNSEEN}
        return unseen and not len(self._held)

    async def stop(self, grace: float) -> None:
        """Sends nothing more, waits `grace` seconds for what is on its way, writes what became of it."""
        self._stopping = True
        self._nudge.set()
        lanes = self._lanes.all()
        self._lanes.stop()
        end = self._clock.monotonic() + grace
        while any(lane.in_flight for lane in lanes) and self._clock.monotonic() < end:
            self._nudge.clear()
            timer = asyncio.get_running_loop().call_later(end - self._clock.monotonic(), self._nudge.set)
            await self._nudge.wait()
            timer.cancel()
        for lane in lanes:
            await lane.close()
        await self._settler.flush()
        if self._settler.beside is not None:
            await self._settler.beside.close()

    async def abandon(self, why: OwnershipLost) -> None:
        """Ends at once: another process has the queue. What is on its way is cut off, what became of it forgotten."""
        self._stopping = True
        self._settler.abandon(why)
        self._lanes.stop()
        closing = [asyncio.ensure_future(lane.close()) for lane in self._lanes.all()]
        if self._settler.beside is not None:
            closing.append(asyncio.ensure_future(self._settler.beside.close()))
        if closing:  # one that does not let go keeps nobody
            await asyncio.wait(closing, timeout=CUT_OFF_WITHIN)
        self._nudge.set()

    # The plan.

    def _look_at_plan(self) -> None:
        if (plan := self._plans.look()) is not None:
            self._next_plan = plan

    async def _adopt(self, plan: Plan) -> None:
        before = self._reader.routing
        if plan == self._plan and before.router is not None:
            return
        await self._write_beside(plan.logfile)
        ways = self._lanes.adopt(plan)
        self._plan = plan
        self._reader.adopt(Routing(Router(plan, ways), list(self._lanes)))
        if before.router is not None:
            # Failures that are not on disk yet were told to wait under the plan before: they are looked at afterwards.
            self._came_from.append(before)
            self._mark = self._settler.mark()
            self._next_move = 0.0
        await self._upkeep.census(self._reader.routing)
        log.info("plan in force: %s", ", ".join(route.name for route in plan.routes) or "no destinations")

    async def _move_deferred(self) -> None:
        """Makes due at once what failed under an earlier plan and has another way now."""
        if ids := await self._retries.rerouted(self._came_from):
            await self._queue.retry(Filter(ids=tuple(ids)), int(self._clock.wall() * 1000))
            self._retries.look_at()
        self._came_from.clear()
        await self._upkeep.census(self._reader.routing)

    async def _write_beside(self, target: LogFile | None) -> None:
        """What is settled from now on is written to this log file, too."""
        before = self._settler.beside
        if target == (before.target if before else None):
            return
        if target is None:
            self._settler.write_beside(None)
        else:
            assert self._open_log is not None
            self._settler.write_beside(Beside(target, self._open_log(target), self._queue))
        if before is not None:
            await before.close()

    def _lane(self, name: str, target: Target) -> Lane:
        return Lane(
            name,
            target,
            self._connect(target),
            self._held,
            self._settler,
            self._clock,
            self._chance,
            self._counts(name),
            self._leads_to,
            self._hungry,
            self._changed,
        )

    def _leads_to(self, lane: Lane, row: Row) -> bool:
        return self._reader.routing.way(row.event_type, row.mail_class) is lane

    def _hungry(self, lane: Lane) -> None:
        if self._retries.crowded:
            self._retries.look_at()
        elif not (self._stopping or lane.backlog or self._reader.sweeping):
            return
        self._nudge.set()

    def _changed(self) -> None:
        self._retries.look_at()
        self._nudge.set()

    def _settled(self, what: Settlement) -> None:
        if what.failed:
            self._retries.look_at(min(failed.due for failed in what.failed) / 1000)
        self._nudge.set()

    # What people ask for.

    def retry(self) -> None:
        """Deferred events were made due: looks at them now, and closes open circuits."""
        self._retries.look_at()
        for lane in self._lanes:
            lane.retry()
        self._nudge.set()

    async def replay(self, ids: Sequence[int]) -> list[int]:
        """Puts delivered events that are kept back, at most REPLAY_LIMIT, and delivers them again by the plan in force;
        returns those that were. Raises QueueUnavailable."""
        back = await self._queue.replay(ids)
        self._reader.came_back(back)
        self._nudge.set()
        return back

    async def pause(self, name: str) -> list[str]:
        """Pauses the destinations of this name (`__legacy__`: all), over restarts too; returns their names."""
        names = self._lanes.pause(name)
        await self._keep_paused()
        return names

    async def resume(self, name: str) -> list[str]:
        """Resumes the destinations of this name (`__legacy__`: all); returns their names."""
        names = self._lanes.resume(name)
        await self._keep_paused()
        return names

    async def _keep_paused(self) -> None:
        await self._queue.keep("paused", msgspec.json.encode(sorted(self._lanes.paused)).decode())

    def in_flight(self) -> set[int]:
        """Ids of what is on its way now."""
        return self._lanes.in_flight()

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._plan

    @property
    def trouble(self) -> str:
        """Why nothing is delivered at all; "" when all is well."""
        return self._settler.trouble

    def routes(self) -> list[RouteStatus]:
        """The destinations of the plan, as people see them."""
        return self._lanes.routes()
