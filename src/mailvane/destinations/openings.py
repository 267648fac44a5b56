"""Opens an endpoint's connections: a few at a time, more as it goes well, none for a while when means are short."""

import asyncio
import logging
from collections.abc import Callable

from mailvane.clock import Clock
from mailvane.destinations.connection import Connection
from mailvane.destinations.contract import Failure
from mailvane.destinations.dial import Dialler, NoConnection
from mailvane.destinations.http_request import Endpoint

log = logging.getLogger(__name__)

_AT_ONCE = 4
_MOST_AT_ONCE = 64
_SHORT_SECONDS = 1.0
"""How long no connection is opened beside those that are open after we had no descriptor for one."""


class Openings:
    """Connections on their way up. `make` gives the endpoint and the connection anew for each, and may raise
    NoConnection; `opened` and `failed` tell how one ended.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Endpoint, Connection]],
        dialler: Dialler,
        clock: Clock,
        opened: Callable[[Connection], None],
        failed: Callable[[NoConnection], None],
    ) -> None:
        self.problem: NoConnection | None = None
        """Why the last one could not be opened; None after one that could."""
        self._make = make
        self._dialler = dialler
        self._monotonic = clock.monotonic
        self._opened = opened
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = _AT_ONCE
        self._short_until = 0.0

    def __len__(self) -> int:
        return len(self._tasks)

    def want(self, count: int, some_are_open: bool) -> None:
        """Sees to it that so many are on their way, as far as that is wise."""
        if self._short_until and some_are_open and self._monotonic() < self._short_until:
            return
        count = min(count, self._at_once)
        while len(self._tasks) < count:
            task = asyncio.get_running_loop().create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def rest(self, connections: int, problem: NoConnection) -> None:
        """We are short of something: those that are open have to do for now."""
        now = self._monotonic()
        if now >= self._short_until:
            log.warning("%d connections, and no further one for now: %s", connections, problem.text)
            self._short_until = now + _SHORT_SECONDS

    async def close(self) -> None:
        """Gives up on all of them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        try:
            to, connection = self._make()
            await self._dialler.dial(to, lambda: connection)
        except Exception as error:
            # The border of the task: whatever it is, who waits must be told.
            if isinstance(error, NoConnection):
                problem = error
            else:
                log.exception("a connection could not be opened")
                problem = NoConnection(Failure.CONNECT, f"an error in mailvane itself: {type(error).__name__}")
            self._at_once, self.problem = _AT_ONCE, problem
            self._ended()
            self._failed(problem)
        else:
            self._at_once, self.problem = min(self._at_once + 1, _MOST_AT_ONCE), None
            self._ended()
            self._opened(connection)

    def _ended(self) -> None:
        """This opening is over (its task ends a little later)."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.discard(task)
