"""The log file beside the destinations: one line for each event that is delivered or dropped, before its row goes."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mailvane.clock import SystemClock
from mailvane.destinations.contract import LogFile, Outgoing
from mailvane.destinations.logfile import LogFileDestination
from mailvane.errors import QueueUnavailable
from mailvane.processor import beside, settle
from mailvane.processor.beside import Beside
from mailvane.processor.held import Held
from mailvane.processor.settle import Settler
from mailvane.queue.contract import Filter, OwnedQueue, Row, Settled, Settlement
from processor.house import House, acknowledged, house
from processor.rig import HandClock, StillClock
from support.endpoint import Endpoint
from support.homes import legacy, posts_to, rule

MakeEndpoint = Callable[..., Endpoint]


def with_log(document: dict[str, Any], path: Path, **options: Any) -> dict[str, Any]:
    return {**document, "logfile": {"filename": str(path), **options}}


def alone(path: Path) -> dict[str, Any]:
    return {"logfile": {"filename": str(path)}}


def lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes() if path.exists() else b""
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def ids_in(path: Path) -> list[int]:
    return [line["id"] for line in lines(path)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again sooner."""
    monkeypatch.setattr(settle, "AGAIN", 0.05)


def test_what_is_delivered_or_dropped_is_written_once_and_what_is_left_is_not(tmp_path: Path, endpoint: Endpoint):
    path = tmp_path / "events.log"
    document = legacy(
        rule("drop_from_queue", {"event_type": ["scomp"]}),
        rule("leave_in_queue", {"event_type": ["engine_unsub"]}),
        rule("http_post", url=endpoint.url()),
    )

    async def main() -> None:
        async with house(tmp_path, with_log(document, path)) as h:
            delivered = await h.record(700)
            dropped = await h.record(1_500, "scomp")
            await h.record(3, "engine_unsub")
            await h.until(lambda: h.waiting() == 3)
            assert sorted(ids_in(path)) == sorted(delivered + dropped)
            assert acknowledged(endpoint) == dict.fromkeys(delivered, 1)
            books = await h.service.queue.books()
            assert (books.delivered, books.dropped) == (700, 1_500)
            sent = {json.loads(r.body)["id"]: json.loads(r.body) for r in endpoint.requests}
            for line in lines(path):
                assert line == sent.get(line["id"], line), "the legacy object, as it is POSTed"

    asyncio.run(main())


def test_alone_events_are_written_there_and_removed(tmp_path: Path):
    path = tmp_path / "events.log"

    async def main() -> None:
        async with house(tmp_path, alone(path)) as h:
            await h.record(1_234)
            await h.record(1_000, "scomp")
            await h.until(lambda: h.waiting() == 0)
            assert sorted(ids_in(path)) == sorted(h.recorded)
            books = await h.service.queue.books()
            assert (books.delivered, books.dropped) == (2_234, 0)
            (route,) = (await h.service.status()).destinations[0].routes
            assert (route.destination, route.state) == (f"logfile {path}", "ok")

    asyncio.run(main())


def test_d20_alone_it_is_a_lane_like_any_other(tmp_path: Path):
    path = tmp_path / "log" / "events.log"

    async def main() -> None:
        async with house(tmp_path, alone(path)) as h:
            await h.record(300)
            await h.until(lambda: len(h.deferred()) >= 5)
            status = await h.service.status()
            (route,) = status.destinations[0].routes
            assert route.state == "circuit_open" and "cannot_write: " in route.last_error
            assert "make it" in route.last_error and not status.trouble
            path.parent.mkdir()
            await h.service.acts.pause("__legacy__")
            await h.record(10)
            await h.service.acts.resume("__legacy__")
            await h.service.queue.retry(Filter(), int(h.clock.wall() * 1000))
            h.service.processor.retry()  # type: ignore[union-attr]
            await h.until(lambda: h.waiting() == 0)
            assert sorted(ids_in(path)) == sorted(h.recorded)

    asyncio.run(main())


