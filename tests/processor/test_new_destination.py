"""A destination type added by the recipe in CONTRIBUTING.md: a spool, a folder with a file for each event.

What the recipe says of a type's dataclass and module is done here; the processor takes it through `connect`, and knows
nothing of what it is.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mailvane.clock import Clock
from mailvane.destinations.contract import Destination, Done, Failure, Outcome, Outgoing, Target
from mailvane.destinations.texts import clean
from mailvane.events.codecs import LEGACY_JSON
from mailvane.processor.plan import Match, Plan, Route
from processor.rig import HandClock, Rig

ROOT = Path(__file__).resolve().parents[2]


# The recipe's first step: what the configuration says, as a value.


@dataclass(frozen=True)
class Spool:
    """A folder that each event is put into as a file of its own."""

    folder: str


# Its second: a batch in, one outcome for each event.


class SpoolDestination:
    """See Spool. A file appears whole, by renaming; what comes twice has the same name: a repeat does no harm."""

    batch_limit = 20

    def __init__(self, spec: Spool, *, clock: Clock) -> None:
        self._folder = Path(spec.folder)
        self._clock = clock
        self._waiting: list[tuple[Sequence[Outgoing], Done]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.most = 0
        """Batches that were outstanding at once."""

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        """See Destination."""
        self._waiting.append((batch, done))
        self.most = max(self.most, len(self._waiting))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            batch, _ = self._waiting[0]
            if self._closed:
                outcomes = [Outcome(Failure.CLOSED)] * len(batch)
            else:
                outcomes = await asyncio.to_thread(lambda batch=batch: [self._put(event) for event in batch])
            _, done = self._waiting.pop(0)
            done(batch, outcomes)
        self._task = None

    def _put(self, event: Outgoing) -> Outcome:
        begun = self._clock.monotonic()
        line = LEGACY_JSON % (b"%d" % event.id, event.body.encode())
        new, name = self._folder / f".{event.id}", self._folder / f"{event.id}.json"
        try:
            if b"poison" in line:
                return Outcome(Failure.EVENT, text="no such thing in this spool")
            with new.open("wb") as file:
                file.write(line)
                os.fsync(file.fileno())
            new.rename(name)
        except OSError as error:
            text = clean(f"{self._folder}: {error.strerror or error}")
            return Outcome(Failure.UNWRITABLE, text=text, seconds=self._clock.monotonic() - begun)
        return Outcome(None, seconds=self._clock.monotonic() - begun)

    def allow(self, concurrency: int) -> None:
        """See Destination. One batch at a time, whatever may be outstanding."""

    async def close(self) -> None:
        """See Destination."""
        self._closed = True
        if self._task is not None:
            await self._task


class SpoolRig(Rig):
    """Connects as the service does (operations/connecting.py), for the new type."""

    def __init__(self, folder: Path, start: Plan, clock: HandClock) -> None:
        super().__init__(folder, start, clock)
        self.made: list[SpoolDestination] = []
        self.processor._connect = self._connect_spool

    def _connect_spool(self, target: Target) -> Destination:
        new = cast(object, target)  # no member of Target: it stands in a test
        assert isinstance(new, Spool)
        made = SpoolDestination(new, clock=self.clock)
        self.made.append(made)
        return made


def plan(folder: Path, match: Match | None = None) -> Plan:
    target = cast(Target, Spool(str(folder)))
    return Plan((Route(f"spool {folder}", match or Match(), target),))


@asynccontextmanager
async def spooling(folder: Path, start: Plan) -> AsyncIterator[SpoolRig]:
    made = SpoolRig(folder, start, HandClock())
    made.start()
    try:
        yield made
    finally:
        await made.close()


def spooled(folder: Path) -> list[int]:
    """The ids in a spool; each file is whole."""
    files = [path for path in folder.iterdir() if path.suffix == ".json"]
    assert all(json.loads(path.read_bytes())["id"] == int(path.stem) for path in files)
    return sorted(int(path.stem) for path in files)


def test_it_delivers_in_batches_and_what_is_delivered_is_removed(tmp_path: Path) -> None:
    async def test() -> None:
        spool = tmp_path / "spool"
        spool.mkdir()
        async with spooling(tmp_path, plan(spool)) as r:
            ids = await r.record(500)
            await r.until(lambda: not r.waiting())
            assert spooled(spool) == ids
            (made,) = r.made
            assert made.most <= 2, "the second waits, so that nothing is idle"

    asyncio.run(test())


def test_what_fails_is_tried_again_and_its_circuit_opens(tmp_path: Path) -> None:
    async def test() -> None:
        spool = tmp_path / "spool"
        async with spooling(tmp_path, plan(spool)) as r:
            ids = await r.record(30)
            await r.until(lambda: r.processor.routes()[0].state == "circuit_open")
            (route,) = r.processor.routes()
            assert route.last_error == f"cannot_write: {spool}: No such file or directory"
            spool.mkdir()
            await r.idle()
            r.clock.advance(2 * 3600)
            r.nudge()
            await r.until(lambda: not r.waiting())
            assert spooled(spool) == ids and r.processor.routes()[0].state == "ok"

    asyncio.run(test())


def test_a_poison_event_waits_alone(tmp_path: Path) -> None:
    async def test() -> None:
        spool = tmp_path / "spool"
        spool.mkdir()
        async with spooling(tmp_path, plan(spool)) as r:
            ids = await r.record(30)
            (poison,) = await r.record(1, "poison")
            ids += await r.record(30)
            await r.until(lambda: r.waiting() == 1 and bool(r.deferred()))
            assert spooled(spool) == ids and list(r.deferred()) == [poison]
            assert r.processor.routes()[0].last_error.startswith("event_refused: ")

    asyncio.run(test())


def test_an_edit_leads_what_waits_to_another_and_a_lane_that_stays_is_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        other.mkdir()
        async with spooling(tmp_path, plan(one)) as r:
            ids = await r.record(3)
            await r.until(lambda: len(r.deferred()) == 3)
            r.plans.give(plan(one, Match(frozenset({"scomp"}))))
            r.nudge()
            await r.until(lambda: r.processor.plan.routes[0].match != Match())
            assert len(r.made) == 1, "what makes two the same is their value"
            r.plans.give(plan(other))
            r.nudge()
            await r.until(lambda: not r.waiting())
            assert spooled(other) == ids and not one.exists()

    asyncio.run(test())


def test_every_event_is_answered_also_when_it_is_closed_meanwhile(tmp_path: Path) -> None:
    async def test() -> None:
        made: Destination = SpoolDestination(Spool(str(tmp_path)), clock=HandClock())
        answered: dict[int, Outcome] = {}

        def done(batch: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
            for event, outcome in zip(batch, outcomes, strict=True):
                assert event.id not in answered, "once each"
                answered[event.id] = outcome

        def batch(*ids: int) -> list[Outgoing]:
            return [Outgoing(i, 1, '"email":"a@example.com"', "", 10) for i in ids]

        made.send(batch(1, 2), done)
        made.send(batch(3), done)
        assert not answered, "never from within send"
        await made.close()
        made.send(batch(4), done)
        await made.close()
        assert sorted(answered) == [1, 2, 3, 4]
        assert answered[4].failure is Failure.CLOSED
        assert {i for i, outcome in answered.items() if outcome.delivered} == set(spooled(tmp_path))

    asyncio.run(test())


def test_the_recipe_names_what_is_there() -> None:
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A destination type")[2]
    words = recipe.partition("\n## ")[0].split("`")[1::2]
    named = [word for word in words if "/" in word and "NAME" not in word and " " not in word]
    assert len(named) > 8
    missing = [path for path in named if not any((ROOT / base / path).exists() for base in ("", "src/mailvane"))]
    assert not missing
