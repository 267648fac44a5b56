"""Everything at once: answers of every sort, edits, pauses, deletions by hand, others that commit, late reads.

One oracle: once all is well again nothing is missing, nobody has acknowledged anything twice, and the books balance.
"""

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from mailvane.destinations.contract import Failure, Outcome, Outgoing
from mailvane.processor import lane, settle
from mailvane.processor.plan import Drop, Leave
from mailvane.queue.contract import Filter
from processor.rig import OK, Rig, plan, sleeps_now_and_then, to

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]
STEPS = int(os.environ.get("CHAOS_STEPS", "500"))
PLANS = (
    plan(("x", to("a")), ("y", to("b")), to("c")),
    plan(("x", to("b")), ("y", to("a")), to("a")),
    plan(("x", to("a")), ("y", Leave()), to("b")),
    plan(to("c")),
)
BAD = (
    Outcome(Failure.SERVER, 500, "no"),
    Outcome(Failure.SERVER, 500, "no"),
    Outcome(Failure.RESET, 0, "reset"),
    Outcome(Failure.THROTTLED, 429, "slower", "2"),
    Outcome(Failure.REFUSED, 404, "not here"),
    Outcome(Failure.GONE, 410, "gone"),
)


@pytest.mark.parametrize("seed", range(4))
def test_everything_at_once(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, seed: int):
    monkeypatch.setattr(settle, "AGAIN", 0.02)
    monkeypatch.setattr(lane, "DEFERRED_LIMIT", 60)

    async def main() -> None:
        chance = random.Random(seed)
        async with make_rig(PLANS[0]) as r:
            sick = True

            def behave(sent: Outgoing) -> Outcome | None:
                if not sick:
                    return OK
                what = chance.random()
                if what < 0.6:
                    return OK
                if what < 0.75:
                    return None
                return chance.choice(BAD)

            for name in "abc":
                r.behaviours[name] = behave
            await r.record_unseen(400, "x")
            await r.record_unseen(400, "y")
            r.queue.slow = sleeps_now_and_then(seed, 0.004)
            r.start()
            deleted: set[int] = set()
            for _ in range(STEPS):
                await _one_thing(r, chance, deleted)
                for destination in r.all_destinations:
                    for event_id in list(destination.outstanding):
                        if chance.random() < 0.4:
                            destination.answer(event_id, OK if chance.random() < 0.6 else chance.choice(BAD))
                r.clock.advance(chance.choice([0.01, 0.1, 0.7, 3.0]))
                if chance.random() < 0.5:
                    r.nudge()
                await asyncio.sleep(chance.choice([0.0, 0.0, 0.001, 0.005]))
            # All is well again.
            sick = False
            r.plans.give(PLANS[0])
            r.nudge()
            await r.until(lambda: r.processor.plan == PLANS[0])
            while r.waiting():
                for destination in r.all_destinations:
                    destination.answer_all()
                await r.processor.resume("__legacy__")
                await r.idle()
                r.clock.advance(61.0)
                await r.sqlite.retry(Filter(), int(r.clock.wall() * 1000))
                r.processor.retry()
                before = r.waiting()
                await r.until(lambda before=before: r.waiting() < before or not r.waiting())
            await r.idle()
            acknowledged = r.acknowledged()
            assert max(acknowledged.values()) == 1, "acknowledged twice"
            missing = set(r.recorded) - set(acknowledged) - deleted
            assert not missing
            assert set(acknowledged) <= set(r.recorded), "spurious"
            books = await r.sqlite.books()
            assert books.waiting == 0 and books.recorded == len(r.recorded)
            assert books.delivered + books.dropped + books.deleted == books.recorded
            assert r.deferred() == {} and len(r.processor._held) == 0 and r.processor._held.size == 0

    asyncio.run(main())


async def _one_thing(r: Rig, chance: random.Random, deleted: set[int]) -> None:
    match chance.randrange(9):
        case 0 | 1:
            await r.record(chance.randrange(1, 30), chance.choice("xyz"))
        case 2:
            await r.record_unseen(chance.randrange(1, 30), chance.choice("xyz"))
        case 3:
            r.plans.give(chance.choice(PLANS))
        case 4:
            await r.processor.pause(chance.choice("abc"))
        case 5:
            await r.processor.resume(chance.choice(["a", "b", "c", "__legacy__"]))
        case 6:
            for event_id in chance.sample(r.recorded, 3):
                if r.rows("SELECT count(*) FROM queue WHERE id = ?", event_id)[0][0]:
                    deleted.add(event_id)
                    r.rows("DELETE FROM events WHERE id = ?", event_id)
        case 7:
            await r.sqlite.retry(Filter(), int(r.clock.wall() * 1000))
            r.processor.retry()
        case _:
            r.queue.settle_fails += chance.choice([0, 0, 2])


def test_everything_at_once_with_events_dropped_and_left(make_rig: MakeRig):
    """The plans drop and leave as well, so that books have all columns."""

    async def main() -> None:
        chance = random.Random(7)
        plans = (
            plan(("x", to("a")), ("y", Drop()), Leave()),
            plan(("x", Leave()), ("y", to("b")), ("z", to("a")), Leave()),
        )
        async with make_rig(plans[0]) as r:
            r.start()
            for n in range(60):
                await r.record(chance.randrange(1, 40), "xyz"[n % 3])
                if n % 7 == 0:
                    r.plans.give(plans[n % 2])
                    r.nudge()
            r.plans.give(plan(("y", Drop()), to("a")))
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            books = await r.sqlite.books()
            assert books.recorded == len(r.recorded) == books.delivered + books.dropped
            assert books.delivered == len(r.acknowledged()) and max(r.acknowledged().values()) == 1

    asyncio.run(main())
