"""What a queue in PostgreSQL needs now and then: sums in the place of many rows, and old things forgotten."""

import asyncio
import contextlib
import time

from mailvane.errors import QueueUnavailable
from mailvane.queue.postgresql.connection import SQL
from mailvane.queue.postgresql.line import Line

TOKEN_LIFE_MS = 120_000
COMMIT_LIFE_MS = 300_000
"""How long a commit is known by its token: far longer than anybody asks for it."""
FORGET_LIMIT = 2_000
VACUUM_AFTER = 20_000
"""Rows that are removed between two cleanings."""
VACUUM_SECONDS = 3_600.0
_FAR = 2**62
"""A time after all others."""


class Upkeep:
    """The owner's process does it: by its session for statements of a moment, and by one that may take long."""

    def __init__(self, line: Line, beside: Line) -> None:
        self._line = line
        self._beside = beside
        self._removed = 0
        self._forgetting: asyncio.Task[None] | None = None
        self._vacuuming: asyncio.Task[None] | None = None

    def removed(self, count: int) -> None:
        """So many rows were removed. Their room is made free again before the server would look after it by itself
        (once a minute at most): a queue that fills and empties in bursts stays small."""
        self._removed += count
        if self._removed >= VACUUM_AFTER and (self._vacuuming is None or self._vacuuming.done()):
            self._removed = 0
            self._vacuuming = asyncio.get_running_loop().create_task(self._vacuum())

    async def _vacuum(self) -> None:
        with contextlib.suppress(QueueUnavailable):  # the server does it in the end
            await self._beside.run(lambda c: c.execute(SQL["vacuum"]), limit=VACUUM_SECONDS)

    async def step(self, keep_delivered: int) -> None:
        """Everything but forgetting delivered events, which may take long and goes on beside. Raises
        QueueUnavailable."""
        now = int(await self._line.run(lambda c: c.fetchval(SQL["now"])))  # commits and tokens go by the server's clock
        await self._line.run(lambda c: c.execute(SQL["sum_up_commits"], now - COMMIT_LIFE_MS))
        await self._line.run(lambda c: c.execute(SQL["sum_up_books"]))
        await self._line.run(lambda c: c.execute(SQL["forget_tokens"], now - TOKEN_LIFE_MS))
        await self._line.run(lambda c: c.execute(SQL["forget_orders"]))
        await self._line.run(lambda c: c.execute(SQL["prune_deferred"]))
        if self._forgetting is None or self._forgetting.done():
            # With nothing to be kept the clock, which may have been set back, has no say.
            before = int(time.time() * 1000) - keep_delivered if keep_delivered else _FAR
            self._forgetting = asyncio.get_running_loop().create_task(self._forget(before))

    async def _forget(self, before: int) -> None:
        with contextlib.suppress(QueueUnavailable):  # what cannot be done now is done a minute later
            said = f"DELETE {FORGET_LIMIT}"
            while said == f"DELETE {FORGET_LIMIT}":
                said = await self._beside.run(lambda c: c.execute(SQL["forget_delivered"], before, FORGET_LIMIT))

    async def close(self) -> None:
        for task in (self._forgetting, self._vacuuming):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._beside.close()
