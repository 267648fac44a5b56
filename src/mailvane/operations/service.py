"""A long-running process at a queue: what records, what delivers, and what people ask it, put together.

`mailvane run` and `mailvane processor` are this, and the API in front of it. A queue in SQLite belongs to it for its
life; at one in PostgreSQL it records beside others, and delivers when it is its turn (`turns`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from mailvane.clock import Clock, SystemClock, system_chance
from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings
from mailvane.configuration.text import SIZE
from mailvane.configuration.watch import LegacyFile
from mailvane.destinations.dial import Limits
from mailvane.errors import EventRejected, QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm
from mailvane.operations.acknowledging import Acknowledged, record_all
from mailvane.operations.acts import Acts
from mailvane.operations.connecting import Connecting
from mailvane.operations.inspection import Inspection, Rows
from mailvane.operations.metrics import Metrics, readings_of
from mailvane.operations.plans import LegacyPlans, kept_plan
from mailvane.operations.queues import ProcessQueue
from mailvane.operations.routes import PAUSED, paused_in, routes_of
from mailvane.operations.status import Status, status
from mailvane.processor.lanes import RouteStatus
from mailvane.processor.plan import Plan
from mailvane.processor.run import Processor
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import OwnedQueue
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.ownership import Lock
from mailvane.queue.reading import SQLiteReader
from mailvane.recording.intake import Intake
from mailvane.recording.regular import Unreadable, read_regular
from mailvane.recording.switches import Switches

if TYPE_CHECKING:
    from mailvane.operations.at_postgresql import AtPostgreSQL
    from mailvane.queue.postgresql import OwnedPostgreSQLQueue

T = TypeVar("T")

SUMMARY_EVERY = 60.0

log = logging.getLogger("mailvane")


class ClosedRows(Rows, Protocol):
    """Rows that a thread reads and closes."""

    def close(self) -> None: ...


class Service:
    """See the module. Made and ended in one event loop: `start`, then `deliver` in a task, then `stop`."""

    def __init__(
        self, settings: Settings, lock: Lock, clock: Clock | None = None, limits: Limits | None = None
    ) -> None:
        """`lock` is what `take_ownership` gave; `limits`: the deadlines of attempts, where they are not the usual ones.

        Raises what opening a SQLite queue raises; BadAddress, SecretMissing.
        """
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.metrics = Metrics()
        self._lock = lock
        self._background: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None
        self.intake: Intake | None = None
        self.plans: LegacyPlans | None = None
        self.processor: Processor | None = None
        self.more_problems: Callable[[], Sequence[str]] = tuple
        """What others that work for this process find strange."""
        self._config: LegacyFile | None = None
        self._file_before = b""
        self._postgresql: AtPostgreSQL | None = None
        self.queue: ProcessQueue
        replay: Callable[[Sequence[int]], Awaitable[list[int]]]
        if settings.queue_url is None:
            self.queue = self._owned = owned = self._sqlite_queue()
            replay, elsewhere = owned.replay, None
            self._rows: Callable[[], ClosedRows] = lambda: SQLiteReader(owned.path)
        else:
            at = self._postgresql = self._at_postgresql(settings.queue_url.read())
            self.queue, self._owned = at.queue, None
            replay, elsewhere = at.elsewhere.replay, at.elsewhere
            self._rows = at.rows
        self._connecting = Connecting(settings, self.clock, lambda: self.queue.epoch, limits)
        self.reopen_logs = self._connecting.reopen_logs
        self.acts = Acts(
            self.queue, self.clock, self.inspect, lambda: self.processor, lambda: self._plan, replay, elsewhere
        )

    def _sqlite_queue(self) -> SQLiteQueue:
        places = places_of(self.settings)
        queue = SQLiteQueue(places.database, Ballast(places.ballast), asyncio.get_running_loop())
        queue.keep_delivered = self.settings.keep_delivered * 1000
        return queue

    def _at_postgresql(self, url: str) -> "AtPostgreSQL":
        from mailvane.operations.at_postgresql import AtPostgreSQL  # a driver that not everybody needs

        command = self._lock.command
        at = AtPostgreSQL(url, command, lambda: self.intake, self._begin_turn, self._turn_changed)
        at.queue.on_moved = self._moved
        return at

    async def start(self, deliver: bool = True, config: LegacyFile | None = None) -> None:
        """Gets ready to record, and with `deliver` to deliver; `config` stands for the usual legacy file.

        Raises QueueUnavailable; it may be called again then.
        """
        if self._postgresql is not None:
            await self._postgresql.queue.open()
        kept, legacy = await self.queue.kept("switches"), await self.queue.kept("legacy")
        switches = Switches(self.settings.control_directory, kept, self.clock)
        switches.studio.take(await self.queue.studio_rows())
        self.intake = Intake(switches, self.settings.server_id, self.clock, lambda state: self._keep("switches", state))
        self.intake.gate()
        for problem in switches.problems:
            if problem != switches.studio.problem:  # which is told by who follows
                log.warning("%s", problem)
        self._config = config
        # A file given for this process alone is never the last good one of others; nor is the file of a process that
        # does not deliver, where another one may.
        mine = config is None and self._owned is not None
        file = config or LegacyFile(self.settings.legacy_file, legacy, self.clock)
        self.plans = LegacyPlans(file, self._keep_legacy if mine else _forget)
        if deliver and self._owned is not None:
            self.processor = self._processor(self._owned, paused_in(await self.queue.kept(PAUSED)))
        else:
            self._file_before = self._legacy_bytes()
            self.plans.look()
        self.queue.on_commit = self._committed
        following = self.intake.follow_studio(self.queue.studio_rows, lambda problem: log.warning("%s", problem))
        self._following = asyncio.get_running_loop().create_task(following)

    def _processor(self, queue: OwnedQueue, paused: Iterable[str]) -> Processor:
        assert self.plans is not None
        connecting = self._connecting
        chance, tally = system_chance(), self.metrics.tally
        return Processor(queue, self.plans, connecting.connect, self.clock, chance, tally, paused, connecting.open_log)

    # Turns at a queue in PostgreSQL.

    async def _begin_turn(self, queue: "OwnedPostgreSQLQueue") -> Processor:
        queue.keep_delivered = self.settings.keep_delivered * 1000
        self.queue.epoch = queue.epoch
        kept, paused = await queue.kept("legacy"), paused_in(await queue.kept(PAUSED))
        if self._config is not None:
            self.plans = LegacyPlans(self._config, _forget)
        else:
            # An edit made while another process delivered is the operator's word; a file that stood there all the
            # time is not: what the other delivered by goes on.
            goes_on = queue.after_another and self._legacy_bytes() == self._file_before
            file = LegacyFile(self.settings.legacy_file, kept, self.clock)
            self.plans = LegacyPlans(file, self._keep_legacy, kept_plan(kept) if goes_on else None, self.clock)
        return self._processor(queue, paused)

    def _turn_changed(self, processor: Processor | None) -> None:
        self.processor = processor
        if processor is None:
            self._file_before = self._legacy_bytes()

    def _legacy_bytes(self) -> bytes:
        try:
            return read_regular(self.settings.legacy_file, SIZE).data
        except Unreadable:
            return b""

    async def look_at_configuration(self) -> None:
        """Once a second, while nobody delivers here: what is told of the configuration is true, and where nobody else
        may deliver the last good one is kept."""
        while True:
            if self.processor is None and self.plans is not None:
                self.plans.look()
            await asyncio.sleep(1.0)

    def _moved(self, first: int, count: int) -> None:
        self.metrics.recorded(count)
        if self.processor is not None:
            self.processor.woken(first + count - 1)

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

    @property
    def waits_for_queue(self) -> bool:
        """Whether the queue may be away now and come back by itself."""
        return self._postgresql is not None

    @property
    def has_lock(self) -> bool:
        """Whether this process has the home to itself: always, with a queue in SQLite."""
        return self._lock.held

    async def record(self, events: Sequence[Event | EventRejected], token: str = "") -> list[Acknowledged]:
        """See `record_all`."""
        assert self.intake is not None
        return await record_all(self.intake, self.queue, events, token)

    async def switch_studio(self, states: Mapping[str, bool]) -> Mapping[str, bool]:
        """Sets Studio's switches of these types, in force when it returns; all that are known. Raises
        QueueUnavailable."""
        assert self.intake is not None
        await self.queue.switch_studio(states)
        studio = self.intake.switches.studio
        studio.take(await self.queue.studio_rows())
        return studio.known

    # Delivering.

    async def deliver(self, once: bool = False) -> None:
        """Delivers until `stop`, or with `once` until nothing is left to do. At PostgreSQL: whenever it is its turn, or
        with `once` now. Raises as Processor.run and Turns.run."""
        if self._postgresql is not None:
            return await self._postgresql.turns.run(once)
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
        if self._postgresql is not None:
            await self._postgresql.turns.stop(grace)
        elif self.processor is not None:
            await self.processor.stop(grace)
        if self._following is not None:
            self._following.cancel()
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
            [*self.intake.switches.problems, *self.plans.warnings, *self.more_problems()],
            in_flight=len(self.processor.in_flight()) if self.processor is not None else None,
            stands_by=self._postgresql.turns.waits if self._postgresql is not None else "",
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
        plan, epoch = self._plan, self.queue.epoch
        elsewhere = self._postgresql is not None and self.processor is None

        def work() -> T:
            with contextlib.closing(self._rows()) as rows:
                if elsewhere:  # whoever delivers goes by what is kept
                    kept = kept_plan(rows.kept("legacy"))
                    return read(Inspection(rows, kept or plan, rows.kept("epoch") or epoch, flying))
                return read(Inspection(rows, plan, epoch, flying))

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
