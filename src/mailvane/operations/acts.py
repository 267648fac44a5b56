"""What people do to a queue by the process that owns it: drop, retry, pause, resume."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import islice, takewhile
from typing import Protocol, TypeVar

from mailvane.clock import Clock
from mailvane.operations.inspection import Inspection, Query
from mailvane.operations.routes import PAUSED, names_of, paused_in, with_paused
from mailvane.processor.plan import LEGACY, Plan
from mailvane.processor.run import Processor
from mailvane.queue.contract import Filter
from mailvane.queue.local import SQLiteQueue

T = TypeVar("T")

ACT_LIMIT = 1_000
"""Events that are changed in one transaction."""


class Inspect(Protocol):
    """Reads the queue beside the event loop."""

    async def __call__(self, read: Callable[[Inspection], T], /) -> T: ...


class Acts:
    """`processor` gives the one that delivers, if any; `plan` the plan that it goes by, or would."""

    def __init__(
        self,
        queue: SQLiteQueue,
        clock: Clock,
        inspect: Inspect,
        processor: Callable[[], Processor | None],
        plan: Callable[[], Plan],
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._inspect = inspect
        self._processor = processor
        self._plan = plan
        self._pausing = asyncio.Lock()

    async def drop(self, query: Query) -> int:
        """Deletes what is meant, as a person would by SQL; returns how many."""
        deleted = 0
        async for ids in self._ids(query):
            deleted += await self._queue.delete(Filter(ids=ids))
        return deleted

    async def retry(self, query: Query) -> int:
        """Makes deferred events due at once and closes open circuits; returns how many became due."""
        now = int(self._clock.wall() * 1000)
        if query.everything:
            due = await self._queue.retry(Filter(), now)
        else:
            due = 0
            async for ids in self._ids(query):
                due += await self._queue.retry(Filter(ids=ids), now)
        if (processor := self._processor()) is not None:
            processor.retry()
        return due

    async def pause(self, name: str) -> list[str]:
        """Pauses the destinations of this name (`__legacy__`: all), over restarts too; returns their names."""
        if (processor := self._processor()) is not None:
            return await processor.pause(name)
        return await self._keep_paused(name, True)

    async def resume(self, name: str) -> list[str]:
        """Resumes the destinations of this name (`__legacy__`: all); returns their names."""
        if (processor := self._processor()) is not None:
            return await processor.resume(name)
        return await self._keep_paused(name, False)

    async def _keep_paused(self, name: str, pause: bool) -> list[str]:
        names = sorted(n for n in names_of(self._plan()) if name in {LEGACY, n})
        async with self._pausing:  # no other act between reading and writing
            kept = await self._queue.kept(PAUSED)
            # As the processor does: to resume all means also those that are in no plan now.
            changed = paused_in(kept) if name == LEGACY and not pause else names
            await self._queue.keep(PAUSED, with_paused(kept, changed, pause))
        return names

    async def _ids(self, query: Query) -> AsyncIterator[tuple[int, ...]]:
        """The ids of what is meant and there now, as many at a time as are changed at once."""
        after, last = 0, await self._queue.last_id()

        def page(inspection: Inspection) -> list[int]:
            return list(islice(takewhile(lambda i: i <= last, inspection.ids(query, after)), ACT_LIMIT))

        while ids := await self._inspect(page):
            yield tuple(ids)
            after = ids[-1]
