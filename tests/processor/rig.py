"""A processor on a real SQLite queue, in the test's own event loop, with destinations that answer as the test says."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import apsw

from mailvane.destinations import contract
from mailvane.destinations.contract import Done, Failure, HttpPost, Outcome, Outgoing
from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.operations.metrics import Metrics
from mailvane.processor.plan import Drop, Leave, Match, Plan, Route, Target
from mailvane.processor.run import Processor
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import DuePlace, OwnedQueue, Place, Row, Settled, Settlement
from mailvane.queue.local import SQLiteQueue

PATIENCE = float(os.environ.get("PATIENCE", "30"))
"""Seconds after which a test gives up. Never a promise."""
OK = Outcome(None, 200, "ok", seconds=0.001)
BROKEN = Outcome(Failure.SERVER, 500, "500 Internal Server Error")

Behaviour = Callable[[Outgoing], Outcome | None]


class HandClock:
    """Goes as the machine's clocks do, from where the test has set them."""

    def __init__(self) -> None:
        self._wall = 0.0
        self._monotonic = 0.0

    def wall(self) -> float:
        return time.time() + self._wall

    def monotonic(self) -> float:
        return time.monotonic() + self._monotonic

    def advance(self, seconds: float) -> None:
        """So much time passes."""
        self._wall += seconds
        self._monotonic += seconds

    def set_wall(self, by: float) -> None:
        """Somebody sets the wall clock."""
        self._wall += by


class StillClock:
    """Stands until told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def wall(self) -> float:
        return 1_790_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now


class NoChance:
    """Adds nothing to a wait."""

    def random(self) -> float:
        return 0.0


class ScriptedDestination:
    """Answers as `behaviour` says, None: not yet. `asked` has every attempt in order, `acknowledged` every success."""

    batch_limit = 1

    def __init__(self, changed: Callable[[], None] = lambda: None, behaviour: Behaviour = lambda sent: OK) -> None:
        self.behaviour = behaviour
        self.asked: list[Outgoing] = []
        self.acknowledged: Counter[int] = Counter()
        self.outstanding: dict[int, tuple[Sequence[Outgoing], Done]] = {}
        self.most_outstanding = 0
        self.allowed = 0
        self.closed = False
        self._changed = changed

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        for sent in batch:
            assert not self.closed and sent.id not in self.outstanding, "sent twice at a time"
            self.asked.append(sent)
            self.outstanding[sent.id] = (sent,), done
            self.most_outstanding = max(self.most_outstanding, len(self.outstanding))
            if (outcome := self.behaviour(sent)) is not None:
                asyncio.get_running_loop().call_soon(self.answer, sent.id, outcome)
        self._changed()

    def answer(self, event_id: int, outcome: Outcome = OK) -> None:
        """The endpoint answers to what it holds."""
        if event_id not in self.outstanding:  # closed meanwhile
            return
        batch, done = self.outstanding.pop(event_id)
        if outcome.delivered:
            self.acknowledged[event_id] += 1
        done(batch, [outcome])
        self._changed()

    def answer_all(self, outcome: Outcome = OK) -> None:
        for event_id in list(self.outstanding):
            self.answer(event_id, outcome)

    def allow(self, concurrency: int) -> None:
        self.allowed = concurrency

    async def close(self) -> None:
        self.closed = True
        for event_id in list(self.outstanding):
            self.answer(event_id, Outcome(Failure.CLOSED))

    @property
    def ids(self) -> list[int]:
        return [sent.id for sent in self.asked]


class WatchedQueue:
    """The queue behind it, slow and failing as the test says.

    With `slow`, what reads and settlements bring arrives later than it was true, and other things happen meanwhile, as
    on a server. `settle_fails` is how many settlements fail first; `settling` says what goes on.
    """

    def __init__(self, queue: SQLiteQueue, changed: Callable[[], None]) -> None:
        self._queue = queue
        self._changed = changed
        self.slow: Callable[[str], Awaitable[None]] | None = None
        self.settle_fails = 0
        self.lost: Exception | None = None
        self.settled: list[Settlement] = []
        self.reads: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def _late(self, what: str, found: list[Any]) -> None:
        self.reads.append((what, len(found)))
        if self.slow is not None:
            await self.slow(what)

    async def read(self, after: int, limit: int) -> list[Row]:
        found = await self._queue.read(after, limit)
        await self._late("read", found)
        return found

    async def scan(self, after: int, limit: int) -> list[Place]:
        found = await self._queue.scan(after, limit)
        await self._late("scan", found)
        return found

    async def fetch(self, ids: Sequence[int]) -> list[Row]:
        found = await self._queue.fetch(ids)
        await self._late("fetch", found)
        return found

    async def due(self, after: tuple[int, int], now: int, limit: int) -> list[DuePlace]:
        found = await self._queue.due(after, now, limit)
        await self._late("due", found)
        return found

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        if self.settle_fails:
            self.settle_fails -= 1
            self._changed()
            raise QueueUnavailable("no room on the disk")
        if self.lost is not None:
            raise self.lost
        done = await self._queue.settle(settlement, term)
        self.settled.append(settlement)
        self._changed()
        return done


class Plans:
    """A PlanSource in the test's hand."""

    def __init__(self, plan: Plan | None) -> None:
        self._next = plan

    def give(self, plan: Plan) -> None:
        self._next = plan

    def look(self) -> Plan | None:
        plan, self._next = self._next, None
        return plan


