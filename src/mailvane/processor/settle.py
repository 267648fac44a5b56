"""Makes durable what happened: one transaction for a batch of outcomes.

At once when little happens, every 50 ms or 1,000 events under load. While settling fails (a full disk) nothing is
attempted anywhere: an event that was delivered and cannot be removed would be delivered again. Then it is tried again
every second. The same holds for a log file beside the destinations that cannot be written: what is settled is written
there first.

Of events that somebody at the database has locked nothing is settled. They stay held, whatever their outcome was, and
are tried again every second, with no harm to the others.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from mailvane.clock import Clock
from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.processor.beside import UNSEEN, Beside, NotWritten
from mailvane.processor.held import Held
from mailvane.queue.contract import Failed, OwnedQueue, Settlement

EVERY = 0.05
MANY = 1_000
"""Delivered events that wait no longer: what is held is bounded, and would be full of what is only to be removed."""
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
        self._locked = Settlement()
        """What was passed over the last time, for somebody has it locked."""
        self._written: set[int] = set()
        """Of that, what the log file beside the destinations has already."""
        self._last = 0.0
        self._begun = 0
        self._ended = 0
        self.beside: Beside | None = None
        """The log file beside the destinations."""
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

    def write_beside(self, beside: Beside | None) -> None:
        """From now on what is settled is written there first. Nothing is attempted before that has proved possible."""
        self.beside = beside
        if self._unseen:
            self.trouble = self.trouble or UNSEEN
            self._plan()

    @property
    def _unseen(self) -> bool:
        return self.beside is not None and not self.beside.seen

    def delivered(self, ids: Sequence[int]) -> None:
        self._delivered += ids
        self._plan()

    def dropped(self, event_id: int) -> None:
        self._dropped.append(event_id)
        self._plan()

    def failed(self, failed: Failed) -> None:
        self._failed.append(failed)
        self._plan()

    def _plan(self) -> None:
        if self._task is not None or self.lost is not None:
            return
        if len(self._delivered) >= MANY:
            if self._timer is not None:
                self._timer.cancel()
            self._start()
        elif self._timer is None:
            wait = max(0.0, self._last + EVERY - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._task is None and self.lost is None:
            self._task = asyncio.get_running_loop().create_task(self._settle())

    async def _settle(self) -> None:
        what = Settlement(self._delivered, self._dropped, self._failed)
        self._delivered, self._dropped, self._failed = [], [], []
        self._last = self._clock.monotonic()
        self._begun += 1
        unwritten: list[int] | None = None
        try:
            while True:
                try:
                    if self.beside is not None:
                        if unwritten is None:
                            unwritten = [i for i in (*what.delivered, *what.dropped) if i not in self._written]
                        await self.beside.write(unwritten)
                    done = await self._queue.settle(what, self._queue.term)
                    break
                except (QueueUnavailable, NotWritten) as e:
                    if str(e) != self.trouble:
                        log.error("outcomes cannot be written, nothing is delivered meanwhile: %s", e)
                    self.trouble = str(e)
                    await asyncio.sleep(AGAIN)
                    if self.lost is not None:
                        return
        except Exception as e:  # the border of the task: whatever it is, nothing more may be sent
            if not isinstance(e, OwnershipLost):
                log.exception("outcomes cannot be written")
            self.lost = e
            self.trouble = str(e) or repr(e)
            self._settled(Settlement())
            return
        finally:
            self._task = None
        if self.trouble and not self._unseen:
            if self.trouble != UNSEEN:
                log.warning("outcomes are written again; delivery goes on")
            self.trouble = ""
        if done.skipped or self._written:
            what = self._without_locked(what, frozenset(done.skipped))
        self._held.release(what.delivered)
        self._held.release(what.dropped)
        self._held.release([failed.id for failed in what.failed])
        self._ended += 1
        if self._delivered or self._dropped or self._failed or self._unseen:
            self._plan()
        self._settled(what)

    def _without_locked(self, what: Settlement, locked: frozenset[int]) -> Settlement:
        """What was settled; the rest is set aside."""
        self._written.difference_update(what.delivered, what.dropped)
        aside = _chosen(what, locked.__contains__)
        if locked:
            if not (self._locked.delivered or self._locked.dropped or self._locked.failed):
                log.warning("%d outcomes wait: somebody at the database has locked their events", len(locked))
                asyncio.get_running_loop().call_later(AGAIN, self._try_locked)
            before = self._locked
            self._locked = Settlement(
                [*before.delivered, *aside.delivered],
                [*before.dropped, *aside.dropped],
                [*before.failed, *aside.failed],
            )
            if self.beside is not None:
                self._written.update(aside.delivered, aside.dropped)
        return _chosen(what, lambda event_id: event_id not in locked)

    def _try_locked(self) -> None:
        aside, self._locked = self._locked, Settlement()
        self._delivered += aside.delivered
        self._dropped += aside.dropped
        self._failed += aside.failed
        self._plan()

    def abandon(self, why: BaseException) -> None:
        """Settles nothing any more, for this process may not."""
        self.lost = self.lost or why
        self.trouble = str(self.lost) or repr(self.lost)
        if self._timer is not None:
            self._timer.cancel()

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


def _chosen(what: Settlement, chosen: Callable[[int], bool]) -> Settlement:
    """The outcomes of some events."""
    return Settlement(
        [i for i in what.delivered if chosen(i)],
        [i for i in what.dropped if chosen(i)],
        [f for f in what.failed if chosen(f.id)],
    )
