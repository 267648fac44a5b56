"""The processor as a service runs it: who has the queue, single runs, ends."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mailvane.errors import QueueOwned
from mailvane.operations.taking_over import take_ownership
from processor.house import House, acknowledged, house
from processor.rig import HandClock
from support.endpoint import Endpoint
from support.homes import LEAVES, legacy, posts_to, rule

MakeEndpoint = Callable[..., Endpoint]


def test_d13_a_second_one_is_refused_and_takes_over_when_the_first_has_ended(tmp_path: Path, endpoint: Endpoint):
    async def main() -> None:
        async with house(tmp_path, posts_to(endpoint.url())) as first:
            await first.record(500)
            with pytest.raises(QueueOwned, match="mailvane run"):
                await take_ownership(first.settings, "mailvane processor")
            await first.until(lambda: len(acknowledged(endpoint)) > 50)
            recorded = first.recorded
        async with house(tmp_path, posts_to(endpoint.url())) as second:
            await second.record(10)
            await second.until(lambda: second.waiting() == 0)
            assert set(acknowledged(endpoint)) == {*recorded, *second.recorded}
            # Stopped without grace, so what was in flight may have been seen, and nothing else.
            assert sum(acknowledged(endpoint).values()) - len(acknowledged(endpoint)) <= 256
            books = await second.service.queue.books()
            assert books.recorded == books.delivered == 510

    asyncio.run(main())


def test_d18_a_second_signal_ends_it_now(tmp_path: Path, endpoint: Endpoint):
    async def main() -> None:
        async with house(tmp_path, posts_to(endpoint.url())) as h:
            endpoint.hold()
            await h.record(100)
            await h.until(lambda: len(endpoint.requests) == 16)
            first = asyncio.get_running_loop().create_task(h.service.stop(600.0))
            await asyncio.sleep(0.02)
            assert not first.done()
            await asyncio.wait_for(h.service.stop(0.0), 20)
            await asyncio.wait_for(first, 20)
            await asyncio.wait_for(h.task, 20)
            assert h.waiting() == 100 and not h.deferred()
            endpoint.release()

    asyncio.run(main())


def test_d18_stop_under_load_loses_nothing_and_repeats_nothing(tmp_path: Path, endpoint: Endpoint):
    async def main() -> None:
        stopped = 0
        recorded: list[int] = []
        for _ in range(4):
            async with house(tmp_path, posts_to(endpoint.url())) as h:
                at = len(acknowledged(endpoint))
                await h.record(300)
                await h.until(lambda at=at: len(acknowledged(endpoint)) > at + 20)
                await h.service.stop(30.0)
                stopped += bool(h.waiting())
                recorded += h.recorded
        assert stopped, "each of them was done before it was stopped: this shows nothing"
        async with house(tmp_path, posts_to(endpoint.url())) as h:
            await h.until(lambda: h.waiting() == 0)
            assert acknowledged(endpoint) == dict.fromkeys(recorded, 1)

    asyncio.run(main())


@pytest.mark.parametrize("sort", ["healthy", "broken", "left", "mixed"])
def test_once_ends_over_http(tmp_path: Path, make_endpoint: MakeEndpoint, sort: str):
    good, bad = make_endpoint(), make_endpoint(500)
    document = {
        "healthy": posts_to(good.url()),
        "broken": posts_to(bad.url()),
        "left": LEAVES,
        "mixed": legacy(rule("http_post", {"event_type": ["scomp"]}, url=bad.url()), rule("http_post", url=good.url())),
    }[sort]

    async def main() -> None:
        h = House(tmp_path, HandClock(), None)
        h.write(document)
        await h.open()
        await h.record(300)
        await h.record(300, "scomp")
        await asyncio.wait_for(h.deliver(once=True), 30)
        assert h.waiting() == {"healthy": 0, "broken": 600, "left": 600, "mixed": 300}[sort]
        assert len(acknowledged(good)) == {"healthy": 600, "broken": 0, "left": 0, "mixed": 300}[sort]
        await h.close()

    asyncio.run(main())
