"""A process that owns a queue: what records, what delivers, and what people ask it, put together.

`mailvane run` and `mailvane processor` are this, and the API in front of it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from mailvane.clock import Clock, SystemClock, system_chance
from mailvane.configuration.places import places_of
from mailvane.configuration.secrets import is_reference, resolve_secret
from mailvane.configuration.settings import Settings
from mailvane.configuration.watch import LegacyFile
from mailvane.destinations.addresses import Policy, SystemResolver
from mailvane.destinations.contract import Destination, HttpPost
from mailvane.destinations.dial import Limits
from mailvane.destinations.http import HttpDestination
from mailvane.errors import EventRejected, QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm
from mailvane.operations.acknowledging import Acknowledged, record_all
from mailvane.operations.acts import Acts
from mailvane.operations.inspection import Inspection
from mailvane.operations.metrics import Metrics, readings_of
from mailvane.operations.plans import LegacyPlans
from mailvane.operations.routes import PAUSED, paused_in, routes_of
from mailvane.operations.status import Status, status
from mailvane.processor.plan import Plan
from mailvane.processor.run import Processor, RouteStatus
from mailvane.queue.ballast import Ballast
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.ownership import Lock
from mailvane.queue.reading import SQLiteReader
from mailvane.recording.intake import Intake
from mailvane.recording.switches import Switches

T = TypeVar("T")

SUMMARY_EVERY = 60.0

log = logging.getLogger("mailvane")


class Service:
    """See the module. Made and ended in one event loop: `start`, then `deliver` in a task, then `stop`."""

    def __init__(
        self, settings: Settings, lock: Lock, clock: Clock | None = None, limits: Limits | None = None
    ) -> None:
        """`limits`: the deadlines of attempts, where they are not the usual ones."""
        self.settings = settings
        self._limits = limits
        self.clock: Clock = clock or SystemClock()
        self.metrics = Metrics()
        self._lock = lock
        places = places_of(settings)
        self.queue = SQLiteQueue(places.database, Ballast(places.ballast), asyncio.get_running_loop())
        self._background: set[asyncio.Task[None]] = set()
        self.intake: Intake | None = None
        self.plans: LegacyPlans | None = None
        self.processor: Processor | None = None
        self.acts = Acts(self.queue, self.clock, self.inspect, lambda: self.processor, lambda: self._plan)

    async def start(self, deliver: bool = True, config: LegacyFile | None = None) -> None:
        """Gets ready to record, and with `deliver` to deliver; `config` stands for the usual legacy file."""
        switches = Switches(self.settings.control_directory, await self.queue.kept("switches"), self.clock)
        self.intake = Intake(switches, self.settings.server_id, self.clock, lambda state: self._keep("switches", state))
        self.intake.gate()
        for problem in switches.problems:
            log.warning("%s", problem)
        # A file given for this process alone is never the last good one of others.
        keep = self._keep_legacy if config is None else _forget
        file = config or LegacyFile(self.settings.legacy_file, await self.queue.kept("legacy"), self.clock)
        self.plans = LegacyPlans(file, keep)
        if deliver:
            paused = paused_in(await self.queue.kept(PAUSED))
            self.processor = Processor(
                self.queue, self.plans, self._connect, self.clock, system_chance(), self.metrics.tally, paused
            )
        else:
            self.plans.look()
        self.queue.on_commit = self._committed

    def _connect(self, target: HttpPost) -> Destination:
        s = self.settings
        return HttpDestination(
            target,
            epoch=self.queue.epoch,
            policy=Policy(s.destination_networks, s.allow_networks, s.deny_networks),
            resolver=SystemResolver(),
            clock=self.clock,
            reveal=lambda url: resolve_secret(url) if is_reference(url) else url,
            tls_ca_file=str(s.tls_ca_file or ""),
            limits=self._limits,
        )

    def _committed(self, first: int, events: Sequence[StoredForm]) -> None:
        self.metrics.recorded(len(events))
        if self.processor is not None:
            self.processor.committed(first, events)

    def _keep_legacy(self, text: str) -> None:
        self._keep("legacy", text)

    def _keep(self, name: str, value: str) -> None:
        async def keep() -> None:
            try:
                await self.queue.keep(name, value)
            except QueueUnavailable as e:
                log.error("what must survive a restart could not be kept: %s", e)

        task = asyncio.get_running_loop().create_task(keep())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def record(self, events: Sequence[Event | EventRejected], token: str = "") -> list[Acknowledged]:
        """See `record_all`."""
        assert self.intake is not None
        return await record_all(self.intake, self.queue, events, token)

    # Delivering.

    async def deliver(self, once: bool = False) -> None:
        """Delivers until `stop`, or with `once` until nothing is left to do."""
        assert self.processor is not None
        await self.processor.run(once)

    async def tell_summaries(self) -> None:
        """A line a minute, for the log."""
        last = (0, 0, 0)
        while True:
            await asyncio.sleep(SUMMARY_EVERY)
            now = (self.metrics.recorded_total, self.metrics.delivered_total, self.metrics.failed_total)
            try:
                report = await self.status()
            except QueueUnavailable as e:
                log.error("no summary: %s", e)
                continue
            log.info(
                "summary: recorded %d, delivered %d, failed %d, waiting %d, oldest %.0f s",
                *(n - before for n, before in zip(now, last, strict=True)),
                report.queue.events,
                report.queue.oldest_seconds or 0.0,
            )
            last = now

    async def stop(self, grace: float) -> None:
        """Ends within `grace` seconds and a little, with nothing lost."""
        if self.processor is not None:
            await self.processor.stop(grace)
        if self._background:
            await asyncio.wait(self._background, timeout=1.0)
        await self.queue.close()
        self._lock.release()

    # What people ask.

    @property
    def trouble(self) -> str:
        """Why nothing can be recorded now; "" when all is well."""
        if self.queue.broken:
            return self.queue.broken
        if self.queue.full:
            return "the disk is full: recording and delivery wait until there is room"
        return self.processor.trouble if self.processor is not None else ""

    async def status(self) -> Status:
        """The status report."""
        assert self.plans is not None and self.intake is not None
        return status(
            await self.queue.books(),
            await self.queue.oldest(),
            await self.queue.deferred(),
            self.clock.wall(),
            await self.routes(),
            self.plans.state,
            self.trouble,
            [*self.intake.switches.problems, *self.plans.warnings],
            delivering=self.processor is not None,
        )

    async def routes(self) -> list[RouteStatus]:
        """The destinations as people see them."""
        if self.processor is not None:
            return self.processor.routes()
        return await self.inspect(lambda inspection: routes_of(inspection.reader, inspection.plan))

    async def exposition(self) -> bytes:
        """The metrics, in Prometheus's text format."""
        return self.metrics.exposition(readings_of(await self.status()))

    async def inspect(self, read: Callable[[Inspection], T]) -> T:
        """Reads the queue for people, beside the event loop. Raises QueueUnavailable."""
        flying = self.processor.in_flight() if self.processor is not None else set[int]()
        plan = self._plan

        def work() -> T:
            reader = SQLiteReader(self.queue.path)
            try:
                return read(Inspection(reader, plan, self.queue.epoch, flying))
            finally:
                reader.close()

        try:
            return await asyncio.to_thread(work)
        except RuntimeError as e:
            if "thread" not in str(e):
                raise
            raise QueueUnavailable("no thread can be started for this now: the limit of this user's is reached") from e

    @property
    def _plan(self) -> Plan:
        """The plan in force; with nobody delivering, the one that would be."""
        if self.processor is not None:
            return self.processor.plan
        return (self.plans.plan if self.plans is not None else None) or Plan()


def _forget(text: str) -> None:
    """Keeps nothing."""
