"""The log file beside the destinations: what is delivered or dropped is written there before it is removed.

Once, when it is settled: the line is on disk before the row goes, so that a crash may repeat a line and loses none.
The rows are read again for that: what a person has deleted meanwhile is settled as nothing and has no line, so that the
file agrees with the books; and a plan without a log file costs nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mailvane.destinations.contract import LogFile, Outgoing
from mailvane.errors import MailvaneError
from mailvane.queue.contract import OwnedQueue

AT_ONCE = 1_000
BYTES_AT_ONCE = 4 * 1024 * 1024
SLICE = 128
"""Rows that are read before others have their turn."""
PATIENCE = 5.0
"""Seconds after which a disk that does not answer is told of."""
UNSEEN = "the log file beside the destinations has not been opened yet"


class NotWritten(MailvaneError):
    """The log file cannot be written; the text says why, and what to do."""


class Log(Protocol):
    """A log file that events are appended to."""

    def append(self, batch: Sequence[Outgoing], answered: Callable[[str], None]) -> None:
        """Writes a batch, whole or not at all, and tells "" or why not. An empty one tells whether it could."""
        ...

    async def close(self) -> None: ...


class Beside:
    """The log file of a plan. `seen`: it has been written or opened at least once."""

    def __init__(self, target: LogFile, log: Log, queue: OwnedQueue) -> None:
        self.target = target
        self.seen = False
        self._log = log
        self._queue = queue
        self._answer: asyncio.Future[str] | None = None
        self._part = 0

    async def write(self, ids: list[int]) -> None:
        """Writes the events of these ids that are still there; takes away from `ids` what is on disk.

        Raises NotWritten, and QueueUnavailable; then it is to be called again, with what is left.
        """
        while ids or not self.seen or self._answer is not None:
            if self._answer is None:
                await self._begin(ids)
            answer = self._answer
            assert answer is not None
            await asyncio.wait([answer], timeout=PATIENCE)
            if not answer.done():  # nobody knows if it will be there: it is not written again before that is known
                raise NotWritten(f"the log file {self.target.filename} has not answered for {PATIENCE:.0f} s")
            self._answer = None
            if why := answer.result():
                raise NotWritten(f"the log file beside the destinations: {why}")
            self.seen = True
            del ids[: self._part]

    async def _begin(self, ids: Sequence[int]) -> None:
        batch: list[Outgoing] = []
        at = size = 0
        while at < min(len(ids), AT_ONCE) and size < BYTES_AT_ONCE:
            some = ids[at : at + SLICE]
            for row in await self._queue.fetch(some):
                batch.append(Outgoing(row.id, row.attempts + 1, row.body, row.extra, row.valued))
                size += len(row.body)
            at += len(some)
            await asyncio.sleep(0)
        answer = asyncio.get_running_loop().create_future()

        def answered(why: str) -> None:
            if not answer.done():
                answer.set_result(why)

        self._part = at
        self._answer = answer
        self._log.append(batch, answered)

    async def close(self) -> None:
        """Lets go of the file."""
        await self._log.close()
