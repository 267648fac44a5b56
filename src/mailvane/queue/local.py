"""The SQLite queue in the process that owns it: reads in the event loop's thread, writes in the writer's.

Reading is done in the loop's thread in short slices: handing it to another thread costs more than it saves.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Books, DuePlace, Filter, Listed, Place, Row, Settled, Settlement
from mailvane.queue.migrate import migrate
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.sqlite import KEEPING_LIMIT, SETTLE_LIMIT, SQLiteWriter, in_slices
from mailvane.queue.sqlite_errors import DiskFull, refuse_emptied
from mailvane.queue.writer import Answer, Answered, Group, Writer, promised

T = TypeVar("T")
SELECT_LIMIT = 1_000
SETTLE_LITTLE = 50
"""Ids in one transaction once the disk is full."""


class BallastedStore:
    """The writing connection with its ballast: recording stops while the ballast is gone, settling frees it."""

    def __init__(self, writer: SQLiteWriter, ballast: Ballast) -> None:
        self.writer = writer
        self.ballast = ballast
        self._refused = False

    @property
    def full(self) -> bool:
        """Whether recording is refused for want of room, as far as can be known without trying."""
        return not self.ballast.is_there() or (self._refused and not self.ballast.room_to_record())

    def idle(self) -> None:
        """An owner keeps everything as it is."""

    def append(self, groups: Sequence[Group]) -> list[Answer]:
        if not self.ballast.make():
            raise DiskFull(f"the disk is full: no room for {self.ballast.path}; make room, nothing was recorded")
        try:
            self._keep_the_log_short()
            answers = self.writer.append(groups)
        except DiskFull:
            self._refused = True
            raise
        self._refused = False
        with contextlib.suppress(DiskFull):  # these are on the disk
            self._keep_the_log_short()
        return answers

    def settle(self, what: Settlement, term: int, keep: bool = False) -> Settled:
        """With `keep` delivered events are kept; but the ballast's room is for removing alone."""
        delivered = dropped = 0
        for part in in_slices(what, KEEPING_LIMIT if keep else SETTLE_LIMIT):
            try:
                done = [self.writer.settle(part, term, keep and self.ballast.is_there())]
            except DiskFull:
                self.ballast.free()
                done = [self._settle_in_little_room(little, term) for little in in_slices(part, SETTLE_LITTLE)]
            delivered += sum(d.delivered for d in done)
            dropped += sum(d.dropped for d in done)
        with contextlib.suppress(DiskFull):
            self._keep_the_log_short()
        self.ballast.make()
        return Settled(delivered, dropped)

    def _settle_in_little_room(self, part: Settlement, term: int) -> Settled:
        try:
            return self.writer.settle(part, term)
        except DiskFull:
            with contextlib.suppress(DiskFull):
                self.writer.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
            return self.writer.settle(part, term)

    def replay(self, ids: Sequence[int]) -> list[int]:
        """As OwnedQueue.replay; takes room as recording does, so only where there is some."""
        if not self.ballast.make():
            raise DiskFull(f"the disk is full: no room for {self.ballast.path}; make room, nothing was replayed")
        self._keep_the_log_short()
        return self.writer.replay(ids)

    def _keep_the_log_short(self) -> None:
        """On a disk with little room, so that moving the log never needs more than what the ballast gives."""
        if self.writer.log_size > self.ballast.size() // 4 and self.ballast.scarce():
            self.writer.checkpoint()


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
        self._forgetting: asyncio.Task[None] | None = None
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
        return await self._ordered(lambda: self._store.settle(settlement, term, self.keep_delivered > 0))

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
        """What has to be done now and then: prune, give pages back, make the ballast again, move the log.

        Delivered events that were kept for long enough are forgotten beside that, and beside everything else.
        """

        def work() -> None:
            self._store.ballast.make()
            self._store.writer.prune()
            self._store.writer.checkpoint()

        await self._ordered(work)
        if self._forgetting is None or self._forgetting.done():
            self._forgetting = self._loop.create_task(self._forget_delivered())

    async def _forget_delivered(self) -> None:
        # What cannot be done now is done a minute later.
        with contextlib.suppress(QueueUnavailable, OwnershipLost):
            while not await self._ordered(lambda: self._store.writer.forget_delivered(self.keep_delivered)):
                pass

    async def close(self) -> None:
        """Ends the writer when all is written, and closes the connections (which moves the log into the database)."""
        if self._forgetting is not None:
            self._forgetting.cancel()
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
