"""A queue in SQLite gives back the room that it no longer needs: D17. Each line that is printed is a result.

Simulated is an hour of 600 events a second, in bursts of 6,000 (support/traffic.py), as fast as it goes: nothing in
SQLite happens by the clock. Upkeep, which the owner does once a minute, is done once in each minute of the traffic.
For three minutes nothing can be delivered; what waits then is worked off in the minute after, and by the end of that
minute the room that it took is given back.
"""

import asyncio
from pathlib import Path

from mailvane.queue.ballast import Ballast
from mailvane.queue.local import SQLiteQueue
from support.traffic import Traffic

MINUTES = 60
OUTAGE = range(20, 23)
MIB = 1024 * 1024
SLACK = 64 * MIB


async def sizes_under_traffic(folder: Path, minutes: int, outage: range) -> list[tuple[int, int]]:
    """After each minute: bytes of all its files, and of what waits."""
    queue = SQLiteQueue(str(folder / "queue.db"), Ballast(str(folder / "ballast")), asyncio.get_running_loop())
    traffic = Traffic(queue)
    sizes: list[tuple[int, int]] = []
    try:
        for minute in range(1, minutes + 1):
            await traffic.minute(deliver=minute not in outage)
            while (giving_back := queue._upkeep.giving_back) and not giving_back.done():  # pyright: ignore[reportPrivateUsage]
                await giving_back  # what is left of the minute is long enough for it
            size = sum(file.stat().st_size for file in folder.glob("queue.db*"))
            sizes.append((size, traffic.live))
            print(
                f"minute {minute}: {traffic.recorded:,} recorded, {traffic.live / MIB:.0f} MiB wait, files"
                f" {size / MIB:.1f} MiB",
                flush=True,
            )
        books = await queue.books()
        assert books.recorded == traffic.recorded
    finally:
        await queue.close()
    return sizes


def test_d17_the_file_is_at_most_twice_what_is_in_it(short_folder: Path) -> None:
    sizes = asyncio.run(sizes_under_traffic(short_folder, MINUTES, OUTAGE))
    too_large = [
        f"minute {minute}: {size / MIB:.0f} MiB for {live / MIB:.0f} MiB"
        for minute, (size, live) in enumerate(sizes, 1)
        if size > 2 * live + SLACK
    ]
    assert not too_large
