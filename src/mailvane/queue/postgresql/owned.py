"""The queue in PostgreSQL as the process has it that delivers."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.queue.contract import REPLAY_LIMIT, DuePlace, Place, Row, Settled, Settlement
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.appending import Judge
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.line import Line
from mailvane.queue.postgresql.owning import Ownership
from mailvane.queue.postgresql.queue import PostgreSQLQueue
from mailvane.queue.postgresql.upkeep import Upkeep

SETTLE_LIMIT = 5_000
"""Ids of each sort in one transaction."""


class OwnedPostgreSQLQueue(PostgreSQLQueue):
    """An OwnedQueue. `ownership` may be lost at any time: `on_lost` is called then, and nothing is settled any more."""

    def __init__(self, address: Address, command: str, ownership: Ownership, judge: Judge | None = None) -> None:
        super().__init__(address, command, judge)
        self.keep_delivered = 0
        self.term = ownership.term
        self.epoch = ownership.epoch
        self.on_wake: Callable[[int], None] | None = None
        """Called with an id when events came that `on_commit` does not hand over: all up to it are there to be read."""
        self.recorder: PostgreSQLQueue = self
        """Whose commits somebody hands over to whoever delivers: this queue's own, or another's of this process."""
        self.after_another = ownership.after_another
        self.on_orders: Callable[[], None] | None = None
        """Called when a command left an order (`orders`)."""
        self.on_lost: Callable[[OwnershipLost], None] | None = None
        self._news = False
        self._looking: asyncio.Task[None] | None = None
        self._ownership = ownership
        ownership.heard = self._heard
        ownership.lost = self._lost
        self._upkeep = Upkeep(self._acts, Line(address, f"{command}, cleans"))

    def _heard(self, pid: int, payload: str) -> None:
        if payload == "e" and pid != self.recorder.recording_pid:  # what we recorded is handed over by `on_commit`
            self._news = True
            if self._looking is None or self._looking.done():
                self._looking = asyncio.get_running_loop().create_task(self._look())
        elif payload == "o" and self.on_orders is not None:
            self.on_orders()

    async def _look(self) -> None:
        """Anybody at the database can notify anything: how far it goes the tables say."""
        with contextlib.suppress(QueueUnavailable):  # the processor looks itself, once a second
            while self._news:
                self._news = False
                self._wake(await self.reader.last_id())

    def _moved(self, first: int, count: int) -> None:
        super()._moved(first, count)
        self._wake(first + count - 1)

    def _wake(self, upto: int) -> None:
        if self.on_wake is not None:
            self.on_wake(upto)

    def _lost(self, why: OwnershipLost) -> None:
        if self.on_lost is not None:
            self.on_lost(why)

    async def read(self, after: int, limit: int) -> list[Row]:
        return await self.reader.read(after, limit)

    async def scan(self, after: int, limit: int) -> list[Place]:
        return await self.reader.scan(after, limit)

    async def fetch(self, ids: Sequence[int]) -> list[Row]:
        return await self.reader.fetch(ids)

    async def still_there(self, ids: Sequence[int]) -> set[int]:
        return await self.reader.still_there(ids)

    async def due(self, after: tuple[int, int], now: int, limit: int) -> list[DuePlace]:
        return await self.reader.due(after, now, limit)

    async def next_due(self) -> int | None:
        return await self.reader.next_due()

    async def census(self) -> list[tuple[str, str, int]]:
        return await self.reader.census()

    async def pull_back(self, now: int, latest: int, instead: int) -> int:
        return await self._changed("pull_back", now, latest, instead)

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        delivered = dropped = 0
        skipped: list[int] = []
        for part in settlement.in_slices(SETTLE_LIMIT):
            done = await self._ownership.settle(part, term, self.keep_delivered > 0, int(time.time() * 1000))
            delivered += done.delivered
            dropped += done.dropped
            skipped += done.skipped
        self._upkeep.removed(delivered + dropped)
        return Settled(delivered, dropped, tuple(skipped))

    async def replay(self, ids: Sequence[int]) -> list[int]:
        if len(ids) > REPLAY_LIMIT:
            raise ValueError(f"{len(ids)} ids; at most {REPLAY_LIMIT} are replayed at a time")
        self.reader.looked_below()

        async def work(connection: Connection) -> list[int]:
            return [int(row[0]) for row in await connection.fetch(SQL["replay"], list(ids))]

        return await self._ownership.run(work)

    async def upkeep(self) -> None:
        """Sums up the books, forgets what is old, removes failures of events that are gone."""
        await self._upkeep.step(self.keep_delivered)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        await self._upkeep.close()
        await super().close()
        with contextlib.suppress(QueueUnavailable):
            await self._ownership.give_back()
