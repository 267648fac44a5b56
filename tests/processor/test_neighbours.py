"""What one destination does to itself, it does not do to the others: by HTTP, over the whole way."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mailvane.destinations.dial import Limits
from mailvane.processor.held import HELD_BYTES
from processor.house import acknowledged, house, number
from processor.rig import HandClock
from support.endpoint import Answer, Endpoint, Never
from support.homes import legacy, posts_to, rule
from support.ports import free_port

MakeEndpoint = Callable[..., Endpoint]
QUICK = Limits(connect=0.5, attempt=0.3, resolve=1.0, idle=4.0)


def only(event_type: str, url: str) -> dict[str, object]:
    return rule("http_post", {"event_type": [event_type]}, url=url)


def test_h1_h13_h23_a_silent_one_and_one_that_says_404_do_not_touch_the_third(
    tmp_path: Path, make_endpoint: MakeEndpoint
):
    silent, refuses, well = make_endpoint(reads=False), make_endpoint(404), make_endpoint()
    document = legacy(
        only("scomp", silent.url()), only("engine_open", refuses.url()), rule("http_post", url=well.url())
    )

    async def main() -> None:
        async with house(tmp_path, document, limits=QUICK) as h:
            held = 0
            for _ in range(20):
                await h.record(100, "scomp")
                await h.record(100, "engine_open")
                await h.record(50)
                assert h.service.processor is not None
                held = max(held, h.service.processor._held.size)
            healthy = {i for i, kind in h.rows("SELECT id, event_type FROM queue") if kind == "bounce_all"}
            await h.until(lambda: healthy <= set(acknowledged(well)) and len(acknowledged(well)) == 1_000)
            await h.until(lambda: {s.state for s in h.service.processor.routes()} == {"circuit_open", "ok"})  # type: ignore[union-attr]
            await h.until(lambda: h.service.processor is not None and not h.service.processor.in_flight())
            assert len(refuses.answered) <= 5 + 16 + 2
            by_kind = dict(
                h.rows("SELECT event_type, count(*) FROM deferred JOIN queue USING (id) GROUP BY event_type")
            )
            assert (
                by_kind.get("scomp", 0) <= 5 + 16 + 2
                and by_kind.get("engine_open", 0) <= 5 + 16 + 2
                and "bounce_all" not in by_kind
            )
            assert held < HELD_BYTES
            await h.until(lambda: h.waiting() == 4_000)
            processor = h.service.processor
            assert processor is not None
            held_ids = processor._held
            await h.until(lambda: len(held_ids) <= 2)  # lanes that stand hold no rows but a probe's
            report = await h.service.status()
            errors = {r.destination: r.last_error for r in report.destinations[0].routes}
            assert any(e.startswith("timeout") for e in errors.values())
            assert any(e.startswith("config_problem") for e in errors.values())

    asyncio.run(main())


@pytest.mark.parametrize(
    "url, error",
    [
        ("http://no-such-host.invalid/hook", "dns_error"),
        ("http://127.0.0.1:{closed}/hook", "connect_error"),
        ("http://169.254.169.254/hook", "address_refused"),
    ],
)
def test_h2_s10_one_that_cannot_be_reached_neither_fills_a_table_nor_slows_another(
    tmp_path: Path, make_endpoint: MakeEndpoint, url: str, error: str
):
    well = make_endpoint()
    bad = url.format(closed=free_port())

    async def main() -> None:
        document = legacy(only("scomp", bad), rule("http_post", url=well.url()))
        async with house(tmp_path, document, limits=QUICK) as h:
            for _ in range(10):
                await h.record(100, "scomp")
                await h.record(100)
            await h.until(lambda: len(acknowledged(well)) == 1_000)
            await h.until(lambda: any(s.state == "circuit_open" for s in h.service.processor.routes()))  # type: ignore[union-attr]
            assert len(h.deferred()) <= 5 + 16 + 2
            (told,) = h.rows("SELECT DISTINCT substr(error, 1, instr(error, ':') - 1) FROM deferred")
            assert told == (error,)
            # What it takes to come back is that it works.
            h.write(posts_to(well.url()))
            await h.record(1)
            await h.until(lambda: h.waiting() == 0)
            assert set(acknowledged(well).values()) == {1} and set(acknowledged(well)) == set(h.recorded)

    asyncio.run(main())


def test_h17_410_stops_everything_until_somebody_says_so(tmp_path: Path, make_endpoint: MakeEndpoint):
    gone = make_endpoint(410)

    async def main() -> None:
        clock = HandClock()
        async with house(tmp_path, posts_to(gone.url()), clock) as h:
            processor = h.service.processor
            assert processor is not None
            await h.record(300)
            await h.until(lambda: processor.routes()[0].state == "paused" and not processor.in_flight())
            posts = len(gone.requests)
            gone.answer = 200
            clock.advance(3 * 86_400)
            await h.record(10)
            processor._nudge.set()
            await asyncio.sleep(0.1)
            assert len(gone.requests) == posts and h.waiting() == 310, "not one POST more, and nothing dropped"
            await processor.resume("__legacy__")
            await h.until(lambda: h.waiting() == 0)
            assert set(acknowledged(gone).values()) == {1} and len(acknowledged(gone)) == 310
            # And by an edit: another user agent is another destination, another rule beside it a changed configuration.
            gone.answer = 410
            await h.record(50)
            await h.until(lambda: processor.routes()[0].state == "paused" and not processor.in_flight())
            gone.answer = 200
            clock.advance(100.0)
            h.write(legacy(rule("drop_from_queue", {"event_type": ["scomp"]}), rule("http_post", url=gone.url())))
            await h.record(1)
            await h.until(lambda: h.waiting() == 0)
            assert set(acknowledged(gone)) == set(h.recorded)

    asyncio.run(main())


@pytest.mark.parametrize("status, told", [(429, "throttled"), (503, "throttled"), (502, "busy"), (408, "busy")])
def test_h15_h16_who_asks_for_a_rest_gets_it(tmp_path: Path, make_endpoint: MakeEndpoint, status: int, told: str):
    tired = make_endpoint(Answer(status, headers={"retry-after": "120"}))

    async def main() -> None:
        clock = HandClock()
        async with house(tmp_path, posts_to(tired.url()), clock) as h:
            processor = h.service.processor
            assert processor is not None
            await h.record(200)
            await h.until(lambda: bool(tired.answered) and not processor.in_flight() and bool(h.deferred()))
            posts = len(tired.requests)
            assert posts <= 16 + 2, "the whole lane rests after the first"
            tired.answer = 200
            clock.advance(100.0)
            processor._nudge.set()
            await asyncio.sleep(0.1)
            assert len(tired.requests) == posts
            dues = [due / 1000 - clock.wall() for (due,) in h.rows("SELECT due FROM deferred")]
            assert all(15 <= due <= 180 * 1.01 for due in dues), "120 s and up to half of it, 100 s later"
            assert h.rows("SELECT DISTINCT error FROM deferred")[0][0].startswith(f"{told}: {status}")
            clock.advance(100.0)
            await h.until(lambda: h.waiting() == 0)
            assert set(acknowledged(tired).values()) == {1} and len(acknowledged(tired)) == 200

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422])
def test_h13_every_4xx_is_kept_counted_and_probed(tmp_path: Path, make_endpoint: MakeEndpoint, status: int):
    refuses = make_endpoint(status)

    async def main() -> None:
        clock = HandClock()
        async with house(tmp_path, posts_to(refuses.url()), clock) as h:
            processor = h.service.processor
            assert processor is not None
            await h.record(60)
            await h.until(lambda: processor.routes()[0].state == "circuit_open" and not processor.in_flight())
            assert h.waiting() == 60 and processor.routes()[0].last_error.startswith(f"config_problem: {status}")
            for probe in range(8):
                posts = len(refuses.requests)
                clock.advance(61.0)
                processor._nudge.set()
                await h.until(lambda posts=posts: len(refuses.requests) == posts + 1)
                await h.until(lambda: not processor.in_flight())
                assert len(refuses.requests) == posts + 1, f"probe {probe} went alone"
            refuses.answer = 200
            clock.advance(61.0)
            processor._nudge.set()
            await h.until(lambda: len(acknowledged(refuses)) >= 60 - 5 - 16 - 9)
            await h.until(lambda: not processor.in_flight())
            clock.advance(4_000.0)
            processor._nudge.set()
            await h.until(lambda: h.waiting() == 0)
            assert set(acknowledged(refuses).values()) == {1}

    asyncio.run(main())


def test_h22_one_that_fails_half_the_time_gets_everything_in_a_bounded_number_of_attempts(
    tmp_path: Path, make_endpoint: MakeEndpoint
):
    flaps = make_endpoint(lambda request: 500 if (number(request) + request.attempt) % 2 else 200)

    async def main() -> None:
        clock = HandClock()
        async with house(tmp_path, posts_to(flaps.url()), clock) as h:
            processor = h.service.processor
            assert processor is not None
            await h.record(400)
            for _ in range(400):
                await h.until(lambda: not processor.in_flight())
                if not h.waiting():
                    break
                clock.advance(5.0)
                processor._nudge.set()
                await asyncio.sleep(0.01)
            await h.until(lambda: h.waiting() == 0)
            assert set(acknowledged(flaps).values()) == {1} and len(acknowledged(flaps)) == 400
            assert len(flaps.requests) <= 2 * 400 + 100

    asyncio.run(main())


def test_a_listener_whose_backlog_is_full_holds_nobody_else(tmp_path: Path, make_endpoint: MakeEndpoint):
    well = make_endpoint(lambda request: 200)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/hook"

        async def main() -> None:
            document = legacy(only("scomp", url), rule("http_post", url=well.url()))
            async with house(tmp_path, document, limits=QUICK) as h:
                await h.record(200, "scomp")
                await h.record(500)
                await h.until(lambda: len(acknowledged(well)) == 500)
                await h.until(lambda: bool(h.deferred()))
                assert len(h.deferred()) <= 5 + 16 + 2

        asyncio.run(main())


def test_h1_one_that_never_answers_ends_by_its_deadline(tmp_path: Path, make_endpoint: MakeEndpoint):
    never = make_endpoint(Never())

    async def main() -> None:
        async with house(tmp_path, posts_to(never.url()), limits=QUICK) as h:
            ids = await h.record(3)
            await h.until(lambda: h.deferred() == set(ids))
            assert h.rows("SELECT DISTINCT substr(error, 1, 8) FROM deferred") == [("timeout:",)]

    asyncio.run(main())
