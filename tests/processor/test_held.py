"""What is held, and what reads may still bring."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from mailvane.processor.held import HELD_BYTES, HELD_EVENTS, Held, sizes_of
from mailvane.queue.contract import Row
from processor.rig import BROKEN, OK, Rig, plan, sleeps_now_and_then, to

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]


def row(event_id: int, size: int = 10) -> Row:
    return Row(event_id, "bounce_all", "a1", size, "x" * size, "")


def test_a_read_that_began_before_a_settlement_may_not_bring_what_was_settled():
    held = Held()
    held.take(sizes_of([row(1)]))
    held.begin_read()
    assert not held.admits(1)
    held.release((1,))
    assert not held.admits(1)
    held.begin_read()  # a younger read does not make the older one forget
    held.end_read()
    assert not held.admits(1)
    held.end_read()
    held.begin_read()
    assert held.admits(1)
    held.end_read()


def test_what_was_given_back_may_be_brought_by_a_read_that_has_begun():
    held = Held()
    held.take(sizes_of([row(1)]))
    held.begin_read()
    held.give_back(1)
    assert held.admits(1)
    held.take(sizes_of([row(1)]))
    held.release((1,))
    assert not held.admits(1)
    held.end_read()


def test_held_is_bounded_by_events_and_by_bytes():
    held = Held()
    for i in range(HELD_EVENTS):
        assert not held.full
        held.take_id(i)
    assert held.full
    held.release((0,))
    assert not held.full and len(held) == HELD_EVENTS - 1
    held.take(sizes_of([row(HELD_EVENTS, HELD_BYTES)]))
    assert held.full and held.size == HELD_BYTES
    held.release((HELD_EVENTS,))
    held.release((HELD_EVENTS,))  # twice does no harm
    assert not held.full and held.size == 0


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_sent_twice_when_reads_come_late(make_rig: MakeRig, seed: int):
    """As on a server: what a read brings was true when it began, and settlements go on meanwhile."""

    async def main() -> None:
        async with make_rig(plan(("a", to("a")), to("b"))) as r:
            attempts: dict[int, int] = {}

            def some_fail(sent: Any) -> Any:
                attempts[sent.id] = attempts.get(sent.id, 0) + 1
                return BROKEN if sent.id % 7 == 0 and attempts[sent.id] == 1 else OK

            r.behaviours["a"] = r.behaviours["b"] = some_fail
            await r.record_unseen(600, "a")
            await r.record_unseen(600, "b")
            r.queue.slow = sleeps_now_and_then(seed)
            r.start()
            for at in range(40):
                await r.record(5, "ab"[at % 2])
                if at % 10 == 5:  # everything that waits in memory is given back, and read again
                    await r.processor.pause("a")
                    await r.processor.resume("a")
                if at % 10 == 9:  # and looked through again from the bottom
                    r.plans.give(
                        plan(("a", to("a")), ("c", to("b")), to("b")) if at % 20 == 9 else plan(("a", to("a")), to("b"))
                    )
                r.clock.advance(6.0)
                r.nudge()
                await asyncio.sleep(0.005)

            def all_there() -> bool:
                if r.waiting():
                    r.clock.advance(30.0)
                    r.nudge()
                return r.waiting() == 0

            await r.until(all_there)
            assert set(r.acknowledged()) == set(r.recorded)
            assert max(r.acknowledged().values()) == 1

    asyncio.run(main())
