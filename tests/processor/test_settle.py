"""Outcomes become durable: at once when idle, together under load; and while that fails nothing is attempted."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest

from mailvane.errors import OwnershipLost
from mailvane.processor import settle
from mailvane.processor.held import Held
from mailvane.processor.settle import Settler
from mailvane.queue.contract import Failed, OwnedQueue, Settled, Settlement
from processor.rig import BROKEN, OK, Rig, StillClock, plan, to

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]


class SettlingQueue:
    """Takes settlements when the test lets it."""

    term = 1

    def __init__(self) -> None:
        self.asked: list[Settlement] = []
        self.go = asyncio.Event()
        self.go.set()

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        self.asked.append(settlement)
        await self.go.wait()
        return Settled(len(settlement.delivered), len(settlement.dropped))


class LockedQueue(SettlingQueue):
    """Somebody has these events locked."""

    def __init__(self, *locked: int) -> None:
        super().__init__()
        self.locked = set(locked)

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        done = await super().settle(settlement, term)
        ids = [*settlement.delivered, *settlement.dropped, *[f.id for f in settlement.failed]]
        return Settled(done.delivered, done.dropped, tuple(i for i in ids if i in self.locked))


def test_what_somebody_has_locked_stays_held_and_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settle, "AGAIN", 0.01)

    async def main() -> None:
        queue, held, clock = LockedQueue(2, 4, 5), Held(), StillClock()
        told: list[Settlement] = []
        settled = asyncio.Event()

        def tell(what: Settlement) -> None:
            told.append(what)
            settled.set()

        settler = Settler(cast(OwnedQueue, cast(object, queue)), held, clock, tell)
        for i in range(1, 7):
            held.take({i: 1})
        settler.delivered([1, 2])
        for i in (3, 4):
            settler.dropped(i)
        for i in (5, 6):
            settler.failed(Failed(i, 1, 5, "why"))
        await settler.flush()
        assert [i for i in range(1, 7) if i in held] == [2, 4, 5]
        assert (told[0].delivered, told[0].dropped, [f.id for f in told[0].failed]) == ([1], [3], [6])
        assert not settler.busy and not settler.trouble, "it keeps nobody from delivering, or from ending"
        queue.locked.clear()
        while len(held):
            settled.clear()
            clock.now += 1
            await asyncio.wait_for(settled.wait(), 60)
        again = queue.asked[-1]
        assert (again.delivered, again.dropped, [f.id for f in again.failed]) == ([2], [4], [5])

    asyncio.run(main())


def test_at_once_when_idle_and_together_under_load():
    async def main() -> None:
        queue, held, clock = SettlingQueue(), Held(), StillClock()
        told: list[Settlement] = []
        settler = Settler(cast(OwnedQueue, cast(object, queue)), held, clock, told.append)
        for i in range(1, 11):
            held.take({i: 1})
        settler.delivered([1])
        for _ in range(4):  # a few rounds of the loop, and no time at all
            await asyncio.sleep(0)
        assert [s.delivered for s in queue.asked] == [[1]]
        settler.delivered([2])
        mark = settler.mark()
        settler.failed(Failed(3, 1, 5, "why"))
        settler.dropped(4)
        assert settler.mark() == mark and not settler.passed(mark)
        for _ in range(4):
            await asyncio.sleep(0)
        assert len(queue.asked) == 1, "the next comes no sooner than EVERY after the last"
        clock.now += settle.EVERY
        await settler.flush()
        assert len(queue.asked) == 2 and settler.passed(mark) and not settler.busy
        assert (queue.asked[1].delivered, queue.asked[1].dropped) == ([2], [4])
        assert [f.id for f in queue.asked[1].failed] == [3]
        assert told == queue.asked
        assert [i for i in range(1, 11) if i in held] == list(range(5, 11))

    asyncio.run(main())


def test_many_at_once_wait_for_no_time():
    async def main() -> None:
        queue, held, clock = SettlingQueue(), Held(), StillClock()
        settler = Settler(cast(OwnedQueue, cast(object, queue)), held, clock, lambda _: None)

        async def settlements() -> list[int]:
            for _ in range(6):  # a few rounds of the loop, and no time at all
                await asyncio.sleep(0)
            return [len(s.delivered) for s in queue.asked]

        settler.delivered([1])
        assert await settlements() == [1]
        settler.delivered(range(2, settle.MANY + 1))
        assert await settlements() == [1], "one less than many"
        queue.go.clear()
        settler.delivered([settle.MANY + 1])
        assert await settlements() == [1, settle.MANY]
        settler.delivered(range(10_000, 10_000 + settle.MANY))
        assert await settlements() == [1, settle.MANY], "one at a time"
        queue.go.set()
        assert await settlements() == [1, settle.MANY, settle.MANY]

    asyncio.run(main())


def test_an_id_is_held_until_its_settlement_has_returned():
    async def main() -> None:
        queue, held = SettlingQueue(), Held()
        settler = Settler(cast(OwnedQueue, cast(object, queue)), held, StillClock(), lambda _: None)
        held.take({1: 1})
        queue.go.clear()
        settler.delivered([1])
        for _ in range(4):
            await asyncio.sleep(0)
        assert queue.asked and 1 in held and settler.busy
        mark = settler.mark()
        assert not settler.passed(mark)
        settler.delivered([2])
        assert settler.mark() == mark + 1, "what is handed in while one is under way goes into the next"
        queue.go.set()
        await settler.flush()
        assert 1 not in held and settler.passed(mark + 1)

    asyncio.run(main())


def test_thousands_of_outcomes_share_settlements(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.record(3_000)
            await r.until(lambda: r.waiting() == 0)
            assert len(r.queue.settled) < 300
            books = await r.sqlite.books()
            assert (books.recorded, books.delivered, books.waiting) == (3_000, 3_000, 0)

    asyncio.run(main())


def test_d7_while_settling_fails_nothing_is_attempted_anywhere(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settle, "AGAIN", 0.05)

    async def main() -> None:
        async with make_rig(plan(("a", to("a")), to("b"))) as r:
            r.start()
            r.behaviours["b"] = lambda sent: None
            await r.record(1, "a")
            await r.until(lambda: r.waiting() == 0)
            await r.record(200, "b")
            await r.until(lambda: len(r.destinations["b"].outstanding) == 16)
            r.queue.settle_fails = 6
            await r.record(1, "a")
            await r.until(lambda: r.queue.settle_fails < 6)
            await r.until(lambda: bool(r.processor.trouble))
            assert "no room" in r.processor.trouble
            # Now new events, room in a lane, a retry and a resume: nothing of it sends anything.
            asked = {name: len(d.asked) for name, d in r.destinations.items()}
            r.behaviours["b"] = lambda sent: OK
            r.destinations["b"].answer_all()
            await r.record(50, "a")
            await r.record_unseen(50, "b")
            r.processor.retry()
            await r.processor.resume("b")
            await r.until(lambda: r.queue.settle_fails <= 1)
            assert {name: len(d.asked) for name, d in r.destinations.items()} == asked
            await r.until(lambda: r.waiting() == 0)
            assert not r.processor.trouble
            assert r.acknowledged() == dict.fromkeys(r.recorded, 1)
            assert sorted(r.destinations["a"].ids + r.destinations["b"].ids) == r.recorded, "each was POSTed once"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["another owner", "a defect"])
def test_d14_who_has_lost_the_queue_sends_nothing_more(make_rig: MakeRig, how: str):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            run = r.start()
            await r.record(3)
            await r.until(lambda: r.waiting() == 0)
            r.behaviours["a"] = lambda sent: None
            await r.record(100)
            await r.until(lambda: len(r.destinations["a"].outstanding) == 16)
            if how == "another owner":
                r.rows("UPDATE kept SET value = value + 1 WHERE name = 'term'")
            else:
                r.queue.lost = ValueError("a defect")
            r.destinations["a"].answer(r.destinations["a"].ids[3])
            with pytest.raises(OwnershipLost if how == "another owner" else ValueError):
                await asyncio.wait_for(run, 30)
            asked = len(r.destinations["a"].asked)
            r.destinations["a"].answer_all()
            await r.record(10)
            assert len(r.destinations["a"].asked) == asked and r.processor.trouble
            assert r.waiting() == 110, "nothing of it was settled"
            await r.stop(0.0)

    asyncio.run(main())


def test_failures_never_wait_for_a_full_batch(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = lambda sent: BROKEN
            r.start()
            (first,) = await r.record(1)
            await r.until(lambda: bool(r.queue.settled))
            assert r.queue.settled[0].failed[0].id == first and r.deferred()[first][0] == 1

    asyncio.run(main())


def test_a_row_that_was_deleted_in_flight_settles_as_nothing(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = lambda sent: None
            r.start()
            ids = await r.record(6)
            await r.until(lambda: len(r.destinations["a"].outstanding) == 6)
            for i in ids[:4]:
                r.rows("DELETE FROM events WHERE id = ?", i)
            for i in ids[:2]:
                r.destinations["a"].answer(i, BROKEN)
            for i in ids[2:]:
                r.destinations["a"].answer(i)
            await r.until(lambda: r.waiting() == 0)
            await r.idle()
            assert r.deferred() == {}, "no orphan"
            books = await r.sqlite.books()
            assert (books.delivered, books.deleted, books.waiting) == (2, 4, 0)

    asyncio.run(main())
