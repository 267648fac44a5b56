"""One session that is opened when it is needed, and again when it was lost; used by one caller at a time.

Between attempts to connect lies a growing, jittered pause, whoever asks: nobody can make a busy loop of it. Work that
others were in the way of (serialization failures, deadlocks, lock timeouts) is tried again a few times.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mailvane.clock import Chance, system_chance
from mailvane.errors import QueueTooNew, QueueUnavailable
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.connection import CONNECT_SECONDS, Connection, connect, who_is_in_the_way
from mailvane.queue.postgresql.errors import Disconnected, SharedSessions, TryAgain, told

T = TypeVar("T")

TRIES = 5
"""Attempts at work that others are in the way of."""
SHORT, LONG = 0.05, 2.0
"""Seconds of the first pause, and of the longest."""
WORK_SECONDS = 60.0


class Line:
    """`command` names it to the server; `set_up` is done to each new session. Belongs to one event loop."""

    def __init__(
        self,
        address: Address,
        command: str,
        set_up: Callable[[Connection], Awaitable[None]] | None = None,
        writes: bool = True,
        chance: Chance | None = None,
    ) -> None:
        self.address = address
        self._command = command
        self._set_up = set_up
        self._writes = writes
        self._chance = chance or system_chance()
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._failures = 0
        self._down_since = 0.0
        self._not_before = 0.0
        self._reason: QueueUnavailable | None = None
        self.was_up = False
        """Whether there ever was a session."""
        self.first_answer = CONNECT_SECONDS
        """Seconds that the server has for letting us in the first time."""

    @property
    def down_for(self) -> float:
        """Seconds since attempts to connect began to fail; 0 if the last one did not."""
        return time.monotonic() - self._down_since if self._failures else 0.0

    @property
    def pid(self) -> int:
        """Of the backend that the session has; 0 while there is none."""
        return self._connection.get_server_pid() if self._connection is not None else 0

    async def run(
        self, work: Callable[[Connection], Awaitable[T]], patience: float = 0.0, limit: float = WORK_SECONDS
    ) -> T:
        """What `work` answers. It may be called more than once, and may have been done when its answer is lost.

        A session that was lost is replaced, for `patience` seconds, and once in any case. Raises QueueUnavailable.
        """
        async with self._lock:
            loop = asyncio.get_running_loop()
            end = loop.time() + patience
            tries = 0
            while True:
                fresh = self._connection is None or self._connection.is_closed()
                connection = await self._opened(end)
                try:
                    with told(self.address.shown):
                        async with asyncio.timeout(limit):
                            return await work(connection)
                except TryAgain as e:
                    tries += 1
                    if tries >= TRIES:
                        raise await self._with_who(e, connection) from e
                    await asyncio.sleep(self._jittered(SHORT * 2**tries))
                except Disconnected:
                    self._drop()
                    if fresh and loop.time() >= end:
                        raise
                except asyncio.CancelledError:
                    self._drop()  # what it was about to answer must not be taken for the next one's
                    raise

    async def _with_who(self, error: TryAgain, connection: Connection) -> QueueUnavailable:
        who = await who_is_in_the_way(connection)
        return QueueUnavailable(f"{error}; in the way: {who}" if who else str(error))

    async def _opened(self, end: float) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        loop = asyncio.get_running_loop()
        while True:
            if (wait := self._not_before - loop.time()) > 0:
                if self._reason is not None and self._not_before > end:
                    raise type(self._reason)(str(self._reason))  # not the same one: it would grow a traceback each time
                await asyncio.sleep(wait)
            try:
                self._connection = await self._connect()
            except QueueUnavailable as e:
                self._down_since = self._down_since if self._failures else time.monotonic()
                self._failures += 1
                self._not_before = loop.time() + self._jittered(min(LONG, SHORT * 2**self._failures))
                self._reason = e
                if isinstance(e, QueueTooNew | SharedSessions):  # no patience mends these
                    raise
                continue
            self._failures, self._reason, self.was_up = 0, None, True
            return self._connection

    async def _connect(self) -> Connection:
        seconds = CONNECT_SECONDS if self.was_up else self.first_answer
        connection = await connect(self.address, self._command, writes=self._writes, seconds=seconds)
        if self._set_up is not None:
            try:
                with told(self.address.shown):
                    await self._set_up(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.5 + self._chance.random())

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Waits for the work in hand, and ends the session."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(QueueUnavailable), told(self.address.shown):
                    await connection.close(timeout=1.0)
