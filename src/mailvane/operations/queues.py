"""What a long-running process needs of its queue, whichever it is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mailvane.events.codecs import StoredForm
from mailvane.queue.contract import Queue


class ProcessQueue(Queue, Protocol):
    """The queue of a process that records for everybody who asks it."""

    on_commit: Callable[[int, Sequence[StoredForm]], None] | None
    """Called after each commit with the first id and the events, whose ids ascend."""

    @property
    def broken(self) -> str:
        """Why nothing may be written by this process any more; "" as long as all is well."""
        ...

    @property
    def full(self) -> bool:
        """Whether recording is refused because the disk is full."""
        ...

    def appending(self, events: Sequence[StoredForm], token: str = "") -> asyncio.Future[list[int]]:
        """As `append`, without a coroutine of its own: for who has many."""
        ...

    async def tried(self, within: float) -> str:
        """Why the queue cannot be written, "" if it can; after an append that failed it is tried, so many seconds."""
        ...

    async def deferred(self) -> int:
        """How many events are deferred."""
        ...

    async def last_id(self) -> int: ...
