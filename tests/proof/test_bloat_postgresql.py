"""A queue in PostgreSQL stays small under steady traffic: D17. Each line that is printed is a result.

Simulated is an hour of 600 events a second, in bursts of 6,000 (support/traffic.py), by the statements that recorders
and the owner use. The clock runs six times as fast: a minute takes ten seconds, of which a part is spent waiting, and
the server looks for tables to clean every ten seconds in place of every minute. Upkeep, which the owner does once a
minute, is done once in each of these. All else is as the server comes, the settings of the tables are mailvane's own.
"""

import asyncio
import time

from mailvane.queue.postgresql import own_postgresql
from support.postgresql import PostgreSQL
from support.traffic import Traffic

FASTER = 6
MINUTES = 60
LEVEL = 10
"""Minutes after which it must have reached its level."""
MIB = 1024 * 1024


async def sizes_under_traffic(server: PostgreSQL, minutes: int) -> list[int]:
    """The database's size after each minute."""
    url = server.database()
    queue = await own_postgresql(url, "a proof")
    traffic = Traffic(queue)
    sizes: list[int] = []
    start = time.monotonic()
    try:
        for minute in range(1, minutes + 1):
            await traffic.minute()
            await asyncio.sleep(max(0.0, start + minute * 60 / FASTER - time.monotonic()))
            ((size,),) = server.query("SELECT pg_database_size(current_database())", url=url)
            sizes.append(size)
            late = time.monotonic() - start - minute * 60 / FASTER
            print(
                f"minute {minute}: {traffic.recorded:,} recorded, {traffic.live / MIB:.0f} MiB wait, database"
                f" {size / MIB:.1f} MiB" + (f" ({late:.0f} s late)" if late > 1 else ""),
                flush=True,
            )
        books = await queue.books()
        assert books.recorded == traffic.recorded
    finally:
        await queue.close()
    return sizes


def test_d17_a_database_that_has_reached_its_level_grows_no_more() -> None:
    with PostgreSQL({"autovacuum_naptime": f"{60 // FASTER}s"}) as server:
        sizes = asyncio.run(sizes_under_traffic(server, MINUTES))
    assert sizes[-1] <= sizes[LEVEL - 1] * 1.1
