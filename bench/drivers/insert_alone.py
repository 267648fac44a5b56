"""Inserts one row after the other by so many connections for some seconds: insert_alone.py URL CONNECTIONS SECONDS.

Each connection commits each row by itself, as a program does that has no recorder: one prepared INSERT, values ready in
memory. Prints rows a second.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
import uvloop
from homes import event

from mailvane.events.codecs import stored_form

TABLE = """
CREATE TABLE bare (
    id bigserial PRIMARY KEY, event_type text NOT NULL, mail_class text NOT NULL, recorded bigint NOT NULL,
    valued integer NOT NULL, body text NOT NULL, extra text NOT NULL
)"""
INSERT = "INSERT INTO bare (event_type, mail_class, recorded, valued, body, extra) VALUES ($1, $2, $3, $4, $5, $6)"


async def main(url: str, connections: int, seconds: float) -> float:
    form = stored_form(event(1))
    row = (form.event_type, form.mail_class, 1_790_000_000_000, form.valued, form.body, form.extra)
    opened = [await asyncpg.connect(url) for _ in range(connections)]
    await opened[0].execute(TABLE)
    statements = [await connection.prepare(INSERT) for connection in opened]
    inserted = 0
    start = time.perf_counter()
    end = start + seconds

    async def insert(one: Callable[..., Awaitable[object]]) -> None:
        nonlocal inserted
        while time.perf_counter() < end:
            await one(*row)
            inserted += 1

    await asyncio.gather(*[insert(statement.fetch) for statement in statements])
    rate = inserted / (time.perf_counter() - start)
    await asyncio.gather(*[connection.close() for connection in opened])
    return rate


if __name__ == "__main__":
    print(uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
