"""The cases of the common suite: a function for each, named after it, that knows nothing of what type is tested."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from destinations.matrix.far_ends import POISON, RIGHT, WRONG, FarEnd
from destinations.matrix.table import Case, Kind
from mailvane import Event, Recorder
from mailvane.destinations.contract import Failure
from mailvane.destinations.dial import Limits
from mailvane.events.codecs import stored_form
from mailvane.queue.contract import Filter
from processor.house import House
from processor.rig import PATIENCE, HandClock
from support.endpoint import Endpoint
from support.homes import Home
from support.killing import rows_of
from support.oracle import ODD, mint
from support.sabotage import sabotaged

QUICK = Limits(connect=20.0, attempt=1.0)
KILLED_BEFORE_REMOVAL = """
import os, signal
from mailvane.queue.local import SQLiteQueue
settle = SQLiteQueue.settle

async def die_first(self, settlement, term):
    if settlement.delivered:
        os.kill(os.getpid(), signal.SIGKILL)
    return await settle(self, settlement, term)

SQLiteQueue.settle = die_first
"""
LARGE_EVENTS = 1_600
MEMORY_KIB = 112 * 1024
"""A process is at 45 to 55 MiB before it holds anything. It may hold 32 MiB; all these events have 92."""


@dataclass(frozen=True)
class Trial:
    """One type in one case. `authority_file`: whom a home must trust to reach the far end."""

    kind: Kind
    end: FarEnd
    folder: Path
    authority_file: Path
    make_home: Callable[..., Home]
    make_endpoint: Callable[..., Endpoint]

    def home(self) -> Home:
        """A home that delivers to the far end, with nothing running."""
        conf = f"tls_ca_file {self.authority_file}"
        return self.make_home(legacy=self.end.document(), enable=["bounce_all"], conf=conf)


@asynccontextmanager
async def house(trial: Trial, document: Mapping[str, Any], limits: Limits | None = None) -> AsyncIterator[House]:
    """A service in this loop that trusts the tests' authority."""
    made = House(trial.folder, HandClock(), limits)
    made.settings = replace(made.settings, tls_ca_file=trial.authority_file)
    made.write(document)
    await made.open()
    made.deliver()
    try:
        yield made
    finally:
        trial.end.mend()
        await made.close(0.0)


async def record(h: House, count: int, **fields: Any) -> list[int]:
    """Records minted events, from number 1; their ids."""
    return await h.service.queue.append([stored_form(Event(**{**mint(n), **fields})) for n in range(1, count + 1)])


async def all_is_delivered(h: House) -> None:
    """Makes what waits due at once, as an operator does, until nothing does."""
    assert h.service.processor
    end = time.monotonic() + PATIENCE
    while h.waiting():
        assert time.monotonic() < end, f"{h.waiting()} events still wait: {last_error(h)}"
        await h.service.queue.retry(Filter(), 0)
        h.service.processor.retry()
        looked = time.monotonic() + 0.5
        await h.until(lambda looked=looked: not h.waiting() or time.monotonic() > looked)


def last_error(h: House) -> str:
    assert h.service.processor
    return h.service.processor.routes()[-1].last_error


def assert_told(h: House, failure: Failure) -> None:
    """People read what failed last, by its class."""
    told = last_error(h)
    assert told.startswith(f"{failure}: "), f"{failure} was expected, {told!r} is told"


def deferred(h: House) -> list[tuple[int, int]]:
    """Attempts and due time of each."""
    return h.rows("SELECT attempts, due FROM deferred ORDER BY id")


def assert_arrived_once(trial: Trial, ids: list[int]) -> None:
    assert sorted(arrival.id for arrival in trial.end.arrived()) == ids


def delivers(trial: Trial) -> None:
    async def test() -> None:
        async with house(trial, trial.end.document()) as h:
            ids = await record(h, 50)
            await h.until(lambda: not h.waiting())
            arrived = sorted(trial.end.arrived(), key=lambda arrival: arrival.id)
            assert [arrival.id for arrival in arrived] == ids
            assert [arrival.email for arrival in arrived] == [mint(n)["email"] for n in range(1, 51)]
            assert [arrival.text for arrival in arrived] == [ODD.format(n) for n in range(1, 51)]
            names = {arrival.name for arrival in arrived}
            assert len(names) == 50 or names == {""}
            books = (await h.service.status()).books
            assert (books.recorded, books.delivered, books.waiting) == (50, 50, 0)

    asyncio.run(test())


def retries(trial: Trial) -> None:
    async def test() -> None:
        async with house(trial, trial.end.document()) as h:
            processor = h.service.processor
            assert processor
            trial.end.fail()
            ids = await record(h, 1)
            for attempts in (1, 2):
                await h.until(lambda attempts=attempts: [n for n, _ in deferred(h)] == [attempts])
                ((_, due),) = deferred(h)
                assert due > h.clock.wall() * 1000, "it waits for its time"
                assert_told(h, trial.kind.fails[Case.RETRIES])
                assert isinstance(h.clock, HandClock)
                h.clock.advance(2 * 3600)
                if attempts == 2:
                    trial.end.mend()
                processor.retry()
            await h.until(lambda: not h.waiting())
            assert_arrived_once(trial, ids)

    asyncio.run(test())