def test_d20_nothing_is_attempted_before_the_file_has_proved_to_be_writable(tmp_path: Path, endpoint: Endpoint):
    path = tmp_path / "log" / "events.log"

    async def main() -> None:
        async with house(tmp_path, with_log(posts_to(endpoint.url()), path)) as h:
            await h.record(50)
            await h.until(lambda: "make it" in h.service.trouble)
            status = await h.service.status()
            assert "the log file beside the destinations" in status.trouble and status.queue.events == 50
            h.service.processor.retry()  # type: ignore[union-attr]
            await h.record(50)  # recording goes on
            await h.until(lambda: "make it" in h.service.trouble)
            assert not endpoint.requests
            path.parent.mkdir()
            await h.until(lambda: h.waiting() == 0 and not h.service.trouble)
            assert sorted(ids_in(path)) == sorted(h.recorded)
            assert acknowledged(endpoint) == dict.fromkeys(h.recorded, 1)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fifo", "symlink", "folder"])
def test_d20_while_it_cannot_be_written_what_was_delivered_is_held_and_nothing_new_is_attempted(
    tmp_path: Path, endpoint: Endpoint, how: str
):
    path = tmp_path / "events.log"
    plant: Callable[[], object] = {
        "fifo": lambda: os.mkfifo(path),
        "symlink": lambda: path.symlink_to(tmp_path / "victim"),
        "folder": path.mkdir,
    }[how]

    async def main() -> None:
        async with house(tmp_path, with_log(posts_to(endpoint.url()), path)) as h:
            await h.record(20)
            await h.until(lambda: h.waiting() == 0)
            endpoint.hold()
            await h.record(100)
            await h.until(lambda: len(endpoint.requests) == 20 + len(h.service.processor.in_flight()) > 20)  # type: ignore[union-attr]
            path.rename(tmp_path / "older")
            plant()
            endpoint.release()
            await h.until(lambda: str(path) in h.service.trouble)
            await h.until(lambda: len(endpoint.answered) == len(endpoint.requests))
            asked = len(endpoint.requests)
            await h.record(100)
            await asyncio.gather(*(h.service.processor.resume("__legacy__") for _ in range(3)))  # type: ignore[union-attr]
            h.service.processor.retry()  # type: ignore[union-attr]
            await _tried_again(h)
            assert len(endpoint.requests) == asked and h.waiting() == 200
            assert not (tmp_path / "victim").exists()
            path.rmdir() if how == "folder" else path.unlink()
            await h.until(lambda: h.waiting() == 0 and not h.service.trouble)
            assert sorted(ids_in(tmp_path / "older") + ids_in(path)) == sorted(h.recorded), "each has one line"
            assert acknowledged(endpoint) == dict.fromkeys(h.recorded, 1)

    asyncio.run(main())


async def _tried_again(h: House) -> None:
    """Until the settler has tried a few times more."""
    tries = 0
    log = h.service.processor._settler.beside._log  # type: ignore[union-attr]
    real = log.append

    def counting(batch: Sequence[Outgoing], answered: Callable[[str], None]) -> None:
        nonlocal tries
        tries += 1
        real(batch, answered)

    log.append = counting  # type: ignore[method-assign]
    await h.until(lambda: tries >= 3)


@pytest.mark.parametrize("to", ["another file", "none"])
def test_an_edit_leads_away_from_a_file_that_cannot_be_written(tmp_path: Path, endpoint: Endpoint, to: str):
    path, other = tmp_path / "events.log", tmp_path / "other.log"

    async def main() -> None:
        async with house(tmp_path, with_log(posts_to(endpoint.url()), path)) as h:
            first = await h.record(20)
            await h.until(lambda: h.waiting() == 0)
            path.rename(tmp_path / "older")
            path.mkdir()
            await h.record(200)
            await h.until(lambda: str(path) in h.service.trouble)
            document = posts_to(endpoint.url())
            h.write(with_log(document, other) if to == "another file" else document)
            await h.until(lambda: h.waiting() == 0 and not h.service.trouble)
            assert sorted(ids_in(tmp_path / "older")) == first
            assert sorted(ids_in(other)) == (sorted(set(h.recorded) - set(first)) if to == "another file" else [])
            assert acknowledged(endpoint) == dict.fromkeys(h.recorded, 1)

    asyncio.run(main())


