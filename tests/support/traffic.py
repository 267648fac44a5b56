"""An hour of a mail server's events, faster than it passes: minute by minute into a queue and out of it again."""

import random
from collections import deque
from dataclasses import dataclass, field

from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm, stored_form
from mailvane.queue.contract import Failed, OwnedQueue, Settlement

BURSTS = 6
"""In a minute, each recorded as fast as it goes, in groups of up to GROUP, and then delivered in the same way."""
BURST = 6_000
GROUP = 500
WAITING = 20_000
"""Events that wait at any time, for this or that reason."""
FAILS_EVERY = 50
"""Of so many events one fails before it is delivered, a minute later."""


def _forms() -> list[StoredForm]:
    """Most of them have about 900 bytes, one in two hundred has 20 kB."""
    chance = random.Random(5)
    sizes = [chance.randrange(300, 1_500) for _ in range(199)] + [20_000]
    return [
        stored_form(Event(event_type="bounce_all", event_time=1, email=f"u{n}@example.com", bounce_text="x" * size))
        for n, size in enumerate(sizes)
    ]


@dataclass
class Traffic:
    """What is recorded, delivered and fails in a queue; `minute` is one of its minutes, and waits for no clock."""

    queue: OwnedQueue
    recorded: int = 0
    live: int = 0
    """Bytes of what waits, as it is stored."""
    _waiting: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    _failed: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    _forms: list[StoredForm] = field(default_factory=_forms)

    async def minute(self, deliver: bool = True) -> None:
        """`deliver`: else every destination stands, and what comes stays."""
        for _ in range(BURSTS):
            await self._record(BURST)
            if deliver:
                await self._deliver(max(0, len(self._waiting) - WAITING))
        if deliver:
            again, self._failed = self._failed[: len(self._failed) // 2], self._failed[len(self._failed) // 2 :]
            await self._settle(again, [])
        await self.queue.upkeep()

    async def _record(self, count: int) -> None:
        for at in range(0, count, GROUP):
            forms = [self._forms[(at + n) % len(self._forms)] for n in range(GROUP)]
            sizes = [len(form.body) + len(form.extra) for form in forms]
            self._waiting += zip(await self.queue.append(forms), sizes, strict=True)
            self.recorded += len(forms)
            self.live += sum(sizes)

    async def _deliver(self, count: int) -> None:
        """The oldest first, in settlements as large as they are under load."""
        while count > 0:
            batch = [self._waiting.popleft() for _ in range(min(count, 1_500))]
            count -= len(batch)
            await self._settle(
                [one for n, one in enumerate(batch) if n % FAILS_EVERY],
                [one for n, one in enumerate(batch) if n % FAILS_EVERY == 0],
            )

    async def _settle(self, delivered: list[tuple[int, int]], failed: list[tuple[int, int]]) -> None:
        what = Settlement(
            [event_id for event_id, _ in delivered],
            failed=[Failed(event_id, 1, 1, "http_5xx: 503", 503, 0.1) for event_id, _ in failed],
        )
        done = await self.queue.settle(what, self.queue.term)
        assert (done.delivered, done.skipped) == (len(delivered), ())
        self._failed += failed
        self.live -= sum([size for _, size in delivered])
