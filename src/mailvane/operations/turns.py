"""Delivering from a queue in PostgreSQL, of which one process at a time has the right.

A *turn* begins when nobody else delivers and ends when the right is lost: because the server went away, or did not hear
from this process for seconds. What is on its way then is cut off and what became of it forgotten, for another process
may have the same events in hand; and this one stands by again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.operations.orders import obey
from mailvane.processor.run import Processor
from mailvane.queue.postgresql import OwnedPostgreSQLQueue, PostgreSQLQueue, own_postgresql, stand_by_postgresql

AGAIN = 1.0
"""Seconds until a turn is tried again that could not begin."""

log = logging.getLogger("mailvane")

Begin = Callable[[OwnedPostgreSQLQueue], Awaitable[Processor]]


class Turns:
    """`recorder` is the queue by which this process records: its commits are handed over to the processor of the turn.
    `begin` makes that processor; `changed` is called with it, and with None when the turn is over."""

    def __init__(
        self,
        url: str,
        command: str,
        recorder: PostgreSQLQueue,
        begin: Begin,
        changed: Callable[[Processor | None], None],
    ) -> None:
        self._url = url
        self._command = command
        self._recorder = recorder
        self._begin = begin
        self._changed = changed
        self._queue: OwnedPostgreSQLQueue | None = None
        self._processor: Processor | None = None
        self._standing: asyncio.Task[OwnedPostgreSQLQueue] | None = None
        self._obeying: asyncio.Task[None] | None = None
        self._ordered = False
        self._stopping = False
        self.waits = ""
        """Why this process does not deliver: who does, or why the queue cannot be had; "" while it does."""

    async def run(self, once: bool = False) -> None:
        """Delivers whenever it is this process's turn, until `stop`; with `once` now, until nothing is left to do.

        Raises what Processor.run raises with `once`, and QueueOwned then; QueueTooNew and SharedSessions.
        """
        while not self._stopping:
            queue = self._queue = await self._taken(once)
            if queue is None:
                return
            try:
                await self._turn(queue, once)
            except QueueUnavailable as e:
                if once:
                    raise
                log.error("delivery cannot begin: %s", e)
                await self._close()
                await asyncio.sleep(AGAIN)
            except OwnershipLost as e:
                await self._close()
                if once:
                    raise
                log.warning("%s; this process stands by", e)
            else:
                return  # `stop` has the rest to do

    async def _taken(self, once: bool) -> OwnedPostgreSQLQueue | None:
        """The queue, as soon as it is to be had; None when `stop` came before."""
        if once:
            queue = await own_postgresql(self._url, self._command)
            await self._recorder.look_into_inbox()  # what is there is meant, too
            return queue
        self._standing = asyncio.ensure_future(stand_by_postgresql(self._url, self._command, None, self._waits_for))
        try:
            return await asyncio.shield(self._standing)
        except asyncio.CancelledError:
            self._standing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await self._standing).close()
            if not self._stopping:
                raise
            return None
        finally:
            self._standing = None

    def _waits_for(self, why: str) -> None:
        self.waits = why
        log.info("stands by: %s", why)

    async def _turn(self, queue: OwnedPostgreSQLQueue, once: bool) -> None:
        lost: asyncio.Future[OwnershipLost] = asyncio.get_running_loop().create_future()

        def ended(why: OwnershipLost) -> None:
            if not lost.done():
                lost.set_result(why)

        queue.on_lost = ended
        queue.recorder = self._recorder
        processor = self._processor = await self._begin(queue)
        self.waits = ""
        queue.on_wake = processor.woken
        queue.on_orders = lambda: self._obey(queue, processor)
        self._changed(processor)
        log.info("delivers now, as the queue's owner number %d", queue.term)
        running = asyncio.ensure_future(processor.run(once))
        self._obey(queue, processor)
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
                return
            raise lost.result()
        except OwnershipLost as e:
            self._processor = None
            self._changed(None)
            await processor.abandon(e)
            raise
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])

    def _obey(self, queue: OwnedPostgreSQLQueue, processor: Processor) -> None:
        self._ordered = True
        if self._obeying is None or self._obeying.done():
            self._obeying = asyncio.ensure_future(self._do_orders(queue, processor))

    async def _do_orders(self, queue: OwnedPostgreSQLQueue, processor: Processor) -> None:
        await processor.begun.wait()
        while self._ordered and processor is self._processor:
            self._ordered = False
            try:
                await obey(queue.orders, processor)
            except QueueUnavailable as e:  # they are there at the next turn
                log.error("orders cannot be looked at: %s", e)

    async def stop(self, grace: float) -> None:
        """Ends the turn, or the wait for one, within `grace` seconds and a little."""
        self._stopping = True
        if self._standing is not None:
            self._standing.cancel()
        if self._processor is not None:
            await self._processor.stop(grace)
        await self._close()

    async def _close(self) -> None:
        if self._obeying is not None:
            self._obeying.cancel()
            await asyncio.wait([self._obeying])
            self._obeying = None
        queue, self._queue = self._queue, None
        if queue is not None:
            with contextlib.suppress(QueueUnavailable, OwnershipLost):
                await queue.close()