def killed(trial: Trial) -> None:
    home = trial.home()
    fill(home, [Event(**mint(n)) for n in range(1, 31)])
    ids = rows_of(home)
    with sabotaged(trial.folder, KILLED_BEFORE_REMOVAL):
        process = home.start("processor", "--once")
        assert process.wait() == -signal.SIGKILL, process
    before = Counter((arrival.id, arrival.name) for arrival in trial.end.arrived())
    assert before and set(before.values()) == {1}
    assert rows_of(home) == ids, "nothing was removed"
    home.mailvane("processor", "--once")
    assert not rows_of(home)
    after = Counter((arrival.id, arrival.name) for arrival in trial.end.arrived())
    assert {event_id for event_id, _ in after} == ids and len(after) == len(ids), "one name each"
    assert after == Counter(dict.fromkeys(after, 1)) + before, "what had arrived came again, under the same id"


def memory(trial: Trial) -> None:
    home = trial.home()
    large = {"bounce_text": "x" * 10_000, "user_agent": "x" * 50_000}
    fill(home, [Event(**{**mint(n), **large}) for n in range(1, LARGE_EVENTS + 1)])
    process = home.start("processor")
    end = time.monotonic() + 60
    while trial.end.count() < LARGE_EVENTS:
        assert time.monotonic() < end and process.exit_status() is None, process
        time.sleep(0.05)  # databases and files tell nobody
    peak = process.peak_memory_kib()
    print(f"{trial.kind.name}: VmHWM {peak / 1024:.0f} MiB")
    assert peak < MEMORY_KIB
    assert process.stop() == 0
    assert not rows_of(home)
    assert_arrived_once(trial, list(range(1, LARGE_EVENTS + 1)))


def fill(home: Home, events: Sequence[Event]) -> None:
    """Records with no process of mailvane's running."""
    with Recorder(home.folder) as recorder:
        for at in range(0, len(events), 100):
            recorder.record_many(events[at : at + 100])


def credentials(trial: Trial) -> None:
    async def test() -> None:
        async with house(trial, trial.end.document(wrong=True)) as h:
            ids = await record(h, 3)
            await h.until(lambda: len(deferred(h)) == 3)
            assert_told(h, trial.kind.fails[Case.CREDENTIALS])
            shown = [str(route) for route in await h.service.routes()]
            shown += [str(row) for row in h.rows("SELECT * FROM deferred")]
            assert not [line for line in shown if WRONG in line or RIGHT in line]
            assert trial.end.arrived() == [] and h.waiting() == 3
            h.write(trial.end.document())
            assert h.service.processor
            h.service.processor.retry()  # looks at the file now instead of within a second
            await h.until(lambda: not h.waiting())  # the plan is another: what failed is due at once
            assert_arrived_once(trial, ids)

    asyncio.run(test())


def unreachable(trial: Trial) -> None:
    async def test() -> None:
        trial.end.go_away()
        async with house(trial, trial.end.document()) as h:
            ids = await record(h, 20)
            processor = h.service.processor
            assert processor
            await h.until(lambda: processor.routes()[-1].state == "circuit_open")
            assert_told(h, trial.kind.fails[Case.UNREACHABLE])
            ids += await record(h, 5)
            assert h.waiting() == 25
            trial.end.mend()
            await all_is_delivered(h)
            assert_arrived_once(trial, ids)
            assert processor.routes()[-1].state == "ok"

    asyncio.run(test())


def slow(trial: Trial) -> None:
    async def test() -> None:
        neighbour = trial.make_endpoint()
        document = trial.end.document(neighbour=neighbour.url())
        async with house(trial, document, QUICK) as h:
            trial.end.stall()
            ids = await record(h, 3)
            if Case.SLOW in trial.kind.fails:
                await h.until(lambda: last_error(h).startswith(f"{trial.kind.fails[Case.SLOW]}: "))
                await record(h, 10, event_type="scomp")
                await h.until(lambda: len(neighbour.answered) == 10)
            else:
                await h.until(trial.end.stalled)
                ids += await record(h, 10)
            assert h.waiting() >= 3
            trial.end.mend()
            await all_is_delivered(h)
            arrived = Counter(arrival.id for arrival in trial.end.arrived())
            assert sorted(arrived) == ids, "each at least once: what was not answered may have been seen"

    asyncio.run(test())


def wrong_answer(trial: Trial) -> None:
    async def test() -> None:
        trial.end.talk_rubbish()
        async with house(trial, trial.end.document()) as h:
            ids = await record(h, 3)
            await h.until(lambda: len(deferred(h)) == 3)
            assert_told(h, trial.kind.fails[Case.WRONG_ANSWER])
            trial.end.mend()
            await all_is_delivered(h)
            assert_arrived_once(trial, ids)

    asyncio.run(test())


def poison(trial: Trial) -> None:
    async def test() -> None:
        async with house(trial, trial.end.document()) as h:
            ids = await record(h, 10)
            (bad,) = await record(h, 1, email=POISON)
            ids += await record(h, 10)
            await h.until(lambda: h.waiting() == 1 and h.deferred() == {bad})
            assert_told(h, trial.kind.fails[Case.POISON])
            ids += await record(h, 3)
            await h.until(lambda: h.waiting() == 1)
            assert_arrived_once(trial, ids)
            assert [n for n, _ in deferred(h)] == [1], "it waits on its own schedule"

    asyncio.run(test())


FUNCTIONS: Mapping[Case, Callable[[Trial], None]] = {
    Case.DELIVERS: delivers,
    Case.RETRIES: retries,
    Case.KILLED: killed,
    Case.MEMORY: memory,
    Case.CREDENTIALS: credentials,
    Case.UNREACHABLE: unreachable,
    Case.SLOW: slow,
    Case.WRONG_ANSWER: wrong_answer,
    Case.POISON: poison,
}
