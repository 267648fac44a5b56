"""A lane whose destination takes batches: what goes together, how many are on their way, and answers in parts."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from mailvane.destinations.contract import Done, Failure, HttpPost, Outcome, Outgoing
from mailvane.operations.metrics import Tally
from mailvane.processor.batches import BATCH_BYTES
from mailvane.processor.held import Held
from mailvane.processor.lane import Lane
from mailvane.processor.settle import Settler
from mailvane.queue.contract import Failed, OwnedQueue, Row, Settled, Settlement
from processor.rig import BROKEN, OK, NoChance, StillClock

LIMIT = 10
POISON = Outcome(Failure.EVENT, text="too long")


class Batched:
    """A destination that notes batches; the test answers them, in parts if it likes."""

    batch_limit = LIMIT

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._open: dict[int, tuple[Outgoing, Done]] = {}
        self.allowed = 0

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        assert 0 < len(batch) <= LIMIT
        self.batches.append([sent.id for sent in batch])
        self._open.update({sent.id: (sent, done) for sent in batch})

    def answer(self, *ids: int, outcome: Outcome = OK) -> None:
        found = [self._open.pop(i) for i in ids]
        found[0][1]([sent for sent, _ in found], [outcome] * len(ids))

    def allow(self, concurrency: int) -> None:
        self.allowed = concurrency

    async def close(self) -> None:
        while self._open:
            self.answer(*self._open, outcome=Outcome(Failure.CLOSED))


class Memory:
    term = 1

    def __init__(self) -> None:
        self.failed: dict[int, Failed] = {}
        self.delivered: list[int] = []

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        self.delivered += settlement.delivered
        self.failed.update({f.id: f for f in settlement.failed})
        return Settled(len(settlement.delivered), 0)


class Bench:
    def __init__(self) -> None:
        self.clock = StillClock()
        self.queue = Memory()
        self.held = Held()
        self.settler = Settler(cast(OwnedQueue, cast(object, self.queue)), self.held, self.clock, lambda _: None)
        self.destination = Batched()
        self.lane = Lane(
            "a",
            HttpPost("http://a.example/"),
            self.destination,
            self.held,
            self.settler,
            self.clock,
            NoChance(),
            Tally(),
            lambda lane, row: True,
            lambda lane: None,
            lambda: None,
        )

    def waits(self, *ids: int, size: int = 10) -> None:
        for i in ids:
            assert not self.lane.offer_old([Row(i, "bounce_all", "a1", size, "x" * size, "", 0)])
        self.lane.pump()


def bench(test: Callable[[Bench], None]) -> Bench:
    made: list[Bench] = []

    async def main() -> None:
        b = Bench()
        made.append(b)
        test(b)
        b.clock.now += 1.0
        await b.settler.flush()

    asyncio.run(main())
    return made[0]


def test_what_comes_while_a_batch_is_under_way_goes_together():
    def test(b: Bench) -> None:
        b.waits(1)
        assert b.destination.batches == [[1]], "one event alone does not wait for others"
        b.waits(2)
        b.waits(3, 4)
        assert b.destination.batches == [[1]]
        b.destination.answer(1)
        assert b.destination.batches == [[1], [2, 3, 4]]

    bench(test)


def test_a_second_batch_goes_along_when_it_is_full_and_no_third():
    def test(b: Bench) -> None:
        b.waits(1)
        b.waits(*range(2, 40))
        assert b.destination.batches == [[1], list(range(2, 12))]
        assert b.destination.allowed == 2
        b.destination.answer(1)
        assert len(b.destination.batches) == 3 and len(b.destination.batches[2]) == LIMIT
        assert len(b.lane.in_flight) == 2 * LIMIT

    bench(test)


def test_a_batch_that_is_answered_in_parts_ends_with_its_last_part():
    def test(b: Bench) -> None:
        b.waits(*range(1, 5))
        b.waits(*range(5, 8))
        b.destination.answer(1, 2)
        assert sorted(b.lane.in_flight) == [3, 4] and len(b.destination.batches) == 1
        b.destination.answer(3, outcome=POISON)
        assert len(b.destination.batches) == 1
        b.destination.answer(4)
        assert b.destination.batches[1:] == [[5, 6, 7]]

    b = bench(test)
    assert b.queue.delivered == [1, 2, 4] and list(b.queue.failed) == [3]
    assert b.queue.failed[3].error == "event_refused: too long" and b.lane.deferred == 1


def test_a_batch_has_a_bound_in_bytes():
    def test(b: Bench) -> None:
        b.waits(1)
        for i in range(2, 7):
            b.waits(i, size=BATCH_BYTES // 2)
        b.destination.answer(1)
        assert b.destination.batches == [[1], [2, 3]]
        b.destination.answer(2, 3)
        assert b.destination.batches[2] == [4, 5]

    bench(test)


def test_events_that_are_refused_neither_open_the_circuit_nor_keep_it_open():
    def test(b: Bench) -> None:
        b.waits(*range(1, 11))
        b.destination.answer(*range(1, 11), outcome=POISON)
        assert b.lane.circuit.closed
        b.waits(*range(11, 21))
        b.destination.answer(*range(11, 21), outcome=BROKEN)
        assert not b.lane.circuit.closed
        b.clock.now += 1.0
        assert b.lane.wants_probe
        b.lane.offer_old([Row(30, "bounce_all", "a1", 1, "x", "", 0)])
        b.lane.pump()
        assert b.destination.batches[-1] == [30]
        b.destination.answer(30, outcome=POISON)
        assert b.lane.circuit.closed, "the server is back, and judged it"

    bench(test)


def test_a_batch_that_fails_alike_is_told_once(caplog: pytest.LogCaptureFixture):
    def test(b: Bench) -> None:
        b.waits(*range(1, 11))
        b.destination.answer(*range(1, 11), outcome=BROKEN)

    with caplog.at_level(logging.WARNING, "mailvane.processor"):
        b = bench(test)
    told = [record.getMessage() for record in caplog.records if "not delivered" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith("event 1 and up to 9 more not delivered, attempt 1, a: ")
    assert sorted(b.queue.failed) == list(range(1, 11))


def test_attempts_that_we_ended_leave_the_events_as_they_were():
    async def main() -> None:
        b = Bench()
        b.waits(1, 2, 3)
        b.lane.stop()
        await b.lane.close()
        await b.settler.flush()
        assert not b.queue.failed and not b.queue.delivered and len(b.held) == 0 and not b.lane.in_flight

    asyncio.run(main())
