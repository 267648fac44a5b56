"""One destination: what it takes, in which order it sends, and when it stands."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from mailvane.destinations.contract import Failure, HttpPost, Outcome
from mailvane.operations.metrics import Tally
from mailvane.processor.circuit import State
from mailvane.processor.held import Held
from mailvane.processor.lane import WINDOW, Lane
from mailvane.processor.schedule import FLOORS
from mailvane.processor.settle import Settler
from mailvane.processor.states import DestinationState
from mailvane.processor.window import STALE
from mailvane.queue.contract import Failed, OwnedQueue, Row, Settled, Settlement
from processor.rig import BROKEN, NoChance, ScriptedDestination, StillClock


class Memory:
    """Notes settlements."""

    term = 1

    def __init__(self) -> None:
        self.failed: dict[int, Failed] = {}
        self.delivered: list[int] = []

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        self.delivered += settlement.delivered
        self.failed.update({f.id: f for f in settlement.failed})
        return Settled(len(settlement.delivered), len(settlement.dropped))


class Bench:
    """A lane alone, with a clock that stands."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.queue = Memory()
        self.held = Held()
        self.settler = Settler(cast(OwnedQueue, cast(object, self.queue)), self.held, self.clock, lambda _: None)
        self.destination = ScriptedDestination(behaviour=lambda sent: None)
        self.leads_here = True
        self.changes = 0
        self.hungry = 0
        self.tally = Tally()
        self.lane = Lane(
            "a",
            HttpPost("http://a.example/"),
            self.destination,
            self.held,
            self.settler,
            self.clock,
            NoChance(),
            self.tally,
            lambda lane, row: self.leads_here,
            self._hungry,
            self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _hungry(self, lane: Lane) -> None:
        self.hungry += 1

    def fresh(self, *ids: int, size: int = 10) -> list[bool]:
        return [not self.lane.offer_fresh([row(i, size=size)]) for i in ids]

    def old(self, *ids: int, attempts: int = 0, size: int = 10) -> list[bool]:
        return [not self.lane.offer_old([row(i, attempts, size)]) for i in ids]

    def limit(self, value: int) -> None:
        self.lane.limit.value = value

    def fail(self, *ids: int, outcome: Outcome = BROKEN) -> None:
        for i in ids:
            self.destination.answer(i, outcome)

    def open_circuit(self) -> None:
        """Five different events fail."""
        self.old(*range(9_001, 9_006))
        self.lane.pump()
        self.fail(*range(9_001, 9_006))
        assert self.lane.circuit.health.state is State.OPEN


def row(event_id: int, attempts: int = 0, size: int = 10) -> Row:
    return Row(event_id, "bounce_all", "a1", size, "x" * size, "", attempts)


def bench(test: Callable[[Bench], None]) -> None:
    async def main() -> None:
        b = Bench()
        test(b)
        b.clock.now += 1.0
        await b.settler.flush()

    asyncio.run(main())


def test_one_that_is_new_then_one_that_is_old():
    def test(b: Bench) -> None:
        b.limit(1)
        b.old(*range(1, 9))
        b.lane.pump()
        b.fresh(101, 102, 103)
        while b.destination.outstanding:
            b.destination.answer_all()
        assert b.destination.ids == [1, 101, 2, 102, 3, 103, 4, 5, 6, 7, 8]

    bench(test)


def test_no_more_on_the_way_than_the_limit():
    def test(b: Bench) -> None:
        b.old(*range(1, 101))
        b.lane.pump()
        assert len(b.destination.outstanding) == b.lane.limit.value == 16
        assert b.destination.allowed == b.lane.limit.connections
        b.destination.answer(1)
        assert len(b.destination.outstanding) == 16 and b.destination.ids[-1] == 17

    bench(test)


def test_a_row_that_waited_for_more_than_a_second_is_not_sent_before_it_was_looked_up():
    def test(b: Bench) -> None:
        b.limit(1)
        b.fresh(1, 2, 3)
        b.old(11, 12)
        b.lane.pump()
        b.clock.now += STALE + 0.1
        b.fresh(4)
        b.destination.answer_all()
        assert b.destination.ids == [1] and b.lane.window.stale and b.changes
        b.lane.window.looked_up([2, 3, 4, 11, 12], {3, 4, 12}, b.clock.now)
        b.lane.pump()
        while b.destination.outstanding:
            b.destination.answer_all()
        assert sorted(b.destination.ids) == [1, 3, 4, 12]
        assert b.destination.ids.index(3) <= 2, "what is new stays before the backlog"
        assert 2 not in b.held and 11 not in b.held and not b.lane.backlog and b.held.size == 4 * 10

    bench(test)


def test_rows_that_came_while_others_were_looked_up_are_kept():
    def test(b: Bench) -> None:
        b.limit(0)
        b.fresh(1)
        asked = b.lane.window.ids()
        b.fresh(2)
        b.lane.window.looked_up(asked, set(), b.clock.now)
        assert b.lane.window.ids() == [2]

    bench(test)


def test_a_lane_that_stands_holds_no_rows_and_knows_what_it_gave_back():
    def test(b: Bench) -> None:
        b.fresh(*range(1, 101))
        b.lane.pump()
        b.fail(1, 2, 3, 4)
        assert b.lane.waiting and b.lane.circuit.closed
        b.fail(5)
        assert not b.lane.circuit.closed and b.lane.waiting == 0
        assert all(i in b.lane.backlog for i in range(21, 101))
        assert not any(b.fresh(200)), "nothing new is taken"
        assert len(b.held) == 20, "what is on its way, and the five that are not settled"

    bench(test)


def test_probes_go_alone_and_twice_as_late_each_time():
    def test(b: Bench) -> None:
        b.open_circuit()
        waited: list[float] = []
        for i in range(1, 10):
            assert not b.lane.wants_probe and b.lane.room() == 0
            wait = b.lane.probe_in()
            assert wait is not None
            waited.append(wait)
            b.clock.now += wait
            assert b.lane.wants_probe and b.lane.room() == 1
            assert b.old(i, i + 100) == [True, False]
            b.lane.pump()
            assert list(b.destination.outstanding) == [i] and not any(b.fresh(200))
            b.clock.now += 3.0
            assert b.lane.probe_in() is None
            b.fail(i)
        assert waited == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
        assert b.lane.state is DestinationState.CIRCUIT_OPEN
        b.clock.now += 60
        b.old(50)
        b.lane.pump()
        b.destination.answer(50)
        assert b.lane.circuit.closed and b.lane.state is DestinationState.RETRYING
        assert b.lane.limit.value <= 16

    bench(test)


def test_what_was_on_the_way_when_the_circuit_opened_ends_before_a_probe_goes():
    def test(b: Bench) -> None:
        b.old(*range(1, 8))
        b.lane.pump()
        b.fail(1, 2, 3, 4, 5)
        b.clock.now += 5
        assert not b.lane.wants_probe and b.lane.probe_in() is None
        b.destination.answer(6)
        b.destination.answer(7)
        assert not b.lane.circuit.closed, "late successes do not close it"
        assert b.lane.wants_probe

    bench(test)


def test_an_event_just_recorded_may_be_the_probe():
    def test(b: Bench) -> None:
        b.open_circuit()
        b.clock.now += 1
        assert b.fresh(7, 8) == [True, False]
        b.lane.pump()
        assert list(b.destination.outstanding) == [7]

    bench(test)


@pytest.mark.parametrize(
    "failure, retry_after, attempts, wait",
    [
        *[(f, "", 0, FLOORS[f]) for f in FLOORS if f not in {Failure.CLOSED, Failure.GONE}],
        (Failure.SERVER, "", 1, 10),
        (Failure.SERVER, "", 6, 320),
        (Failure.SERVER, "", 40, 3_600),
        (Failure.THROTTLED, "120", 0, 120),
        (Failure.BUSY, "120", 0, 120),
        (Failure.THROTTLED, "999999999", 0, 86_400),
        (Failure.THROTTLED, "soon", 0, 30),
    ],
)
def test_h15_h16_a_failure_is_due_when_the_schedule_says(failure: Failure, retry_after: str, attempts: int, wait: int):
    async def main() -> None:
        b = Bench()
        b.old(7, attempts=attempts)
        b.lane.pump()
        b.fail(7, outcome=Outcome(failure, 500, "no", retry_after))
        await b.settler.flush()
        failed = b.queue.failed[7]
        assert failed.attempts == attempts + 1 and failed.error.startswith(f"{failure}: no")
        assert failed.due == pytest.approx((b.clock.wall() + wait) * 1000, abs=1)
        rests = bool(retry_after) and retry_after != "soon"
        assert b.lane.circuit.closed is not rests, "with a Retry-After the whole lane rests"

    asyncio.run(main())


def test_what_fails_under_a_plan_that_leads_elsewhere_is_due_at_once():
    async def main() -> None:
        b = Bench()
        b.old(7)
        b.lane.pump()
        b.leads_here = False
        b.fail(7)
        await b.settler.flush()
        assert b.queue.failed[7].due == pytest.approx(b.clock.wall() * 1000, abs=1)
        assert b.lane.deferred == 0

    asyncio.run(main())


def test_h17_410_pauses_and_only_a_person_or_an_edit_resumes():
    for resume in ("resume", "retry", "configured"):

        def test(b: Bench, resume: str = resume) -> None:
            b.old(*range(1, 30))
            b.lane.pump()
            b.fail(1, outcome=Outcome(Failure.GONE, 410, "gone"))
            assert b.lane.state is DestinationState.PAUSED and b.lane.waiting == 0
            asked = len(b.destination.asked)
            b.destination.answer_all()
            b.clock.now += 86_400
            assert b.lane.room() == 0 and b.lane.probe_in() is None and not any(b.old(99)) and not any(b.fresh(100))
            b.lane.pump()
            assert len(b.destination.asked) == asked
            getattr(b.lane, resume)()
            assert any(b.old(99)) and b.lane.state is DestinationState.RETRYING

        bench(test)


def test_a_pause_ends_by_resume_alone():
    def test(b: Bench) -> None:
        b.lane.pause()
        for tried in (b.lane.retry, b.lane.configured):
            tried()
            assert not any(b.fresh(1)) and b.lane.state is DestinationState.PAUSED
        b.lane.resume()
        assert all(b.fresh(1))

    bench(test)


def test_attempts_that_we_ended_leave_the_event_as_it_was():
    async def main() -> None:
        b = Bench()
        b.old(1)
        b.old(2, attempts=3)
        b.lane.pump()
        b.lane.stop()
        await b.lane.close()
        await b.settler.flush()
        assert b.queue.failed == {} and b.queue.delivered == [] and len(b.held) == 0 and b.held.size == 0
        assert 1 in b.lane.backlog and b.tally.failed_total[Failure.CLOSED] == 0

    asyncio.run(main())


def test_a_lane_takes_its_share_of_bytes_and_always_one_event():
    def test(b: Bench) -> None:
        b.lane.share_of_bytes = 1_000
        assert b.fresh(1, 2, 3, size=400) == [True, True, False]
        b.lane.pump()
        assert b.lane.room() == 0, "what would be refused is not read"
        b.destination.answer(1)
        assert b.lane.room() > 0
        b.destination.answer(2)
        assert b.fresh(4, size=5_000) == [True] and b.fresh(5, size=1) == [False]
        b.lane.pump()
        b.destination.answer(4)
        assert b.fresh(5, size=1) == [True]

    bench(test)


def test_room_is_never_more_than_would_be_taken():
    def test(b: Bench) -> None:
        b.lane.share = 40
        b.old(*range(1, 200))
        assert len(b.held) == 40
        b.limit(64)
        b.lane.pump()
        assert len(b.lane.in_flight) == 40 and b.lane.waiting == 0 and b.lane.room() <= 0
        b.destination.answer(1)
        assert b.lane.room() == 1

    bench(test)


def test_nothing_waits_in_a_window_that_is_full():
    def test(b: Bench) -> None:
        b.limit(0)
        assert b.fresh(*range(1, WINDOW + 3))[-3:] == [True, False, False]

    bench(test)


def test_what_waits_for_another_try_never_counts_below_nothing():
    def test(b: Bench) -> None:
        b.old(1, 2, attempts=1)
        b.lane.pump()
        b.destination.answer_all()  # and people had deleted others, so that the count was too low
        assert b.lane.deferred == 0 and b.lane.state is DestinationState.OK

    bench(test)
