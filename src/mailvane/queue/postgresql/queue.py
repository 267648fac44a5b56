"""The queue in PostgreSQL as recorders and commands have it; `owned` has that of the process that delivers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.contract import Books, Filter, Listed
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.appending import Judge
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.line import Line
from mailvane.queue.postgresql.orders import Orders
from mailvane.queue.postgresql.reading import PostgreSQLLookup, PostgreSQLReader
from mailvane.queue.postgresql.recording import SharedCommits
from mailvane.queue.postgresql.schema import ensure_schema
from mailvane.queue.studio import assignments
from mailvane.queue.writer import Answered

AT_A_TIME = 1_000


class PostgreSQLQueue:
    """A Queue. Made in a running event loop; sessions are opened when they are needed."""

    broken = ""
    """As a SQLite queue's: nothing that a server does forbids this process to write for ever."""
    full = False

    def __init__(self, address: Address, command: str, judge: Judge | None = None) -> None:
        self.address = address
        self.epoch = ""
        """Known after `open`."""
        self.on_commit: Callable[[int, Sequence[StoredForm]], None] | None = None
        """Called after each commit of ours with the first id and the events, whose ids are consecutive."""
        self.on_moved: Callable[[int, int], None] | None = None
        """Called after we moved events from the inbox, with the first id and how many: nobody has them in hand."""
        self._aside = Line(address, f"{command}, asks", self._set_up_aside, writes=False)
        self._acts = Line(address, f"{command}, acts", self._set_up)
        self.reader = PostgreSQLReader(self._acts)
        self.lookup = PostgreSQLLookup(self._aside)
        self.orders = Orders(self._acts)
        self._recorder = SharedCommits(address, f"{command}, records", judge, self._committed, self._moved)
        self._handed_over = 0
        self._trial: asyncio.Task[None] | None = None
        self._tried = ""

    async def open(self) -> None:
        """Makes the tables where they are missing. Raises QueueUnavailable, QueueTooNew."""
        self.epoch = await self.reader.kept("epoch") or ""

    async def _set_up(self, connection: Connection) -> None:
        await ensure_schema(connection, self.address)
        await connection.fetch(SQL["plan_by_index"])

    async def _set_up_aside(self, connection: Connection) -> None:
        await ensure_schema(connection, self.address, writes=False)

    # Recording

    def appending(self, events: Sequence[StoredForm], token: str = "") -> asyncio.Future[list[int]]:
        """As `append`, without a coroutine of its own: for who has many."""
        return self._recorder.appending(events, token)

    async def append(self, events: Sequence[StoredForm], token: str = "") -> list[int]:
        return await self._recorder.appending(events, token)

    def _committed(self, answered: Answered) -> None:
        for _, answer in answered:
            self._tried = str(answer) if isinstance(answer, QueueUnavailable) else ""
        if self.on_commit is None:
            return
        first, last, events = 0, 0, list[StoredForm]()
        for appending, answer in answered:
            # A group that came again with its token was handed over when it came first, or came to somebody else then.
            before = max(self._handed_over, self._recorder.fresh_from - 1)
            if not isinstance(answer, list) or not answer or answer[0] <= before:
                continue
            if events and answer[0] != last + 1:
                self.on_commit(first, events)
                events = []
            first = first if events else answer[0]
            events += appending.events
            self._handed_over = last = answer[-1]
        if events:
            self.on_commit(first, events)

    def _moved(self, first: int, count: int) -> None:
        if self.on_moved is not None:
            self.on_moved(first, count)

    async def look_into_inbox(self) -> None:
        """Returns when what was in the inbox is moved, or cannot be now: it is looked into by itself, too."""
        await self._recorder.look_into_inbox()

    @property
    def recording_pid(self) -> int:
        """Of the backend that records for us; 0 while there is none."""
        return self._recorder.pid

    @property
    def refused(self) -> str:
        """Why the last append failed; "" after one that did not, or once `tried` found that it can be written again."""
        return self._tried

    async def tried(self, within: float) -> str:
        """Why the queue cannot be written, "" if it can; after an append that failed it is tried, so many seconds."""
        if self._tried:
            if self._trial is None or self._trial.done():
                self._trial = asyncio.get_running_loop().create_task(self._try())
            await asyncio.wait([self._trial], timeout=within)
        return self._tried

    async def _try(self) -> None:
        try:
            await self._recorder.try_to_write()
        except QueueUnavailable as e:
            self._tried = str(e)
        else:
            self._tried = ""

    # Looking

    async def books(self) -> Books:
        return await self.reader.books()

    async def oldest(self) -> int | None:
        return await self.reader.oldest()

    async def kept(self, name: str) -> str | None:
        return await self.reader.kept(name)

    async def studio_rows(self) -> str:
        return await self.reader.studio_rows()

    async def deferred(self) -> int:
        """How many events are deferred."""
        return await self.reader.deferred()

    async def last_id(self) -> int:
        return await self.reader.last_id()

    async def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await self.lookup.select(which, after, limit)

    async def count(self, which: Filter) -> int:
        return await self.lookup.count(which)

    async def select_delivered(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await self.lookup.select_delivered(which, after, limit)

    async def count_delivered(self, which: Filter) -> int:
        return await self.lookup.count_delivered(which)

    # Acting

    async def keep(self, name: str, value: str) -> None:
        await self._acts.run(lambda connection: connection.execute(SQL["keep"], name, value))

    async def switch_studio(self, states: Mapping[str, bool]) -> None:
        async def switch(connection: Connection) -> None:
            async with connection.transaction():
                await switch_studio(connection, states)

        await self._acts.run(switch)

    async def delete(self, which: Filter) -> int:
        deleted = 0
        async for ids in self._matching(which):
            deleted += await self._number("delete", ids)
        return deleted

    async def retry(self, which: Filter, now: int) -> int:
        if which == Filter():
            return await self._changed("make_all_due", now)
        due = 0
        async for ids in self._matching(which):
            due += await self._changed("make_due", ids, now)
        return due

    async def _matching(self, which: Filter) -> AsyncIterator[list[int]]:
        after = 0
        while ids := await self.lookup.matching_ids(which, after, AT_A_TIME):
            yield ids
            after = ids[-1]

    async def _number(self, name: str, *values: object) -> int:
        return int(await self._acts.run(lambda connection: connection.fetchval(SQL[name], *values)) or 0)

    async def _changed(self, name: str, *values: object) -> int:
        """How many rows a statement changed: the last word of what the server says of it."""
        said = await self._acts.run(lambda connection: connection.execute(SQL[name], *values))
        return int(said.rpartition(" ")[2])

    async def close(self) -> None:
        """Writes what was handed in, and ends the sessions."""
        if self._trial is not None:
            self._trial.cancel()
        await self._recorder.close()
        await self._acts.close()
        await self._aside.close()


async def switch_studio(connection: Connection, states: Mapping[str, bool]) -> None:
    """See Queue.switch_studio; inside a transaction."""
    await connection.execute(SQL["mend_studio"])
    await connection.execute(SQL["set_studio"].format(assignments=assignments(states)))
