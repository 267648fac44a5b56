"""A whole service in the test's event loop: home, legacy file, queue, processor, HTTP. Its endpoints are real ones."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw

from mailvane.clock import Clock
from mailvane.configuration.settings import Settings
from mailvane.destinations.dial import Limits
from mailvane.operations.service import Service
from mailvane.operations.taking_over import take_ownership
from processor.rig import PATIENCE, HandClock, form
from support.endpoint import Endpoint, Request


def number(request: Request) -> int:
    """The id of the event in a request."""
    return int(request.webhook_id.rsplit("-", 1)[1])


def acknowledged(*endpoints: Endpoint) -> Counter[int]:
    """How often each event was answered 2xx, by any of these."""
    found: Counter[int] = Counter()
    for endpoint in endpoints:
        found.update(number(request) for request, status in list(endpoint.answered) if 200 <= status < 300)
    return found


class House:
    """See the module."""

    def __init__(self, folder: Path, clock: Clock, limits: Limits | None) -> None:
        self.folder = folder
        self.control = folder / "control"
        self.control.mkdir(exist_ok=True)
        self.settings = Settings(folder, "test", folder / "queue.db", self.control)
        self.clock = clock
        self._limits = limits
        self.recorded: list[int] = []

    def write(self, document: Mapping[str, Any] | str) -> None:
        """An operator writes event_processor.json, in one step."""
        new = self.folder / "new"
        new.write_text(document if isinstance(document, str) else json.dumps(document))
        new.replace(self.settings.legacy_file)

    async def open(self) -> None:
        self.lock = await take_ownership(self.settings, "mailvane run")
        self.service = Service(self.settings, self.lock, self.clock, self._limits)
        await self.service.start()

    def deliver(self, once: bool = False) -> asyncio.Task[None]:
        self.task = asyncio.get_running_loop().create_task(self.service.deliver(once))
        return self.task

    async def close(self, grace: float = 5.0) -> None:
        await self.service.stop(grace)
        await asyncio.wait([self.task], timeout=PATIENCE)
        self.task.result()

    async def record(self, count: int = 1, event_type: str = "bounce_all") -> list[int]:
        ids: list[int] = []
        for at in range(0, count, 500):
            ids += await self.service.queue.append([form(event_type)] * min(500, count - at))
        self.recorded += ids
        return ids

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        db = apsw.Connection(str(self.settings.queue_file))
        try:
            db.set_busy_timeout(10_000)
            return db.execute(statement, values).fetchall()
        finally:
            db.close()

    def waiting(self) -> int:
        return self.rows("SELECT count(*) FROM queue")[0][0]

    def deferred(self) -> set[int]:
        return {i for (i,) in self.rows("SELECT id FROM deferred")}

    async def until(self, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Waits until it holds: endpoints live in threads of their own, so it is asked again and again."""
        end = time.monotonic() + patience
        while not holds():
            if self.task.done():
                self.task.result()
            if time.monotonic() > end:
                raise AssertionError(
                    f"not so within {patience} s; {self.waiting()} wait, {len(self.deferred())} deferred"
                )
            await asyncio.sleep(0.005)


@asynccontextmanager
async def house(
    folder: Path, document: Mapping[str, Any] | str | None, clock: Clock | None = None, limits: Limits | None = None
) -> AsyncIterator[House]:
    made = House(folder, clock or HandClock(), limits)
    if document is not None:
        made.write(document)
    await made.open()
    made.deliver()
    try:
        yield made
    finally:
        await made.close(0.0)
