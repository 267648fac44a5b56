"""Steady traffic makes no file grow without end, and what a backlog took is given back: D17."""

import asyncio
import os
from pathlib import Path

from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Failed, Filter, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.migrate import migrate
from mailvane.queue.sqlite import CHECKPOINT_PAGES, GIVEN_AT_ONCE, PAGE, PAGES_KEPT, SQLiteWriter

FORM = stored_form(Event(event_type="bounce_all", event_time=1, email="user@example.com", bounce_text="x" * 200))
MIB = 1024 * 1024


def size_of(folder: Path) -> int:
    return sum(os.path.getsize(file) for file in folder.glob("queue.db*"))


def test_d17_the_files_stay_small_under_steady_traffic(short_folder: Path) -> None:
    async def run() -> list[int]:
        queue = SQLiteQueue(
            str(short_folder / "queue.db"), Ballast(str(short_folder / "ballast")), asyncio.get_running_loop()
        )
        sizes: list[int] = []
        waiting: list[int] = []
        for round_ in range(60):
            for _ in range(2):
                waiting += await queue.append([FORM] * 500)
            failed = [Failed(i, 1, 1, "http_5xx: 503") for i in waiting[-20:]]
            await queue.settle(Settlement(failed=failed), queue.term)
            done, waiting = waiting[:1000], waiting[1000:]
            await queue.settle(Settlement(delivered=done), queue.term)
            if round_ % 6 == 5:
                await queue.upkeep()
                sizes.append(size_of(short_folder))
        books = await queue.books()
        assert (books.recorded, books.waiting) == (60_000, 0)
        await queue.close()
        return sizes

    sizes = asyncio.run(run())
    # The log may have what lies between two checkpoints, and one group more; the database next to nothing.
    assert max(sizes) < CHECKPOINT_PAGES * PAGE + 8 * MIB
    assert max(sizes[5:]) <= max(sizes[:5]) + MIB


async def looked_after(queue: SQLiteQueue) -> None:
    """Upkeep once, and all that it began."""
    await queue.upkeep()
    upkeep = queue._upkeep  # pyright: ignore[reportPrivateUsage]
    assert upkeep.forgetting and upkeep.giving_back
    await upkeep.forgetting
    await upkeep.giving_back


def test_d17_what_a_backlog_took_is_given_back_at_once(short_folder: Path) -> None:
    """Without waiting for the upkeep of the next minute; others record meanwhile, and no one waits for all of it."""
    large = stored_form(Event(event_type="bounce_all", event_time=1, email="u@example.com", bounce_text="x" * 60_000))

    async def run() -> tuple[int, int, int]:
        queue = SQLiteQueue(
            str(short_folder / "queue.db"), Ballast(str(short_folder / "ballast")), asyncio.get_running_loop()
        )
        ids: list[int] = []
        for _ in range(60):
            ids += await queue.append([large] * 50)
        await looked_after(queue)
        full = os.path.getsize(short_folder / "queue.db")
        await queue.settle(Settlement(delivered=ids), queue.term)
        giving_back = queue._upkeep.giving_back  # pyright: ignore[reportPrivateUsage]
        assert giving_back
        recorded = 0
        while not giving_back.done():
            await queue.append([FORM])
            recorded += 1
        after = os.path.getsize(short_folder / "queue.db")
        await queue.close()
        return full, after, recorded

    full, after, recorded = asyncio.run(run())
    assert full > 150 * MIB
    assert after < PAGES_KEPT * PAGE + 8 * MIB, "some room is kept for the next events, but no more"
    assert recorded > 10


def test_d17_room_is_given_back_in_steps_of_a_moment(short_folder: Path) -> None:
    queue = short_folder / "queue.db"
    migrate(str(queue))
    writer = SQLiteWriter(str(queue))
    ids = [i for n in range(20) for i in writer.append([([FORM] * 1_000, "")])[0]]  # type: ignore[union-attr]
    writer.delete(ids)
    free = int(writer._db.pragma("freelist_count"))  # pyright: ignore[reportPrivateUsage]
    writer.give_back(free, seconds=0.0)
    assert int(writer._db.pragma("freelist_count")) == free - GIVEN_AT_ONCE  # pyright: ignore[reportPrivateUsage]
    assert writer.unused() < 0, "so little may stay"
    writer.close()


def test_d17_delivered_events_that_are_kept_give_their_room_back(short_folder: Path) -> None:
    large = stored_form(Event(event_type="bounce_all", event_time=1, email="u@example.com", bounce_text="x" * 60_000))

    async def run() -> tuple[int, int]:
        queue = SQLiteQueue(
            str(short_folder / "queue.db"), Ballast(str(short_folder / "ballast")), asyncio.get_running_loop()
        )
        queue.keep_delivered = 3_600_000
        for _ in range(40):
            ids = await queue.append([large] * 50)
            await queue.settle(Settlement(delivered=ids), queue.term)
        await looked_after(queue)
        full = os.path.getsize(short_folder / "queue.db")
        assert await queue.count_delivered(Filter()) == 2_000
        queue.keep_delivered = 0
        await looked_after(queue)
        assert await queue.count_delivered(Filter()) == 0
        after = os.path.getsize(short_folder / "queue.db")
        await queue.close()
        return full, after

    full, after = asyncio.run(run())
    assert full > 100 * MIB
    assert after < PAGES_KEPT * PAGE + 8 * MIB


def test_nothing_is_written_twice_where_delivered_events_are_not_kept(short_folder: Path) -> None:
    """The log has no byte more than a settlement wrote before there was such a thing."""

    async def run(keep: int) -> int:
        folder = short_folder / str(keep)
        folder.mkdir()
        queue = SQLiteQueue(str(folder / "queue.db"), Ballast(str(folder / "ballast")), asyncio.get_running_loop())
        queue.keep_delivered = keep
        ids = await queue.append([FORM] * 1_000)
        before = queue._store.writer.log_size  # pyright: ignore[reportPrivateUsage]
        await queue.settle(Settlement(delivered=ids), queue.term)
        written = queue._store.writer.log_size - before  # pyright: ignore[reportPrivateUsage]
        await queue.close()
        return written

    without, with_them = asyncio.run(run(0)), asyncio.run(run(60_000))
    body = 1_000 * len(FORM.body)
    assert with_them > without + body
    assert without < body
