"""The loop: single runs, stopping, the clock, pauses that last."""

import asyncio
import time
import types
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from mailvane.destinations.contract import Failure, Outcome
from mailvane.errors import QueueUnavailable
from mailvane.processor import settle
from mailvane.processor.plan import Drop, Leave, Plan
from mailvane.processor.schedule import CAP, FARTHEST, JITTER
from mailvane.queue import sqlite
from processor.rig import BROKEN, OK, HandClock, Rig, plan, to

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]
DAY = 86_400.0


async def ends(r: Rig) -> None:
    await asyncio.wait_for(r.start(once=True), 30)


def test_once_on_an_empty_queue_ends(make_rig: MakeRig):
    async def main() -> None:
        for start in (plan(to("a")), Plan(), None):
            async with make_rig(start) as r:
                await ends(r)
                assert not r.acknowledged()

    asyncio.run(main())


def test_once_ends_when_everything_is_delivered(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("a", to("a")), ("drop", Drop()), ("left", Leave()), to("b"))) as r:
            await r.record_unseen(3_000, "a")
            await r.record_unseen(100, "drop")
            await r.record_unseen(100, "left")
            await r.record_unseen(2_000, "b")
            await ends(r)
            assert len(r.acknowledged()) == 5_000 and max(r.acknowledged().values()) == 1 and r.waiting() == 100

    asyncio.run(main())


