"""Events that are replayed lie below what was looked through, and are delivered all the same."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from mailvane.destinations.contract import Outcome, Outgoing
from mailvane.processor.plan import Drop, Leave
from mailvane.queue.contract import Books, Filter
from processor.rig import BROKEN, Rig, plan, to

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]
HOUR = 3_600_000


async def delivered(r: Rig, count: int) -> list[int]:
    """So many events that are delivered, and kept."""
    r.sqlite.keep_delivered = HOUR
    r.start()
    ids = await r.record(count)
    await r.until(lambda: r.waiting() == 0)
    await r.idle()
    return ids


def times(r: Rig, name: str, event_id: int) -> int:
    return r.destinations[name].acknowledged[event_id]


def test_what_is_replayed_is_delivered_again_with_its_id(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            ids = await delivered(r, 30)
            again = [*ids[3:9], ids[20]]
            assert await r.processor.replay([*again, 10**9]) == again
            await r.until(lambda: r.waiting() == 0)
            assert {i for i in ids if times(r, "a", i) == 2} == set(again)
            assert all(times(r, "a", i) == 1 for i in set(ids) - set(again))
            assert [sent.attempt for sent in r.destinations["a"].asked[-7:]] == [1] * 7
            assert await r.sqlite.books() == Books(37, 37, 0, 0, 7)
            assert [row.id for row in await r.sqlite.select_delivered(Filter(), 0, 100)] == ids

    asyncio.run(main())


def test_a_replay_in_the_middle_of_a_read_is_not_passed_over(make_rig: MakeRig):
    """The page that is being read was made before the rows came back."""

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            ids = await delivered(r, 10)
            reading, go_on = asyncio.Event(), asyncio.Event()

            async def slow(what: str) -> None:
                if what in {"read", "scan"}:
                    reading.set()
                    await go_on.wait()

            r.queue.slow = slow
            r.plans.give(plan(("scomp", Drop()), to("a")))  # all is looked through again
            await r.record_unseen(1)
            r.nudge()
            await r.until(reading.is_set)
            replayed = asyncio.get_running_loop().create_task(r.processor.replay(ids))
            await r.until(replayed.done)
            go_on.set()
            await r.until(lambda: r.waiting() == 0)
            assert all(times(r, "a", i) == 2 for i in ids)

    asyncio.run(main())


def test_what_is_replayed_goes_by_the_plan_of_now(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            ids = await delivered(r, 6)
            r.plans.give(plan(("scomp", Drop()), ("bounce_all", to("b")), Leave()))
            await r.processor.replay(ids[:4])
            await r.until(lambda: r.waiting() == 0)
            assert [times(r, "b", i) for i in ids] == [1, 1, 1, 1, 0, 0]
            r.plans.give(plan(Leave()))
            await r.record(1)
            await r.processor.replay(ids[:2])
            r.nudge()
            await r.idle()
            assert r.waiting() == 3

    asyncio.run(main())


def test_a_replay_to_a_destination_that_is_down_waits_for_it(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            ids = await delivered(r, 40)

            def broken(_: Outgoing) -> Outcome | None:
                return BROKEN

            r.behaviours["a"] = broken
            await r.processor.replay(ids)
            await r.until(lambda: r.processor.routes()[0].state != "ok")
            del r.behaviours["a"]
            r.clock.advance(7_200)
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert all(times(r, "a", i) == 2 for i in ids)

    asyncio.run(main())


def test_a_single_run_does_not_end_before_what_was_replayed(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.sqlite.keep_delivered = HOUR
            await r.record_unseen(5)
            await r.start(once=True)
            await r.processor.replay([2, 3])
            await r.start(once=True)
            assert [times(r, "a", i) for i in range(1, 6)] == [1, 2, 2, 1, 1]

    asyncio.run(main())
