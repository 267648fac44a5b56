"""Edits of the configuration while events wait, are on their way, and have just failed."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from mailvane.destinations.contract import Outcome as Result
from mailvane.destinations.contract import Outgoing
from mailvane.errors import QueueUnavailable
from mailvane.processor.plan import Drop, Leave
from mailvane.queue.contract import Filter
from processor.house import acknowledged, house, number
from processor.rig import BROKEN, OK, PATIENCE, HandClock, Rig, plan, to
from support.endpoint import Endpoint, Outcome, Request, Reset
from support.homes import DROPS, LEAVES, legacy, posts_to, rule

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]
MakeEndpoint = Callable[..., Endpoint]


def test_pending_events_rerouted_while_some_are_in_flight_and_some_have_just_failed(
    tmp_path: Path, make_endpoint: MakeEndpoint
):
    old, new = make_endpoint(), make_endpoint()

    def mixed(request: Request) -> Outcome:
        return (200, 500, Reset())[number(request) % 3]

    async def main() -> None:
        clock = HandClock()
        async with house(tmp_path, posts_to(old.url()), clock) as h:
            # Two fail at once and wait for their next try.
            old.script(500, 500)
            failed = await h.record(2)
            await h.until(lambda: h.deferred() == set(failed))
            old.hold()
            await h.record(400)
            await h.until(lambda: len(old.requests) >= 2 + 16)
            in_flight = {number(request) for request in old.requests[2:]}
            old.answer = mixed
            h.write(posts_to(new.url()))
            (after,) = await h.record(1)
            await h.until(lambda: acknowledged(new)[after] == 1)
            await h.until(lambda: set(h.recorded) - in_flight <= set(acknowledged(new)))
            assert not in_flight & {number(request) for request in new.requests}, "what is in flight is not sent twice"
            assert (await h.service.status()).queue.in_flight == len(in_flight), "also what the plan before has sent"
            assert set(failed) <= set(acknowledged(new)), "what failed before does not sit out its wait"
            old.release()
            await h.until(lambda: h.waiting() == 0)
            by_old, by_new = acknowledged(old), acknowledged(new)
            assert set(by_old) == {i for i in in_flight if i % 3 == 0}
            assert by_old + by_new == Counter(h.recorded), "each acknowledged once, by one of the two"

    asyncio.run(main())


def test_what_failed_a_moment_before_the_edit_is_not_on_disk_yet_goes_at_once(make_rig: MakeRig):
    """The edit comes between a failure and its settlement: under the plan before it was told to wait."""

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.start()
            await r.record(1)
            await r.until(lambda: r.waiting() == 0)
            r.behaviours["a"] = lambda sent: None
            ids = await r.record(4)
            await r.until(lambda: r.on_the_way("a") == 4)
            for i in ids:
                r.destinations["a"].answer(i, BROKEN)
            assert not r.deferred(), "else this shows nothing"
            r.plans.give(plan(("other", to("a")), to("b")))
            r.nudge()
            await r.until(lambda: r.waiting() == 0, 4.0)  # they were told to wait for five seconds
            assert set(r.destinations["b"].acknowledged) == set(ids)

    asyncio.run(main())


def test_an_edit_that_cannot_move_what_failed_holds_up_nothing_else(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    """A full disk: making events due writes, and what is delivered makes room."""

    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = lambda sent: BROKEN
            r.start()
            failed = await r.record(3)
            await r.until(lambda: set(r.deferred()) == set(failed))
            full = True
            retry = r.sqlite.retry

            async def refused(which: Filter, now: int) -> int:
                if full:
                    raise QueueUnavailable("no room on the disk")
                return await retry(which, now)

            monkeypatch.setattr(r.sqlite, "retry", refused)
            backlog = await r.record_unseen(600)
            r.plans.give(plan(("x", to("a")), to("b")))
            r.nudge()
            await r.until(lambda: "b" in r.destinations and set(backlog) <= set(r.destinations["b"].acknowledged))
            full = False
            r.clock.advance(1.5)
            r.nudge()
            await r.until(lambda: r.waiting() == 0, 4.0)
            assert r.acknowledged() == dict.fromkeys(r.recorded, 1)

    asyncio.run(main())


def test_a_delivered_type_rerouted_to_another_endpoint_brings_it_only_what_is_new(
    tmp_path: Path, make_endpoint: MakeEndpoint
):
    one, two = make_endpoint(), make_endpoint()
    clicks = {"event_type": ["engine_click"]}

    async def main() -> None:
        async with house(tmp_path, posts_to(one.url())) as h:
            before = await h.record(300, "engine_click")
            await h.until(lambda: h.waiting() == 0)
            h.write(legacy(rule("http_post", clicks, url=two.url()), rule("http_post", url=one.url())))
            after = await h.record(50, "engine_click")
            rest = await h.record(50)
            await h.until(lambda: h.waiting() == 0)
            assert acknowledged(two) == Counter(after)
            assert acknowledged(one) == Counter([*before, *rest])

    asyncio.run(main())


def test_an_event_that_is_recorded_after_the_edit_goes_by_it(tmp_path: Path, make_endpoint: MakeEndpoint):
    one, two = make_endpoint(), make_endpoint()

    async def main() -> None:
        async with house(tmp_path, posts_to(one.url())) as h:
            await h.record(1)
            await h.until(lambda: h.waiting() == 0)
            for n in range(10):
                to_two = n % 2 == 0
                h.write(posts_to((two if to_two else one).url()))
                (i,) = await h.record(1)
                await h.until(lambda: h.waiting() == 0)
                assert acknowledged(two if to_two else one)[i] == 1
                assert acknowledged(one if to_two else two)[i] == 0
            h.write(LEAVES)
            (left,) = await h.record(1)
            h.write(DROPS)
            await h.record(1)
            await h.until(lambda: h.waiting() == 0)
            assert acknowledged(one, two)[left] == 0

    asyncio.run(main())


def test_rules_reordered_over_many_events_half_of_which_are_left(make_rig: MakeRig):
    async def main() -> None:
        await reorder(make_rig, 20_000)

    asyncio.run(main())


async def reorder(make_rig: MakeRig, count: int, patience: float = PATIENCE) -> None:
    """`count` events of two types, the rules turned round while they are delivered."""
    first = plan(("left", Leave()), to("a"))
    turned = plan(("left", to("b")), ("bounce_all", Leave()), to("a"))
    async with make_rig(first) as r:
        for _ in range(count // 1_000):
            await r.record_unseen(500, "left")
            await r.record_unseen(500)
        delivered_at_first = 0

        def until_a_quarter(_: Outgoing) -> Result | None:
            nonlocal delivered_at_first
            delivered_at_first += 1
            return OK if delivered_at_first <= count // 4 else None

        r.behaviours["a"] = until_a_quarter
        r.start()
        await r.until(lambda: delivered_at_first > count // 4, patience)
        await r.until(lambda: r.on_the_way("a") >= 16, patience)
        r.plans.give(turned)
        r.nudge()
        (new,) = await r.record(1, "left")
        await r.until(lambda: r.processor.plan == turned, patience)
        in_flight = set(r.destinations["a"].outstanding)
        asked = len(r.destinations["b"].asked) if "b" in r.destinations else 0
        await r.until(lambda: "b" in r.destinations and r.destinations["b"].acknowledged[new] == 1, patience)
        before_it = r.destinations["b"].ids.index(new) - asked
        assert before_it <= count // 4, "what is new does not wait for the whole backlog"
        await r.until(lambda: len(r.destinations["b"].acknowledged) == count // 2 + 1, patience)
        # Half of what was in flight under the old plan fails; both halves end as they end.
        for n, i in enumerate(sorted(in_flight)):
            r.destinations["a"].answer(i, BROKEN if n % 2 else OK)
        await r.idle()
        left = count // 2 - len(r.destinations["a"].acknowledged)
        await r.until(lambda: r.waiting() == left, patience)
        r.behaviours["a"] = lambda sent: OK
        r.plans.give(plan(("left", to("b")), to("a")))
        r.nudge()
        await r.until(lambda: r.waiting() == 0, patience)
        assert r.acknowledged() == dict.fromkeys(r.recorded, 1)
        books = await r.sqlite.books()
        assert (books.recorded, books.delivered, books.waiting) == (count + 1, count + 1, 0)


def test_c1_a_restart_over_a_broken_file_goes_on_with_the_last_good_one(tmp_path: Path, make_endpoint: MakeEndpoint):
    one, two = make_endpoint(), make_endpoint()
    good = json.dumps(posts_to(two.url()))

    async def main() -> None:
        async with house(tmp_path, posts_to(one.url())) as h:
            await h.record(5)
            await h.until(lambda: h.waiting() == 0)
            h.write(good)
            await h.record(5)
            await h.until(lambda: h.waiting() == 0 and len(acknowledged(two)) == 5)
        for broken in (good[: len(good) // 2], "", "\0", json.dumps(legacy()), good.replace("http:", "gopher:")):
            async with house(tmp_path, broken) as h:
                ids = await h.record(3)
                await h.until(lambda: h.waiting() == 0)
                assert set(ids) <= set(acknowledged(two))
                assert h.service.plans is not None and h.service.plans.state.kind == "stale"
        (tmp_path / "control" / "event_processor.json").unlink()
        async with house(tmp_path, None) as h:
            ids = await h.record(3)
            await h.until(lambda: h.waiting() == 0)
            assert set(ids) <= set(acknowledged(two)) and len(acknowledged(one)) == 5

    asyncio.run(main())


def test_c1_a_file_that_is_being_written_changes_nothing(tmp_path: Path, make_endpoint: MakeEndpoint):
    one, two = make_endpoint(), make_endpoint()
    text = json.dumps(posts_to(two.url()), indent=2).encode()

    async def main() -> None:
        async with house(tmp_path, posts_to(one.url())) as h:
            await h.record(1)
            await h.until(lambda: h.waiting() == 0)
            with h.settings.legacy_file.open("wb", buffering=0) as file:
                for at in range(0, len(text), 16):
                    file.write(text[at : at + 16])
                    if at + 16 < len(text):
                        await h.record(2)
                        await h.until(lambda: h.waiting() == 0)
            written = acknowledged(one)
            assert written == Counter(h.recorded)
            after = await h.record(2)
            await h.until(lambda: h.waiting() == 0)
            assert acknowledged(two) == Counter(after), "once it is whole it holds"

    asyncio.run(main())


def test_c10_one_run_goes_by_one_plan(make_rig: MakeRig):
    """Edits as fast as they can come, over a backlog and over new events."""

    async def main() -> None:
        async with make_rig(plan(("x", to("a")), to("b"))) as r:
            await r.record_unseen(1_500, "x")
            await r.record_unseen(1_500, "y")
            r.start()
            plans = [
                plan(("x", to("a")), to("b")),
                plan(("x", to("b")), to("a")),
                plan(to("b")),
                plan(("y", to("c")), ("x", Leave()), to("b")),
            ]
            for n in range(120):
                r.plans.give(plans[n % 4])
                r.nudge()
                await r.record(3, "xy"[n % 2])
                if n % 5 == 0:
                    await asyncio.sleep(0)
            r.plans.give(plans[0])
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert r.acknowledged() == dict.fromkeys(r.recorded, 1)

    asyncio.run(main())


def test_a_destination_that_is_gone_from_the_plan_ends_its_connections(tmp_path: Path, make_endpoint: MakeEndpoint):
    one, two = make_endpoint(), make_endpoint()

    async def main() -> None:
        async with house(tmp_path, posts_to(one.url())) as h:
            await h.record(200)
            await h.until(lambda: h.waiting() == 0)
            assert one.open_connections
            h.write(posts_to(two.url()))
            await h.record(1)
            await h.until(lambda: h.waiting() == 0)
            await h.until(lambda: one.open_connections == 0)

    asyncio.run(main())


def test_what_is_left_and_failed_waits_until_it_has_a_way_again(make_rig: MakeRig):
    async def main() -> None:
        async with make_rig(plan(to("a"))) as r:
            r.behaviours["a"] = lambda sent: BROKEN
            r.start()
            ids = await r.record(4)
            await r.until(lambda: set(r.deferred()) == set(ids))
            r.plans.give(plan(Leave()))
            r.nudge()
            r.clock.advance(100.0)
            await r.idle()
            r.behaviours["a"] = lambda sent: OK
            r.plans.give(plan(("x", Drop()), to("a")))
            r.nudge()
            await r.until(lambda: r.waiting() == 0)
            assert r.acknowledged() == dict.fromkeys(ids, 1)

    asyncio.run(main())
