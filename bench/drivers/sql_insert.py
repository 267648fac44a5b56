"""What a driver does with nothing before or behind it: sql_insert.py URL EVENTS. Prints the seconds that it took.

Events' values, ready in memory, into the table of `mailvane config sql-table`, by one prepared INSERT of 500 rows, each
in a transaction of its own.
"""

import sys
import time
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import asyncmy
import asyncpg
import uvloop
from homes import event

from mailvane.destinations.contract import Outgoing
from mailvane.destinations.sql_values import Binding
from mailvane.events.catalogue import CLASSIC
from mailvane.events.codecs import stored_form

ROWS = 500
NAMES = (*CLASSIC, "event_unique_id")


def batches(count: int) -> list[list[object]]:
    """The values of 500 events each, one row behind the other."""
    binding = Binding(NAMES, "k3v9")
    made: list[list[object]] = []
    for at in range(0, count, ROWS):
        forms = [(at + n, stored_form(event(at + n))) for n in range(ROWS)]
        rows = [binding.values(Outgoing(number, 1, f.body, f.extra, f.valued)) for number, f in forms]
        made.append([value for row in rows for value in row])
    return made


async def postgresql(url: str, made: Sequence[list[object]]) -> float:
    connection = await asyncpg.connect(url)
    width = len(NAMES)
    groups = (f"({', '.join(f'${row * width + n}' for n in range(1, width + 1))})" for row in range(ROWS))
    statement = await connection.prepare(f"INSERT INTO event_queue ({', '.join(NAMES)}) VALUES {', '.join(groups)}")
    flag = NAMES.index("studio_is_unique")
    assert all(values[flag] is None for values in made)
    start = time.perf_counter()
    for values in made:
        async with connection.transaction():
            await statement.fetch(*values)
    took = time.perf_counter() - start
    await connection.close()
    return took


async def mysql(url: str, made: Sequence[list[object]]) -> float:
    to = urlsplit(url)
    connection = await asyncmy.connect(
        host=to.hostname,
        port=to.port or 3306,
        user=to.username,
        password=unquote(to.password or ""),
        database=to.path[1:],
        ssl=None,
    )
    row = f"({', '.join('?' * len(NAMES))})"
    statement = await connection.prepare(
        f"INSERT INTO event_queue ({', '.join(NAMES)}) VALUES {', '.join([row] * ROWS)}"
    )
    start = time.perf_counter()
    for values in made:
        await connection.begin()
        await statement.execute(values)
        await connection.commit()
    took = time.perf_counter() - start
    await connection.ensure_closed()
    return took


if __name__ == "__main__":
    work = mysql if sys.argv[1].startswith("mysql:") else postgresql
    print(uvloop.run(work(sys.argv[1], batches(int(sys.argv[2])))))
