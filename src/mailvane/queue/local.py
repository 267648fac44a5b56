"""The SQLite queue in the process that owns it: reads in the event loop's thread, writes in the writer's.

Reading is done in the loop's thread in short slices: handing it to another thread costs more than it saves.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.ballast import Ballast
from mailvane.queue.ballasted import BallastedStore
from mailvane.queue.contract import Books, DuePlace, Filter, Listed, Place, Row, Settled, Settlement
from mailvane.queue.migrate import migrate
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.sqlite_errors import DiskFull, refuse_emptied
from mailvane.queue.sqlite_upkeep import SQLiteUpkeep
from mailvane.queue.writer import Answered, Writer, promised

T = TypeVar("T")
SELECT_LIMIT = 1_000


class SQLiteQueue:
    """An OwnedQueue on SQLite. Made by `open_owned`; the caller holds `queue.lock` until after `close`."""

    def __init__(self, path: str, ballast: Ballast, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self.keep_delivered = 0
        self.on_commit: Callable[[int, Sequence[StoredForm]], None] | None = None
        """Called after each commit, in the loop's thread, with the first id and the events, in the order of ids."""
        self.refused = ""
        """Why the last append failed; "" after one that did not, or once `tried` found that it can be written again."""
        self._trial: asyncio.Task[None] | None = None
        self._loop = loop
        try:
            self._store, self.epoch, self.term = _take_over(path, ballast)
        except DiskFull:
            if not ballast.free():
                raise
            self._store, self.epoch, self.term = _take_over(path, ballast)
        ballast.make()
        self._reader = SQLiteReader(path)
        self._handed_over = self._reader.last_id()
        self._writer = Writer(self._store, self._to_loop, self._committed, self._loop.call_soon)
        self._upkeep = SQLiteUpkeep(self._store, self._ordered, loop)

    @property
    def broken(self) -> str:
        """Why nothing may be written by this process any more; "" as long as all is well."""
        return self._store.writer.broken

    @property
    def full(self) -> bool:
        """Whether recording is refused because the disk is full."""
        return self._store.full

    def appending(self, events: Sequence[StoredForm], token: str = "") -> asyncio.Future[list[int]]:
        """As `append`, without a coroutine of its own: for who has many."""
        future: asyncio.Future[list[int]] = self._loop.create_future()
        self._writer.append(promised(events, token, future))
        return future

    async def append(self, events: Sequence[StoredForm], token: str = "") -> list[int]:
        return await self.appending(events, token)

    def _to_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            self._loop.call_soon_threadsafe(call)

    def _committed(self, answered: Answered) -> None:
        for _, answer in answered:
            self.refused = str(answer) if isinstance(answer, QueueUnavailable) else ""
        if self.on_commit is None:
            return
        first, events = 0, list[StoredForm]()
        for appending, answer in answered:
            # A group that came again with its token was handed over when it came first.
            if isinstance(answer, list) and answer and answer[0] > self._handed_over:
                first = first or answer[0]
                events += appending.events
                self._handed_over = answer[-1]
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
        settled = await self._ordered(lambda: self._store.settle(settlement, term, self.keep_delivered > 0))
        self._upkeep.removed()
        return settled

    async def replay(self, ids: Sequence[int]) -> list[int]:
        return await self._ordered(lambda: self._store.replay(ids))

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

    async def studio_rows(self) -> str:
        return self._reader.studio_rows()

    async def switch_studio(self, states: Mapping[str, bool]) -> None:
        await self._ordered(lambda: self._store.writer.switch_studio(states))

    async def tried(self, within: float) -> str:
        """Why the queue cannot be written, "" if it can; after an append that failed it is tried, for so many seconds.

        What holds the queue may hold a trial for long: there is one at a time.
        """
        if self.refused:
            if self._trial is None or self._trial.done():
                self._trial = self._loop.create_task(self._try())
            await asyncio.wait([self._trial], timeout=within)
        return self.refused

    async def _try(self) -> None:
        try:
            await self.keep("tried", "")
        except (QueueUnavailable, OwnershipLost) as e:
            self.refused = str(e)
        else:
            self.refused = ""

    async def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await asyncio.to_thread(self._aside, lambda reader: reader.select(which, after, limit))

    async def count(self, which: Filter) -> int:
        return await asyncio.to_thread(self._aside, lambda reader: reader.count(which))

    async def select_delivered(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await asyncio.to_thread(self._aside, lambda reader: reader.select_delivered(which, after, limit))

    async def count_delivered(self, which: Filter) -> int:
        return await asyncio.to_thread(self._aside, lambda reader: reader.count_delivered(which))

    async def delete(self, which: Filter) -> int:
        deleted = 0
        async for ids in self._matching(which):
            deleted += await self._ordered(lambda ids=ids: self._store.writer.delete(ids))
            self._upkeep.removed()
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

    async def pull_back(self, now: int, latest: int, instead: int) -> int:
        return await self._ordered(lambda: self._store.writer.pull_back(now, latest, instead))

    async def upkeep(self) -> None:
        """See OwnedQueue.upkeep, and SQLiteUpkeep."""
        await self._upkeep.step(self.keep_delivered)

    async def close(self) -> None:
        """Ends the writer when all is written, and closes the connections (which moves the log into the database)."""
        await self._upkeep.close()
        try:
            await asyncio.to_thread(self._writer.end)
        except RuntimeError:  # no thread can be started any more
            self._writer.end()
        self._reader.close()
        self._store.writer.close()


def _take_over(path: str, ballast: Ballast) -> tuple[BallastedStore, str, int]:
    """The store of a new owner, the queue's epoch and the owner's term."""
    refuse_emptied(path, ballast.is_there())
    migrate(path)
    writer = SQLiteWriter(path)
    try:
        writer.refuse_damaged()
        return BallastedStore(writer, ballast), writer.kept("epoch") or "", writer.take_term()
    except BaseException:
        writer.close()
        raise
