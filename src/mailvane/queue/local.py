"""The SQLite queue in the process that owns it: reads in the event loop's thread, writes in the writer's.

Reading is done in the loop's thread in short slices: handing it to another thread costs more than it saves.
"""

import asyncio
import contextlib
import os
import secrets
import string
from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Books, DuePlace, Filter, Listed, Place, Row, Settled, Settlement
from mailvane.queue.migrate import migrate
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.sqlite import DiskFull, SQLiteWriter, in_slices
from mailvane.queue.writer import Answer, Answered, Appending, Group, Writer

T = TypeVar("T")
SELECT_LIMIT = 1_000


class BallastedStore:
    """The writing connection with its ballast: recording stops while the ballast is gone, settling frees it."""

    def __init__(self, writer: SQLiteWriter, ballast: Ballast) -> None:
        self.writer = writer
        self.ballast = ballast

    def append(self, groups: Sequence[Group]) -> list[list[int]]:
        if not self.ballast.make():
            raise DiskFull(f"the disk is full: no room for {self.ballast.path}; make room, nothing was recorded")
        return self.writer.append(groups)

    def settle(self, what: Settlement, term: int) -> Settled:
        delivered = dropped = 0
        for part in in_slices(what):
            try:
                done = self.writer.settle(part, term)
            except DiskFull:
                if not self.ballast.free():
                    raise
                self.writer.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
                done = self.writer.settle(part, term)
            delivered += done.delivered
            dropped += done.dropped
        self.ballast.make()
        return Settled(delivered, dropped)


class SQLiteQueue:
    """An OwnedQueue on SQLite. Made by `open_owned`; the caller holds `queue.lock` until after `close`."""

    def __init__(self, path: str, ballast: Ballast, loop: asyncio.AbstractEventLoop) -> None:
        migrate(path)
        self.path = path
        self.on_commit: Callable[[int, Sequence[StoredForm]], None] | None = None
        """Called after each commit, in the loop's thread, with the first id and the events, in the order of ids."""
        self._loop = loop
        self._store = BallastedStore(SQLiteWriter(path), ballast)
        ballast.make()
        if (epoch := self._store.writer.kept("epoch")) is None:
            epoch = new_epoch()
            self._store.writer.keep("epoch", epoch)
        self.epoch = epoch
        self.term = self._store.writer.take_term()
        # The log's own entry in its folder: SQLite does not tell when syncing it fails.
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._reader = SQLiteReader(path)
        self._writer = Writer(self._store, self._to_loop, self._committed)

    @property
    def broken(self) -> str:
        """Why nothing may be written by this process any more; "" as long as all is well."""
        return self._store.writer.broken

    @property
    def full(self) -> bool:
        """Whether recording is refused because the disk is full."""
        return not self._store.ballast.is_there()

    def appending(self, events: Sequence[StoredForm], token: str = "") -> asyncio.Future[list[int]]:
        """As `append`, without a coroutine of its own: for who has many."""
        future: asyncio.Future[list[int]] = self._loop.create_future()

        def answered(answer: Answer) -> None:
            if future.done():
                return
            if isinstance(answer, QueueUnavailable):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self._writer.append(Appending(events, token, answered))
        return future

    async def append(self, events: Sequence[StoredForm], token: str = "") -> list[int]:
        return await self.appending(events, token)

    def _to_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            self._loop.call_soon_threadsafe(call)

    def _committed(self, answered: Answered) -> None:
        if self.on_commit is None:
            return
        first, events = 0, list[StoredForm]()
        for appending, answer in answered:
            if isinstance(answer, list) and answer:
                first = first or answer[0]
                events += appending.events
        if events:
            self.on_commit(first, events)

    async def _ordered(self, act: Callable[[], T]) -> T:
        """Runs something in the writer's thread."""
        future: asyncio.Future[T] = self._loop.create_future()

        def resolve(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def order() -> None:
            try:
                result = act()
            except (QueueUnavailable, OwnershipLost) as e:
                error = e
                self._to_loop(lambda: resolve(None, error))
            except Exception as e:  # a defect of ours must reach who waits, not end the thread
                error_ = QueueUnavailable(f"the queue could not be written: {e!r}")
                self._to_loop(lambda: resolve(None, error_))
            else:
                self._to_loop(lambda: resolve(result, None))

        self._writer.order(order)
        return await future

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        return await self._ordered(lambda: self._store.settle(settlement, term))

    async def read(self, after: int, limit: int) -> list[Row]:
        return self._reader.read(after, limit)

    async def scan(self, after: int, limit: int) -> list[Place]:
        return self._reader.scan(after, limit)

    async def fetch(self, ids: Sequence[int]) -> list[Row]:
        return self._reader.fetch(ids)

    async def still_there(self, ids: Sequence[int]) -> set[int]:
        return self._reader.still_there(ids)

    async def due(self, after: tuple[int, int], now: int, limit: int) -> list[DuePlace]:
        return self._reader.due(after, now, limit)

    async def next_due(self) -> int | None:
        return self._reader.next_due()

    async def census(self) -> list[tuple[str, str, int]]:
        return self._reader.census()

    async def deferred(self) -> int:
        return self._reader.deferred()

    async def last_id(self) -> int:
        return self._reader.last_id()

    async def books(self) -> Books:
        return self._reader.books()

    async def oldest(self) -> int | None:
        return self._reader.oldest()

    async def kept(self, name: str) -> str | None:
        return self._reader.kept(name)

    async def keep(self, name: str, value: str) -> None:
        await self._ordered(lambda: self._store.writer.keep(name, value))

    async def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await asyncio.to_thread(self._aside, lambda reader: reader.select(which, after, limit))

    async def count(self, which: Filter) -> int:
        return await asyncio.to_thread(self._aside, lambda reader: reader.count(which))

    async def delete(self, which: Filter) -> int:
        deleted = 0
        async for ids in self._matching(which):
            deleted += await self._ordered(lambda ids=ids: self._store.writer.delete(ids))
        return deleted

    async def retry(self, which: Filter, now: int) -> int:
        if which == Filter():
            return await self._ordered(lambda: self._store.writer.make_due(None, now))
        due = 0
        async for ids in self._matching(which):
            due += await self._ordered(lambda ids=ids: self._store.writer.make_due(ids, now))
        return due

    async def _matching(self, which: Filter):
        after = 0
        while ids := await asyncio.to_thread(
            self._aside, lambda reader, after=after: reader.matching_ids(which, after, SELECT_LIMIT)
        ):
            yield ids
            after = ids[-1]

    def _aside(self, read: Callable[[SQLiteReader], T]) -> T:
        """A read that may take long, on a connection of its own."""
        reader = SQLiteReader(self.path)
        try:
            return read(reader)
        finally:
            reader.close()

    async def pull_back(self, latest: int) -> int:
        return await self._ordered(lambda: self._store.writer.pull_back(latest))

    async def upkeep(self) -> None:
        """What has to be done now and then: prune, give pages back, make the ballast again, move the log."""

        def work() -> None:
            self._store.ballast.make()
            self._store.writer.prune()
            self._store.writer.checkpoint()

        await self._ordered(work)

    async def close(self) -> None:
        """Ends the writer when all is written, and closes the connections (which moves the log into the database)."""
        await asyncio.to_thread(self._writer.end)
        self._reader.close()
        self._store.writer.close()


def new_epoch() -> str:
    """A short random word that tells this queue from every other."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
