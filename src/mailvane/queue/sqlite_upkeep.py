"""Upkeep of a SQLite queue, in the process that owns it: what may take long is done in short steps, between commits."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.queue.ballasted import BallastedStore

T = TypeVar("T")

STEP = 0.01
"""Seconds that one step of giving room back takes: recording waits for it."""
LOOK_EVERY = 1.0
"""Seconds between two looks at how much room is unused, while events are removed."""


class Ordered(Protocol):
    """Runs something in the writer's thread."""

    def __call__(self, act: Callable[[], T], /) -> Awaitable[T]: ...


class SQLiteUpkeep:
    """Everything that it begins ends with `close`.

    What cannot be done now (a full disk, a person's transaction) is done when it is looked at again.
    """

    def __init__(self, store: BallastedStore, ordered: Ordered, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._ordered = ordered
        self._loop = loop
        self._removed = False
        self._next_look = 0.0
        self.forgetting: asyncio.Task[None] | None = None
        """Kept events whose time is over are forgotten."""
        self.giving_back: asyncio.Task[None] | None = None
        """The file is made shorter."""

    async def step(self, keep_delivered: int) -> None:
        """What is done once a minute: prune, make the ballast again, move the log. Begins the rest beside it."""

        def work() -> None:
            self._store.ballast.make()
            self._store.writer.prune()
            self._store.writer.checkpoint()

        await self._ordered(work)
        if self.forgetting is None or self.forgetting.done():
            self.forgetting = self._loop.create_task(self._forget_delivered(keep_delivered))
        self.removed()

    def removed(self) -> None:
        """Events were removed: their room may be more than the file is to keep."""
        self._removed = True
        if self.giving_back is None or self.giving_back.done():
            self.giving_back = self._loop.create_task(self._give_back())

    async def _forget_delivered(self, keep: int) -> None:
        with contextlib.suppress(QueueUnavailable, OwnershipLost):
            while not await self._ordered(lambda: self._store.writer.forget_delivered(keep)):
                self.removed()
            self.removed()

    async def _give_back(self) -> None:
        with contextlib.suppress(QueueUnavailable, OwnershipLost):
            while self._removed:
                await asyncio.sleep(self._next_look - self._loop.time())
                self._removed, self._next_look = False, self._loop.time() + LOOK_EVERY
                while await self._ordered(lambda: self._store.give_back(STEP)):
                    await asyncio.sleep(STEP)  # others have the disk for as long as we had it

    async def close(self) -> None:
        """Before the writer ends."""
        for task in (self.forgetting, self.giving_back):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
