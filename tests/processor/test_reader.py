"""What is read, when, and by whom it is taken."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from mailvane.destinations.contract import Outcome, Outgoing
from mailvane.processor import lane as lane_module
from mailvane.processor import retries as retries_module
from mailvane.processor.held import HELD_BYTES
from mailvane.processor.plan import Drop, Leave, Plan
from mailvane.queue.contract import Filter
from processor.rig import BROKEN, OK, Rig, plan, to

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]


def once_each(r: Rig) -> None:
    assert r.acknowledged() == dict.fromkeys(r.recorded, 1)


def hold(_: Outgoing) -> Outcome | None:
    return None


def fail(_: Outgoing) -> Outcome | None:
    return BROKEN


def test_hand_over_with_a_gap_delivers_what_others_committed_before(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.record(3)
            await r.until(lambda: r.waiting() == 0)
            r.behaviours["a"] = hold
            foreign = await r.record_unseen(5)
            ours = await r.record(5)
            await r.until(lambda: len(r.destinations["a"].outstanding) == 10)
            assert set(r.destinations["a"].outstanding) == {*foreign, *ours}
            r.destinations["a"].answer_all()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)
            assert len(r.destinations["a"].asked) == 13

    asyncio.run(main())


def test_what_nobody_handed_over_is_noticed_within_a_second(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.record(1)
            await r.until(lambda: r.waiting() == 0)
            await r.record_unseen(700)
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_a_page_that_is_all_for_one_lane_gives_it_no_more_than_it_has_room_for(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("bounce_all", to("slow")), ("scomp", to("well")))) as r:
            r.behaviours["slow"] = hold
            await r.record_unseen(3_000)
            await r.record_unseen(10, "scomp")
            r.start()
            await r.processor.begun.wait()
            await r.until(lambda: len(r.destinations["well"].acknowledged) == 10)
            (waiting,) = [lane.waiting for lane in r.processor._lanes if lane.backlog]
            assert 0 < waiting <= lane_module.WINDOW

    asyncio.run(main())


def test_what_was_handed_over_is_not_read_again(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.record(1)
            await r.until(lambda: r.waiting() == 0)
            before = len(r.queue.reads)
            await r.record(200)
            await r.until(lambda: r.waiting() == 0)
            assert not [what for what, n in r.queue.reads[before:] if n and what in {"read", "scan", "fetch"}]

    asyncio.run(main())


def test_new_events_go_out_between_those_of_the_backlog(make_rig: MakeRig):
    """How many others go before a new event is the promise; how long that takes is the endpoint's affair."""

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            await r.record_unseen(4_000)
            r.start()
            r.behaviours["a"] = hold
            await r.until(lambda: r.on_the_way("a") == 16)
            a = r.destinations["a"]
            backlog = 0
            for _ in range(30):
                (new,) = await r.record(1)
                before = len(a.asked)
                while new not in a.outstanding:
                    a.answer(next(iter(a.outstanding)))
                    await r.until(lambda: len(a.outstanding) >= 16)
                backlog += len(a.asked) - before - 1
                assert a.ids.index(new) - before <= 1, "at most one of the backlog goes before it"
            assert backlog >= 15, "and the backlog goes on as well"
            r.behaviours["a"] = lambda sent: OK
            a.answer_all()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_h23_new_events_stay_first_at_an_endpoint_slower_than_a_second(make_rig: MakeRig):
    """What waited in memory for long is looked up again in its place, not put behind the backlog."""

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            await r.record_unseen(2_000)
            r.start()
            r.behaviours["a"] = hold
            await r.until(lambda: r.on_the_way("a") == 16)
            a = r.destinations["a"]
            for _ in range(8):
                (new,) = await r.record(1)
                before = len(a.asked)
                r.clock.advance(2.0)
                a.answer(next(iter(a.outstanding)))
                r.nudge()
                await r.until(lambda: len(a.outstanding) >= 16)
                if new not in a.outstanding:
                    a.answer(next(iter(a.outstanding)))
                    await r.until(lambda: len(a.outstanding) >= 16)
                assert a.ids.index(new) - before <= 1
            r.behaviours["a"] = lambda sent: OK
            a.answer_all()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_what_is_given_back_while_a_read_is_under_way_is_not_lost(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            r.behaviours["a"] = hold
            await r.record(1)
            await r.until(lambda: r.on_the_way("a") == 1)
            a = r.destinations["a"]
            await r.record(700)  # the window is full, the rest is backlog
            reading, go = asyncio.Event(), asyncio.Event()

            async def slow(what: str) -> None:
                if what in {"read", "scan"}:
                    reading.set()
                    r.changed()
                    await go.wait()

            r.queue.slow = slow
            while not reading.is_set():
                a.answer(next(iter(a.outstanding)))
                await r.until(lambda: len(a.outstanding) >= 16)
                await asyncio.sleep(0)
            await r.processor.pause("a")
            await r.processor.resume("a")
            r.behaviours["a"] = lambda sent: OK
            a.answer_all()
            go.set()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)
            assert len(a.asked) == 701

    asyncio.run(main())