def test_once_takes_up_what_is_due_and_leaves_what_is_not(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            ids = await r.record_unseen(2_000)
            r.rows("INSERT INTO deferred SELECT id, 1, 1, 1, 1, 'x', '[]' FROM queue WHERE id <= ?", ids[1_499])
            r.rows("UPDATE deferred SET due = ? WHERE id <= 10", int((time.time() + 3_000) * 1000))
            await ends(r)
            assert r.waiting() == 10 and len(r.acknowledged()) == 1_990

    asyncio.run(main())


def test_once_ends_when_every_attempt_fails_now_and_then(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = lambda sent: BROKEN if sent.id % 4 == 0 else OK
            await r.record_unseen(400)
            await ends(r)
            assert len(r.deferred()) == r.waiting() == 100
            assert all(sent.attempt == 1 for sent in r.destinations["a"].asked)

    asyncio.run(main())


@pytest.mark.parametrize("answer", [BROKEN, Outcome(Failure.GONE, 410), Outcome(Failure.THROTTLED, 429, "", "600")])
def test_once_ends_when_a_lane_stands_with_the_rest_untouched(make_rig: MakeRig, answer: Outcome):
    async def main() -> None:
        async with make_rig(plan(("b", to("b")), to("a"))) as r:
            r.behaviours["a"] = lambda sent: answer
            await r.record_unseen(2_000, "a")
            await r.record_unseen(2_000, "b")
            await ends(r)
            assert len(r.destinations["a"].asked) <= 16 + 5
            assert r.waiting() == 2_000 and len(r.destinations["b"].acknowledged) == 2_000

    asyncio.run(main())


def test_once_with_a_paused_destination_ends(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a")), paused=["a"]) as r:
            await r.record_unseen(50)
            await ends(r)
            assert r.waiting() == 50 and not r.destinations["a"].asked

    asyncio.run(main())


def test_d18_stop_finishes_what_is_on_its_way_and_nothing_is_lost(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            r.behaviours["a"] = lambda sent: None
            await r.record(1_000)
            await r.until(lambda: r.on_the_way("a") == 16)
            a = r.destinations["a"]
            flying = list(a.outstanding)
            stop = asyncio.get_running_loop().create_task(r.stop(30.0))
            await asyncio.sleep(0)
            for n, i in enumerate(flying):
                a.answer(i, BROKEN if n % 2 else OK)
                await asyncio.sleep(0)
            await asyncio.wait_for(stop, 20)
            assert len(a.asked) == 16, "nothing more was sent"
            assert set(r.deferred()) == set(flying[1::2]) and r.waiting() == 1_000 - 8
            assert len(r.processor._held) == 0 and a.closed

    asyncio.run(main())


def test_d18_what_is_not_answered_within_the_grace_stays_as_it_was(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            r.behaviours["a"] = lambda sent: None
            ids = await r.record(30)
            r.rows("INSERT INTO deferred SELECT id, 3, 7, 1, 1, 'before', '[]' FROM queue WHERE id = ?", ids[2])
            await r.until(lambda: r.on_the_way("a") == 16)
            r.destinations["a"].answer(ids[0])
            await asyncio.wait_for(r.stop(0.05), 20)
            assert r.waiting() == 29 and r.deferred() == {ids[2]: (3, 7)}
            assert r.rows("SELECT error FROM deferred") == [("before",)]

    asyncio.run(main())


def test_d18_a_second_stop_does_not_wait_for_the_grace_of_the_first(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            r.behaviours["a"] = lambda sent: None
            await r.record(30)
            await r.until(lambda: r.on_the_way("a") == 16)
            first = asyncio.get_running_loop().create_task(r.stop(600.0))
            await asyncio.sleep(0.02)
            assert not first.done()
            await asyncio.wait_for(r.processor.stop(0.0), 20)
            await asyncio.wait_for(first, 20)
            assert r.waiting() == 30

    asyncio.run(main())


def test_d3_what_was_answered_but_not_removed_is_posted_once_more_with_its_id(make_rig: MakeRig):
    """As after a kill between the two: the settlement never gets to the disk."""

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.queue.settle_fails = 1_000_000
            r.start()
            ids = await r.record(40)
            await r.until(lambda: bool(r.processor.trouble))
            await r.stop(0.0)
            first = dict(r.acknowledged())
            assert len(first) > 0 and r.waiting() == 40
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.until(lambda: r.waiting() == 0)
            assert sorted(r.destinations["a"].ids) == ids, "all of them, with the same ids"
            assert max(first.values()) == 1 and r.acknowledged() == dict.fromkeys(ids, 1)

    asyncio.run(main())


def test_d7_while_outcomes_cannot_be_written_the_loop_is_idle(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settle, "AGAIN", 0.05)

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            await r.record_unseen(50)
            r.rows("INSERT INTO deferred SELECT id, 1, 1, 1, 1, 'x', '[]' FROM queue WHERE id > 20")
            r.behaviours["a"] = lambda sent: OK if sent.attempt == 1 else None
            r.queue.settle_fails = 1_000_000
            r.start()
            await r.until(lambda: bool(r.processor.trouble))
            r.processor.retry()
            runs = 0
            look = r.plans.look

            def counted() -> Plan | None:
                nonlocal runs
                runs += 1
                return look()

            r.plans.look = counted
            await asyncio.sleep(0.4)
            assert runs <= 5, "once a second is the safety net"
            r.behaviours["a"] = lambda sent: OK
            r.destinations["a"].answer_all()
            r.queue.settle_fails = 0
            await r.until(lambda: r.waiting() == 0)
            assert r.acknowledged() == dict.fromkeys(r.recorded, 1)

    asyncio.run(main())


def test_once_says_when_the_queue_cannot_be_read(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            await r.record_unseen(5)

            async def fails(what: str) -> None:
                raise QueueUnavailable("cannot be read")

            r.queue.slow = fails
            with pytest.raises(QueueUnavailable):
                await ends(r)
            assert r.waiting() == 5

    asyncio.run(main())


def test_stop_while_outcomes_cannot_be_written_ends(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settle, "AGAIN", 0.05)

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.queue.settle_fails = 1_000_000
            r.start()
            await r.record(3)
            await r.until(lambda: bool(r.processor.trouble))
            await asyncio.wait_for(r.stop(1.0), 20)
            assert r.waiting() == 3
            r.queue.settle_fails = 0

    asyncio.run(main())


def test_a_pause_lasts_over_a_restart_until_resume(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("b", to("b")), to("a"))) as r:
            r.start()
            await r.record(1)
            await r.until(lambda: r.waiting() == 0)
            assert await r.processor.pause("a") == ["a"]
            await r.record(20)
            more = await r.record(5, "b")
            await r.until(lambda: set(more) <= set(r.acknowledged()))
            await r.until(lambda: r.waiting() == 20)
            assert await r.sqlite.kept("paused") == '["a"]'
            assert {s.destination: s.state for s in r.processor.routes()} == {"a": "paused", "b": "ok"}
            # An edit does not end it.
            r.plans.give(plan(("b", to("b")), ("c", to("b")), to("a")))
            r.nudge()
            await r.record(1, "b")
            await r.until(lambda: r.waiting() == 20)
            await r.stop()
        async with make_rig(plan(("b", to("b")), to("a")), paused=["a"]) as r:
            r.start()
            more = await r.record(1, "b")
            await r.until(lambda: set(more) <= set(r.acknowledged()) and r.waiting() == 20)
            assert await r.processor.resume("__legacy__") == ["a", "b"]
            await r.until(lambda: r.waiting() == 0)
            assert await r.sqlite.kept("paused") == "[]"
            # One that is in no plan when everything is resumed is not paused when it comes back.
            await r.processor.pause("b")
            r.plans.give(plan(to("a")))
            await r.record(1)
            await r.until(lambda: r.waiting() == 0)
            await r.processor.resume("__legacy__")
            r.plans.give(plan(("b", to("b")), to("a")))
            await r.record(1, "b")
            await r.until(lambda: r.waiting() == 0)

    asyncio.run(main())


@pytest.mark.parametrize("step", [DAY, -DAY, 90.0, -90.0])
def test_d15_retries_are_neither_lost_nor_put_off_when_the_clock_is_set(make_rig: MakeRig, step: float):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = lambda sent: BROKEN
            r.start()
            ids = await r.record(3)
            await r.until(lambda: set(r.deferred()) == set(ids))
            await r.idle()
            r.clock.set_wall(step)
            r.nudge()
            if step < 0:
                # The wait that was meant is kept, on the new clock.
                longest = 5 * (1 + JITTER) + 2
                await r.until(lambda: all(d <= (r.clock.wall() + longest) * 1000 for _, d in r.deferred().values()))
            r.behaviours["a"] = lambda sent: OK
            r.clock.advance(10.0)
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert set(r.acknowledged()) == set(ids)

    asyncio.run(main())


def test_d15_a_clock_that_was_right_again_after_a_day_ahead(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        clock = HandClock()
        monkeypatch.setattr(sqlite, "time", types.SimpleNamespace(time=clock.wall))
        clock.set_wall(DAY)
        async with make_rig(plan(to("a")), clock) as r:
            r.behaviours["a"] = lambda sent: BROKEN
            r.start()
            ids = await r.record(3)
            await r.until(lambda: set(r.deferred()) == set(ids))
            await r.idle()
            await r.stop()
        clock.set_wall(-DAY)  # while nobody ran
        async with make_rig(plan(to("a")), clock) as r:
            r.start()
            await r.until(lambda: all(due <= (clock.wall() + 10) * 1000 for _, due in r.deferred().values()))
            clock.advance(10.0)
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert set(r.acknowledged()) == set(ids)

    asyncio.run(main())


def test_d15_what_no_schedule_asked_for_becomes_due_within_the_cap(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            await r.record_unseen(3)
            now = int(r.clock.wall() * 1000)
            kept = now + int(FARTHEST * 1000) - 60_000
            for i, due in ((1, now + 400 * int(DAY) * 1000), (2, kept), (3, now + 1_000_000)):
                r.rows("INSERT INTO deferred VALUES (?, 1, ?, ?, ?, 'x', '[]')", i, due, now, now)
            r.start()
            await r.until(lambda: r.deferred()[1][1] <= (r.clock.wall() + CAP) * 1000)
            assert r.deferred()[2][1] == kept and r.deferred()[3][1] == now + 1_000_000

    asyncio.run(main())


def test_an_edit_and_a_broken_read_leave_the_loop_alive(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.record(1)
            await r.until(lambda: r.waiting() == 0)

            async def fails(what: str) -> None:
                raise QueueUnavailable("cannot be read")

            r.queue.slow = fails
            await r.record_unseen(5)
            r.plans.give(plan(("a", to("b")), to("a")))
            r.nudge()
            await r.record(1)
            await asyncio.sleep(0.05)
            r.queue.slow = None
            await r.until(lambda: r.waiting() == 0)
            assert r.acknowledged() == dict.fromkeys(r.recorded, 1)

    asyncio.run(main())