def to(name: str) -> HttpPost:
    return HttpPost(f"http://{name}.example/hook")


def plan(*routes: tuple[str, Target] | Target) -> Plan:
    """Routes in order: an event type and where it goes, or where all the rest goes."""
    made: list[Route] = []
    for route in routes:
        kind, target = route if isinstance(route, tuple) else (None, route)
        match = Match(frozenset({kind}) if kind else None)
        match target:
            case HttpPost():
                name = target.url.split("/")[2].split(".")[0]
            case Drop():
                name = "drop"
            case Leave():
                name = "leave"
            case _:
                raise NotImplementedError(target)
        made.append(Route(name, match, target))
    return Plan(tuple(made))


def form(event_type: str = "bounce_all", size: int = 0) -> StoredForm:
    body = f'"event_type":"{event_type}","email":"user@example.com","event_time":1790000000'
    if size:
        body += ',"bounce_text":"' + "x" * size + '"'
    return StoredForm(event_type, "a1", len(body), body, "")


class Rig:
    """See the module; made by `rig` below."""

    def __init__(self, folder: Path, start: Plan | None, clock: HandClock, paused: Iterable[str] = ()) -> None:
        self.path = str(folder / "queue.db")
        self.clock = clock
        self.plans = Plans(start)
        self.destinations: dict[str, ScriptedDestination] = {}
        self.all_destinations: list[ScriptedDestination] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.metrics = Metrics()
        self._changed = asyncio.Event()
        self.sqlite = SQLiteQueue(self.path, Ballast(str(folder / "ballast")), asyncio.get_running_loop())
        self.queue = WatchedQueue(self.sqlite, self.changed)
        self.processor = Processor(
            cast(OwnedQueue, cast(object, self.queue)),
            self.plans,
            self._connect,
            clock,
            NoChance(),
            self.metrics.tally,
            paused,
        )
        self.sqlite.on_commit = self._committed
        self.handed_over = True
        self.recorded: list[int] = []
        self._task: asyncio.Task[None] | None = None
        self.stopped = False

    def changed(self) -> None:
        self._changed.set()

    def _connect(self, target: contract.Target) -> ScriptedDestination:
        assert isinstance(target, HttpPost)
        name = target.url.split("/")[2].split(".")[0]
        made = ScriptedDestination(self.changed, lambda sent: self._behave(name, sent))
        if (before := self.destinations.get(name)) is not None:
            # One endpoint: what it saw from an earlier lane stays seen.
            made.asked, made.acknowledged = before.asked, before.acknowledged
        self.destinations[name] = made
        self.all_destinations.append(made)
        return made

    def _behave(self, name: str, sent: Outgoing) -> Outcome | None:
        return self.behaviours[name](sent) if name in self.behaviours else OK

    def _committed(self, first: int, events: Sequence[StoredForm]) -> None:
        if self.handed_over:
            self.processor.committed(first, events)
        self.changed()

    def start(self, once: bool = False) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self.processor.run(once))
        self._task.add_done_callback(lambda _: self.changed())
        return self._task

    async def record(self, count: int = 1, event_type: str = "bounce_all", size: int = 0) -> list[int]:
        ids: list[int] = []
        while count > 0:
            some = min(count, 500)
            ids += await self.sqlite.append([form(event_type, size)] * some)
            count -= some
        self.recorded += ids
        return ids

    async def record_unseen(self, count: int, event_type: str = "bounce_all", size: int = 0) -> list[int]:
        """As if another process had committed them: nothing is handed over."""
        self.handed_over = False
        try:
            return await self.record(count, event_type, size)
        finally:
            self.handed_over = True

    async def until(self, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Waits until it holds; asked whenever something happens (and now and then, for what nobody tells)."""
        end = time.monotonic() + patience
        while not holds():
            if self._task is not None and self._task.done() and self._task.exception() is not None:
                raise AssertionError("the processor ended") from self._task.exception()
            if time.monotonic() > end:
                seen = {name: (len(d.asked), len(d.acknowledged)) for name, d in self.destinations.items()}
                raise AssertionError(f"not so within {patience} s; asked, acknowledged: {seen}; {self.waiting()} wait")
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 0.02)
            except TimeoutError:
                pass

    async def idle(self) -> None:
        """Waits until nothing is on its way and everything is on disk."""
        await self.until(lambda: not self.processor.in_flight() and not self.processor._settler.busy)

    def nudge(self) -> None:
        """Starts a run now instead of within a second."""
        self.processor._nudge.set()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a person's shell sees."""
        db = apsw.Connection(self.path)
        try:
            db.set_busy_timeout(10_000)
            return db.execute(statement, values).fetchall()
        finally:
            db.close()

    def on_the_way(self, name: str) -> int:
        """How many attempts a destination has not answered yet."""
        return len(self.destinations[name].outstanding) if name in self.destinations else 0

    def waiting(self) -> int:
        return self.rows("SELECT count(*) FROM queue")[0][0]

    def deferred(self) -> dict[int, tuple[int, int]]:
        """Id: attempts, due."""
        return {i: (attempts, due) for i, attempts, due in self.rows("SELECT id, attempts, due FROM deferred")}

    def acknowledged(self) -> Counter[int]:
        """How often each event was acknowledged, by whomever."""
        found: Counter[int] = Counter()
        seen: set[int] = set()
        for destination in self.all_destinations:
            if id(destination.acknowledged) not in seen:
                seen.add(id(destination.acknowledged))
                found.update(destination.acknowledged)
        return found

    async def stop(self, grace: float = 5.0) -> None:
        self.stopped = True
        await self.processor.stop(grace)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=PATIENCE)

    async def close(self) -> None:
        if not self.stopped:
            await self.stop(0.0)
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.exception()  # seen
        await self.sqlite.close()


@asynccontextmanager
async def rig(
    folder: Path, start: Plan | None, clock: HandClock | None = None, paused: Iterable[str] = ()
) -> AsyncIterator[Rig]:
    made = Rig(folder, start, clock or HandClock(), paused)
    try:
        yield made
    finally:
        await made.close()


def sleeps_now_and_then(seed: int, longest: float = 0.02) -> Callable[[str], Awaitable[None]]:
    """For `WatchedQueue.slow`: some answers come at once, some late."""
    chance = random.Random(seed)

    async def slow(_: str) -> None:
        await asyncio.sleep(chance.choice([0.0, 0.0, chance.random() * longest]))

    return slow
