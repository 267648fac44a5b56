"""What people do to a queue by a long-running process: drop, retry, replay, pause, resume."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from mailvane.clock import Clock
from mailvane.operations.inspection import Inspection, Query
from mailvane.operations.parts import Act, Acted, Part, act_on, meant_by, would
from mailvane.operations.queues import ProcessQueue
from mailvane.operations.routes import PAUSED, names_of, paused_in, with_paused
from mailvane.processor.plan import LEGACY, Plan
from mailvane.processor.run import Processor
from mailvane.queue.contract import Filter

T = TypeVar("T")

WHOLE = Part()


class Inspect(Protocol):
    """Reads the queue beside the event loop."""

    async def __call__(self, read: Callable[[Inspection], T], /) -> T: ...


class Elsewhere(Protocol):
    """Whoever delivers from this queue in another process; see mailvane.operations.orders."""

    async def retry(self) -> None: ...

    async def pause(self, name: str) -> list[str] | None:
        """None if nobody delivers."""
        ...

    async def resume(self, name: str) -> list[str] | None:
        """None if nobody delivers."""
        ...


class Acts:
    """`processor` gives the one of this process that delivers, if any; `plan` the plan that it goes by, or would.
    `replay` is for when there is none; `elsewhere` stands for one in another process, where there may be such."""

    def __init__(
        self,
        queue: ProcessQueue,
        clock: Clock,
        inspect: Inspect,
        processor: Callable[[], Processor | None],
        plan: Callable[[], Plan],
        replay: Callable[[Sequence[int]], Awaitable[list[int]]],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._inspect = inspect
        self._processor = processor
        self._plan = plan
        self._replay = replay
        self._elsewhere = elsewhere
        self._pausing = asyncio.Lock()

    async def would(self, act: Act, query: Query) -> Acted:
        """To how many events an act would be done now."""
        now, last = int(self._clock.wall() * 1000), await self._queue.last_id()
        return Acted(await self._inspect(lambda inspection: would(act, query, inspection, now)), upto=last)

    async def drop(self, query: Query, part: Part = WHOLE) -> Acted:
        """Deletes what is meant, as a person would by SQL."""
        return await self._act_on(query, part, lambda ids: self._queue.delete(Filter(ids=tuple(ids))))

    async def retry(self, query: Query, part: Part = WHOLE) -> Acted:
        """Makes deferred events due at once and closes open circuits."""
        now = int(self._clock.wall() * 1000)
        if query.everything and part == WHOLE:
            done = Acted(await self._queue.retry(Filter(), now))
        else:
            done = await self._act_on(query, part, lambda ids: self._queue.retry(Filter(ids=tuple(ids)), now))
        if (processor := self._processor()) is not None:
            processor.retry()
        elif self._elsewhere is not None:
            await self._elsewhere.retry()
        return done

    async def replay(self, query: Query, part: Part = WHOLE) -> Acted:
        """Puts delivered events that are kept back into the queue; the processor, if there is one, delivers them."""
        processor = self._processor()
        replay = self._replay if processor is None else processor.replay

        async def change(ids: Sequence[int]) -> int:
            return len(await replay(ids))

        return await self._act_on(meant_by(Act.REPLAY, query), part, change)

    async def _act_on(self, query: Query, part: Part, change: Callable[[Sequence[int]], Awaitable[int]]) -> Acted:
        return await act_on(query, part, await self._queue.last_id(), self._inspect, change)

    async def pause(self, name: str) -> list[str]:
        """Pauses the destinations of this name (`__legacy__`: all), over restarts too; returns their names."""
        if (processor := self._processor()) is not None:
            return await processor.pause(name)
        if self._elsewhere is not None and (names := await self._elsewhere.pause(name)) is not None:
            return names
        return await self._keep_paused(name, True)

    async def resume(self, name: str) -> list[str]:
        """Resumes the destinations of this name (`__legacy__`: all); returns their names."""
        if (processor := self._processor()) is not None:
            return await processor.resume(name)
        if self._elsewhere is not None and (names := await self._elsewhere.resume(name)) is not None:
            return names
        return await self._keep_paused(name, False)

    async def _keep_paused(self, name: str, pause: bool) -> list[str]:
        names = sorted(n for n in names_of(self._plan()) if name in {LEGACY, n})
        async with self._pausing:  # no other act between reading and writing
            kept = await self._queue.kept(PAUSED)
            # As the processor does: to resume all means also those that are in no plan now.
            changed = paused_in(kept) if name == LEGACY and not pause else names
            await self._queue.keep(PAUSED, with_paused(kept, changed, pause))
        return names