def test_rows_deleted_by_hand_before_they_are_sent_are_not_sent(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            r.behaviours["a"] = hold
            ids = await r.record(600)
            await r.until(lambda: r.on_the_way("a") == 16)
            a = r.destinations["a"]
            in_memory, in_backlog = ids[100], ids[590]
            r.rows("DELETE FROM events WHERE id IN (?, ?)", in_memory, in_backlog)
            r.clock.advance(1.5)  # what is in memory was read more than a second ago
            r.behaviours["a"] = lambda sent: OK
            a.answer_all()
            await r.until(lambda: r.waiting() == 0)
            assert in_memory not in a.ids and in_backlog not in a.ids
            assert set(r.acknowledged()) == set(ids) - {in_memory, in_backlog}
            books = await r.sqlite.books()
            assert (books.deleted, books.delivered, books.waiting) == (2, 598, 0)

    asyncio.run(main())


def test_deferred_rows_deleted_by_hand_are_forgotten(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = fail
            r.start()
            ids = await r.record(3)
            await r.until(lambda: set(r.deferred()) == set(ids))
            r.rows("DELETE FROM events WHERE id = ?", ids[0])
            r.rows("DELETE FROM queue WHERE id = ?", ids[1])  # somebody goes round the view
            r.rows("INSERT INTO deferred VALUES (999, 1, 1, 1, 1, 'its event is gone', '[]')")
            r.behaviours["a"] = lambda sent: OK
            r.clock.advance(10.0)
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert set(r.acknowledged()) == {ids[2]}
            # The orphan is due for ever; looking for it must not become all there is to do.
            r.clock.advance(1.5)
            looks = len(r.queue.reads)
            for _ in range(5):
                r.nudge()
                await asyncio.sleep(0.02)
            assert 1 <= len(r.queue.reads) - looks <= 10
            r.clock.advance(61.0)
            r.nudge()
            await r.until(lambda: not r.deferred())

    asyncio.run(main())


def test_due_events_of_a_destination_that_stands_do_not_hide_those_of_others(make_rig: MakeRig):
    async def main() -> None:
        start = plan(("dead", to("dead")), to("well"))
        async with make_rig(start) as r:
            dead = await r.record_unseen(10_000, "dead")
            well = await r.record_unseen(10, "well")
            # As an earlier run left them: all failed, the dead one's due first.
            for ids, due in ((dead, 1), (well, 1_000_000)):
                r.rows(
                    "INSERT INTO deferred SELECT id, 1, ?, 1, 1, 'x', '[]' FROM queue WHERE id BETWEEN ? AND ?",
                    due,
                    ids[0],
                    ids[-1],
                )
            r.behaviours["dead"] = fail
            await r.processor.pause("dead")
            r.start()
            await r.until(lambda: len(r.acknowledged()) == 10)
            assert set(r.acknowledged()) == set(well)
            assert len(r.destinations["dead"].asked) <= 5 + 16
            # Somebody says retry --all: the dead one's are due again, and the circuit closed.
            await r.sqlite.retry(Filter(), int(r.clock.wall() * 1000))
            r.processor.retry()
            more = await r.record(10, "well")
            await r.until(lambda: len(r.acknowledged()) == 20)
            assert set(r.acknowledged()) == {*well, *more}
            # Deliveries to the healthy one do not look through all that is due each time.
            await r.idle()
            looks = len([1 for what, _ in r.queue.reads if what == "due"])
            await r.record(300, "well")
            await r.until(lambda: len(r.acknowledged()) == 320)
            assert len([1 for what, _ in r.queue.reads if what == "due"]) - looks <= 2 * 40 + 10

    asyncio.run(main())


def test_many_retries_of_one_destination_all_go_out(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    """More than a lane takes at once: those that had no room follow as soon as there is some."""
    monkeypatch.setattr(retries_module, "ROUND", 3_600.0)

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            ids = await r.record_unseen(3_000)
            r.rows("INSERT INTO deferred SELECT id, 1, 1, 1, 1, 'server_error', '[]' FROM queue")
            r.start()
            await r.until(lambda: r.waiting() == 0, 20.0)
            once_each(r)
            assert set(r.acknowledged()) == set(ids) and all(sent.attempt == 2 for sent in r.destinations["a"].asked)
            assert r.deferred() == {}

    asyncio.run(main())


@pytest.mark.parametrize("start", [None, Plan(), plan(Leave()), plan(("other", to("a")), Leave())])
def test_what_no_route_takes_stays_and_goes_as_soon_as_one_does(make_rig: MakeRig, start: Plan | None):
    async def main() -> None:
        async with make_rig(start) as r:
            await r.record_unseen(2_500)
            r.start()
            await r.record(2_500)
            await r.idle()
            r.nudge()
            await r.until(lambda: not r.processor._reader.sweeping)
            assert r.waiting() == 5_000 and not r.acknowledged()
            r.plans.give(plan(to("a")))
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_a_few_among_many_left_ones_are_found(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("rare", to("a")), Leave())) as r:
            rare: list[int] = []
            for _ in range(4):
                await r.record_unseen(5_000)
                rare += await r.record_unseen(2, "rare")
            r.start()
            await r.until(lambda: len(r.acknowledged()) == 8)
            assert set(r.acknowledged()) == set(rare)
            await r.until(lambda: r.waiting() == 20_000)
            read = sum(n for what, n in r.queue.reads if what == "read")
            assert read < 2_000, "bodies of what is left are not read"

    asyncio.run(main())


def test_a_probe_is_found_among_many_rows_of_others(make_rig: MakeRig):
    """A lane that wants one row does not read the others' one at a time."""

    async def main() -> None:
        async with make_rig(plan(("b", to("b")), ("a", to("a")), Leave())) as r:
            r.behaviours["a"] = fail
            r.start()
            await r.record(5, "a")
            await r.until(lambda: r.processor.routes()[1].state == "circuit_open")
            await r.record_unseen(20_000, "left")
            (wanted,) = await r.record_unseen(1, "a")
            r.behaviours["a"] = lambda sent: OK
            await r.processor.pause("b")
            await r.idle()
            asked = len(r.destinations["a"].asked)
            r.clock.advance(61.0)  # those that failed are due, too
            r.nudge()
            reads = len(r.queue.reads)
            await r.until(lambda: wanted in r.acknowledged())
            assert r.destinations["a"].asked[asked].id == wanted
            assert len(r.queue.reads) - reads < 200

    asyncio.run(main())


def test_drop_removes_without_asking_anybody(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("a", to("a")), Drop())) as r:
            await r.record_unseen(3_000)
            mine = await r.record_unseen(10, "a")
            r.start()
            await r.record(500)
            await r.until(lambda: r.waiting() == 0)
            assert set(r.acknowledged()) == set(mine)
            books = await r.sqlite.books()
            assert (books.dropped, books.delivered, books.waiting) == (3_500, 10, 0)

    asyncio.run(main())


def test_what_failed_is_dropped_when_the_plan_drops_it(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = fail
            r.start()
            ids = await r.record(4)
            await r.until(lambda: set(r.deferred()) == set(ids))
            r.plans.give(plan(Drop()))
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert r.deferred() == {} and (await r.sqlite.books()).dropped == 4

    asyncio.run(main())


def test_with_too_many_that_failed_nothing_new_is_taken_until_they_are_fewer(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lane_module, "DEFERRED_LIMIT", 40)

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            # A third fails: the circuit stays closed.
            r.behaviours["a"] = lambda sent: BROKEN if sent.id % 3 == 0 and sent.attempt == 1 else OK
            r.start()
            await r.record(4_000)
            await r.until(lambda: len(r.deferred()) >= 40)
            await r.idle()
            assert len(r.deferred()) <= 40 + 528, "what was in memory or on its way comes on top"
            asked = len(r.destinations["a"].asked)
            r.nudge()
            await r.record(1)
            await r.idle()
            assert len(r.destinations["a"].asked) == asked
            for _ in range(200):
                r.clock.advance(6.0)
                r.nudge()
                if r.waiting() == 0:
                    break
                await asyncio.sleep(0.01)
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_a_probe_is_an_event_that_has_not_failed_yet(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = fail
            r.start()
            await r.record(40)
            await r.until(lambda: r.processor.routes()[0].state == "circuit_open" and len(r.deferred()) >= 5)
            await r.idle()
            a = r.destinations["a"]
            failed = set(r.deferred())
            assert len(failed) <= 5 + 16
            for _ in range(6):
                asked = len(a.asked)
                r.clock.advance(61.0)  # everything that failed is due as well
                r.nudge()
                await r.until(lambda asked=asked: len(a.asked) > asked)
                await r.idle()
                assert len(a.asked) == asked + 1 and a.asked[-1].id not in failed and a.asked[-1].attempt == 1
                failed.add(a.asked[-1].id)
            assert a.most_outstanding <= 16

    asyncio.run(main())


def test_a_lane_with_nothing_but_failed_events_probes_with_one_of_them(make_rig: MakeRig):
    """Also beside another lane that stands over a backlog, and long before the failed ones are due."""

    async def main() -> None:
        async with make_rig(plan(("b", to("b")), to("a"))) as r:
            refused = Outcome(BROKEN.failure, 500, "no")
            r.behaviours["a"] = lambda sent: refused
            r.behaviours["b"] = lambda sent: refused
            r.start()
            await r.record(200, "b")
            await r.record(5)
            await r.until(lambda: all(s.state == "circuit_open" for s in r.processor.routes()))
            await r.idle()
            r.rows("UPDATE deferred SET due = due + 3000000")
            a = r.destinations["a"]
            asked = len(a.asked)
            r.behaviours["a"] = lambda sent: OK
            r.clock.advance(1.1)
            r.nudge()
            await r.until(lambda: len(a.asked) == asked + 1)
            await r.until(lambda: r.processor.routes()[1].state == "retrying")
            assert a.asked[-1].attempt == 2

    asyncio.run(main())


def test_a_lane_that_stands_over_nothing_does_not_keep_the_loop_busy(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("b", to("b")), to("a"))) as r:
            r.behaviours["a"] = r.behaviours["b"] = fail
            r.start()
            await r.record(200, "b")
            ids = await r.record(5)
            await r.until(lambda: all(s.state == "circuit_open" for s in r.processor.routes()))
            await r.idle()
            await r.processor.pause("b")
            for i in ids:
                r.rows("DELETE FROM events WHERE id = ?", i)
            r.clock.advance(5.0)
            r.nudge()
            await asyncio.sleep(0.05)
            runs = 0
            look = r.plans.look

            def counted() -> Plan | None:
                nonlocal runs
                runs += 1
                return look()

            r.plans.look = counted
            await asyncio.sleep(0.5)
            assert runs <= 5, "once a second is the safety net"

    asyncio.run(main())


def test_bodies_in_memory_stay_within_their_bound(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(("a", to("a")), to("b"))) as r:
            size = 1024 * 1024 - 200
            r.behaviours["a"] = r.behaviours["b"] = hold
            r.start()
            await r.record(40, "a", size)
            most = 0
            for _ in range(3):
                await r.record(8, "a", size)
                await r.record_unseen(8, "b")
                r.nudge()
                await r.until(lambda: len(r.destinations["b"].outstanding) >= 8)
                most = max(most, r.processor._held.size)
                r.destinations["b"].answer_all()
            assert most <= HELD_BYTES
            assert len(r.destinations["a"].outstanding) <= 16
            # While one holds all it may have, large events of the other go out, too.
            big = await r.record(5, "b", size)
            await r.until(lambda: set(big) <= set(r.destinations["b"].outstanding))
            assert r.processor._held.size <= HELD_BYTES
            reads = len(r.queue.reads)
            for _ in range(5):
                r.nudge()
                await asyncio.sleep(0.02)
            assert len(r.queue.reads) - reads <= 20, "what would be refused is not read again and again"
            r.behaviours["a"] = r.behaviours["b"] = lambda sent: OK
            for d in r.destinations.values():
                d.answer_all()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_large_events_that_do_not_fit_beside_others_are_not_read_again_and_again(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(*[(f"t{n}", to(f"d{n}")) for n in range(60)], to("a"))) as r:
            r.behaviours["a"] = hold
            r.start()
            await r.record(1, size=100_000)
            await r.record(3, size=1024 * 1024 - 200)
            await r.until(lambda: r.on_the_way("a") == 1)
            await r.record_unseen(1, size=10)
            r.clock.advance(1.1)
            r.nudge()
            await asyncio.sleep(0.05)
            reads = len(r.queue.reads)
            for _ in range(5):
                r.nudge()
                await asyncio.sleep(0.02)
            assert len(r.queue.reads) - reads <= 20
            r.behaviours["a"] = lambda sent: OK
            r.destinations["a"].answer_all()
            await r.until(lambda: r.waiting() == 0)
            once_each(r)

    asyncio.run(main())


def test_a_hundred_destinations_share_what_may_be_held(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(*[(f"t{n}", to(f"d{n}")) for n in range(100)], Leave())) as r:
            for n in range(99):
                r.behaviours[f"d{n}"] = hold
            for n in range(100):
                await r.record_unseen(60, f"t{n}")
            await r.record_unseen(9_000, "t0")
            r.start()
            await r.until(lambda: len(r.acknowledged()) == 60)
            assert len(r.processor._held) <= 10_000
            await r.record(200, "t99")
            await r.until(lambda: len(r.acknowledged()) == 260)

    asyncio.run(main())