def test_a_row_that_was_deleted_in_flight_has_no_line_as_in_the_books(tmp_path: Path, endpoint: Endpoint):
    path = tmp_path / "events.log"

    async def main() -> None:
        async with house(tmp_path, with_log(posts_to(endpoint.url()), path)) as h:
            endpoint.hold()
            ids = await h.record(10)
            await h.until(lambda: len(endpoint.requests) == 10)
            h.rows("DELETE FROM events WHERE id <= ?", ids[3])
            endpoint.release()
            await h.until(lambda: h.waiting() == 0)
            await h.until(lambda: len(ids_in(path)) == 6)
            books = await h.service.queue.books()
            assert (books.delivered, books.deleted) == (6, 4)
            assert sorted(ids_in(path)) == ids[4:]

    asyncio.run(main())


def test_a_single_run_that_cannot_write_it_attempts_nothing_and_says_so(tmp_path: Path, endpoint: Endpoint):
    async def main() -> None:
        h = House(tmp_path, HandClock(), None)
        h.write(with_log(posts_to(endpoint.url()), tmp_path / "log" / "events.log"))
        await h.open()
        recorded = await h.record(10)
        with pytest.raises(QueueUnavailable, match=r"nothing was delivered: .*make it"):
            await asyncio.wait_for(h.deliver(once=True), 30)
        assert not endpoint.requests and h.waiting() == 10
        await h.service.stop(0.0)
        (tmp_path / "log").mkdir()
        h = House(tmp_path, HandClock(), None)
        await h.open()
        await asyncio.wait_for(h.deliver(once=True), 30)
        assert h.waiting() == 0 and sorted(ids_in(tmp_path / "log" / "events.log")) == recorded
        await h.close()

    asyncio.run(main())


def test_d20_a_disk_that_hangs_is_told_and_a_line_is_not_written_twice(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "events.log"
    monkeypatch.setattr(beside, "PATIENCE", 0.05)
    go, hangs = threading.Event(), threading.Event()
    real = os.fdatasync

    def hang(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == str(path):
            hangs.set()
            go.wait(60)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", hang)

    async def main() -> None:
        async with house(tmp_path, with_log(posts_to(endpoint.url()), path)) as h:
            await h.record(100)
            await h.until(hangs.is_set)
            await h.until(lambda: "has not answered" in h.service.trouble)
            await h.record(100)
            await h.until(lambda: len(endpoint.answered) == len(endpoint.requests))
            go.set()
            await h.until(lambda: h.waiting() == 0)
            assert sorted(ids_in(path)) == h.recorded
            assert acknowledged(endpoint) == dict.fromkeys(h.recorded, 1)

    asyncio.run(main())


class FailingQueue:
    """Rows that are there, and settlements that fail as often as the test says."""

    term = 1

    def __init__(self, fails: int) -> None:
        self.fails = fails
        self.settled: list[Settlement] = []
        self.lines_at_settlement: list[int] = []
        self.path: Path | None = None

    async def fetch(self, ids: Sequence[int]) -> list[Row]:
        return [Row(i, "bounce_all", "", 1, '"email":"a@example.com"', "") for i in ids]

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        assert self.path is not None
        self.lines_at_settlement = ids_in(self.path)
        if self.fails:
            self.fails -= 1
            raise QueueUnavailable("no room on the disk")
        self.settled.append(settlement)
        return Settled(len(settlement.delivered), len(settlement.dropped))


def test_a_settlement_that_is_tried_again_writes_no_line_again(tmp_path: Path):
    async def main() -> None:
        queue, held = FailingQueue(fails=3), Held()
        queue.path = tmp_path / "events.log"
        owned = cast(OwnedQueue, cast(object, queue))
        log = LogFileDestination(LogFile(str(queue.path)), clock=SystemClock(), reveal=str)
        done = asyncio.Event()
        settler = Settler(owned, held, StillClock(), lambda what: done.set() if what.delivered else None)
        settler.write_beside(Beside(LogFile(str(queue.path)), log, owned))
        assert settler.trouble, "nothing is attempted before it was opened"
        settler.delivered(range(1, 2_501))
        settler.dropped(9_999)
        await asyncio.wait_for(done.wait(), 30)
        assert queue.lines_at_settlement == ids_in(queue.path) == [*range(1, 2_501), 9_999]
        assert not settler.trouble and len(queue.settled[-1].delivered) == 2_500
        await log.close()

    asyncio.run(main())
