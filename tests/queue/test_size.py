"""Steady traffic makes no file grow without end, and what a backlog took is given back: D17."""

import asyncio
import os
from pathlib import Path

from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Failed, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.sqlite import CHECKPOINT_PAGES, PAGE

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


def test_d17_upkeep_gives_back_what_a_backlog_took(short_folder: Path) -> None:
    large = stored_form(Event(event_type="bounce_all", event_time=1, email="u@example.com", bounce_text="x" * 60_000))

    async def run() -> tuple[int, int]:
        queue = SQLiteQueue(
            str(short_folder / "queue.db"), Ballast(str(short_folder / "ballast")), asyncio.get_running_loop()
        )
        ids: list[int] = []
        for _ in range(40):
            ids += await queue.append([large] * 50)
        await queue.settle(Settlement(delivered=ids), queue.term)
        await queue.upkeep()
        full = os.path.getsize(short_folder / "queue.db")
        for _ in range(12):
            await queue.upkeep()
        after = os.path.getsize(short_folder / "queue.db")
        await queue.close()
        return full, after

    full, after = asyncio.run(run())
    assert full > 100 * MIB
    assert after < 72 * MIB, "some room is kept for the next events, but no more"
