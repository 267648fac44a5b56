"""Makes durable what happened: one transaction for a batch of outcomes.

At once when little happens, every 50 ms under load. While settling fails (a full disk) nothing is attempted anywhere:
an event that was delivered and cannot be removed would be delivered again. Then it is tried again every second.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from mailvane.clock import Clock
from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.processor.held import Held
from mailvane.queue.contract import Failed, OwnedQueue, Settlement

EVERY = 0.05
AGAIN = 1.0

log = logging.getLogger("mailvane.processor")


class Settler:
    """Gathers outcomes and settles them; once that is on disk, releases ids from `held` and calls `settled`."""

    def __init__(self, queue: OwnedQueue, held: Held, clock: Clock, settled: Callable[[Settlement], None]) -> None:
        self._queue = queue
        self._held = held
        self._clock = clock
        self._settled = settled
        self._delivered: list[int] = []
        self._dropped: list[int] = []
        self._failed: list[Failed] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0
        self._begun = 0
        self._ended = 0
        self.trouble = ""
        """Why nothing can be settled now; "" when all is well."""
        self.lost: BaseException | None = None
        """Why this process must deliver no longer: another one owns the queue, or a defect of ours."""

    @property
    def busy(self) -> bool:
        """Whether there are outcomes that are not on disk yet."""
        return bool(self._task or self._delivered or self._dropped or self._failed)

    def mark(self) -> int:
        """A number that stands for everything that was handed in by now; see `passed`."""
        return self._begun + bool(self._delivered or self._dropped or self._failed)

    def passed(self, mark: int) -> bool:
        """Whether what a mark stands for is on disk."""
        return self._ended >= mark

    def delivered(self, ids: Sequence[int]) -> None:
        self._delivered += ids
        if self._timer is None and self._task is None:
            self._plan()

    def dropped(self, event_id: int) -> None:
        self._dropped.append(event_id)
        if self._timer is None and self._task is None:
            self._plan()

    def failed(self, failed: Failed) -> None:
        self._failed.append(failed)
        if self._timer is None and self._task is None:
            self._plan()

    def _plan(self) -> None:
        if self._task is None:
            wait = max(0.0, self._last + EVERY - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._settle())

    async def _settle(self) -> None:
        what = Settlement(self._delivered, self._dropped, self._failed)
        self._delivered, self._dropped, self._failed = [], [], []
        self._last = self._clock.monotonic()
        self._begun += 1
        try:
            while True:
                try:
                    await self._queue.settle(what, self._queue.term)
                    break
                except QueueUnavailable as e:
                    if str(e) != self.trouble:
                        log.error("outcomes cannot be written, nothing is delivered meanwhile: %s", e)
                    self.trouble = str(e)
                    await asyncio.sleep(AGAIN)
        except Exception as e:  # the border of the task: whatever it is, nothing more may be sent
            if not isinstance(e, OwnershipLost):
                log.exception("outcomes cannot be written")
            self.lost = e
            self.trouble = str(e) or repr(e)
            self._settled(Settlement())
            return
        finally:
            self._task = None
        if self.trouble:
            log.warning("outcomes are written again; delivery goes on")
            self.trouble = ""
        self._held.release(what.delivered)
        self._held.release(what.dropped)
        self._held.release([failed.id for failed in what.failed])
        self._ended += 1
        if self._delivered or self._dropped or self._failed:
            self._plan()
        self._settled(what)

    async def flush(self) -> None:
        """Waits until everything that was handed in is on disk, or cannot be."""
        while self.busy and not self.trouble and self.lost is None:
            if self._timer is not None:
                self._timer.cancel()
                self._start()
            elif self._task is None:
                self._start()
            task = self._task
            if task is not None:
                await asyncio.wait([task], timeout=AGAIN)
