"""A queue in PostgreSQL as one end of a move (mailvane.queue.moving)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import structs

from mailvane.errors import MailvaneError, QueueOwned, QueueUnavailable
from mailvane.queue.contract import Books, Listed
from mailvane.queue.history import history_of, listed, storable
from mailvane.queue.moving import (
    MOVED_FROM,
    MOVED_TO,
    PAGE,
    PAGE_BYTES,
    Came,
    Estate,
    Going,
    Take,
    goes_along,
    left_to_take,
    moved_message,
)
from mailvane.queue.postgresql.address import parse_address
from mailvane.queue.postgresql.appending import Appender, Judge
from mailvane.queue.postgresql.connection import SQL as QUEUE_SQL
from mailvane.queue.postgresql.connection import Connection
from mailvane.queue.postgresql.owning import Ownership
from mailvane.queue.postgresql.queue import switch_studio
from mailvane.queue.postgresql.recording import recording_line
from mailvane.queue.statements import statements
from mailvane.queue.studio import states_in

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

OWNER_ENDS = 5.0
"""Seconds for which it is tried to own a queue: the session of a move that was killed may last that long."""
TRY_EVERY = 0.2

SQL = {**QUEUE_SQL, **statements("postgresql_moving.sql")}
_json = msgspec.json.encode


@contextlib.asynccontextmanager
async def postgresql_end(url: str, command: str, judge: Judge) -> AsyncGenerator["PostgreSQLEnd", None]:
    """Owns the queue meanwhile; `judge` as for a recorder. Raises BadAddress, QueueOwned, QueueUnavailable."""
    address = parse_address(url)
    end = asyncio.get_running_loop().time() + OWNER_ENDS
    while True:
        try:
            ownership = await Ownership.take(address, command, moves=True)
            break
        except QueueOwned:
            if asyncio.get_running_loop().time() >= end:
                raise
            await asyncio.sleep(TRY_EVERY)
    try:
        yield PostgreSQLEnd(ownership, command, judge)
    finally:
        await ownership.give_back()


class PostgreSQLEnd:
    """See Source and Target."""

    def __init__(self, ownership: Ownership, command: str, judge: Judge) -> None:
        self.shown = ownership.address.shown
        self._ownership = ownership
        self._command = command
        self._judge = judge

    async def going(self) -> Going | None:
        return await self._ownership.run(lambda c: _said(c, MOVED_TO, Going))

    async def came(self) -> Came | None:
        return await self._ownership.run(lambda c: _said(c, MOVED_FROM, Came))

    async def close_for(self, going: Going) -> None:
        message = moved_message(self.shown, going)

        async def close_inbox(connection: Connection) -> None:
            await _keep(connection, MOVED_TO, going)
            await _close(connection, "inbox", message)

        await self._naming_who(lambda: self._changed(close_inbox))
        await self._empty_the_inbox()
        await self._naming_who(lambda: self._changed(lambda c: _close(c, "queue", message)))

    async def _empty_the_inbox(self) -> None:
        """What people recorded in transactions waits in no queue yet, and is to come along."""

        async def count(connection: Connection) -> int:
            return int(await connection.fetchval(SQL["inbox_waits"]))

        if not await self._ownership.run(count):
            return
        line = recording_line(self._ownership.address, f"{self._command}, records")
        try:
            appender = Appender(line, self._judge)
            while appender.inbox_waits:
                await appender.move_inbox()
        finally:
            await line.close()
        if left := await self._ownership.run(count):
            raise QueueUnavailable(
                f"{self.shown}: {left:,} events in the inbox cannot be recorded now (see above): try again"
            )

    async def estate(self) -> Estate:
        async def read(connection: Connection) -> Estate:
            n = {str(row[0]): int(row[1]) for row in await connection.fetch(SQL["books"])}
            books = Books(*[n.get(name, 0) for name in ("recorded", "delivered", "dropped", "deleted", "replayed")])
            kept = {str(row[0]): str(row[1]) for row in await connection.fetch(SQL["all_kept"])}
            delivered = int(await connection.fetchval(SQL["count_kept"]))
            studio = states_in(await connection.fetchval(SQL["studio_rows"]))
            return Estate(int(await connection.fetchval(SQL["last_id"]) or 0), books, kept, delivered, studio)

        return await self._ownership.run(read)

    async def hand_over(self, take: Take) -> int:
        return await self._hand_over("lowest", take, _remove)

    async def hand_over_delivered(self, take: Take) -> int:
        return await self._hand_over("lowest_delivered", take, _keep_no_more)

    async def _hand_over(
        self, lowest: str, take: Take, remove: Callable[[Connection, Sequence[int]], Awaitable[None]]
    ) -> int:
        async def work(connection: Connection) -> int:
            found = await connection.fetch(SQL[lowest], PAGE, PAGE_BYTES)
            rows = [listed([row[n] for n in range(14)]) for row in found]
            if rows:
                await take(rows)
                await remove(connection, [row.id for row in rows])
            return len(rows)

        return await self._naming_who(lambda: self._changed(work))

    async def unused(self) -> bool:
        return await self._ownership.run(lambda c: c.fetchval(SQL["unused"]))

    async def begin(self, came: Came, estate: Estate) -> None:
        async def work(connection: Connection) -> None:
            await connection.fetchval(SQL["order_lock"])
            if not await connection.fetchval(SQL["unused"]):
                raise QueueUnavailable(f"{self.shown} has held events")
            for name, value in goes_along(estate.kept).items():
                await connection.execute(SQL["keep"], name, value)
            if estate.studio:
                await switch_studio(connection, estate.studio)
            books = estate.books
            if estate.last_id:
                await connection.fetchval(SQL["set_last_id"], estate.last_id)
                await connection.execute(
                    SQL["note_last_id"], estate.last_id, f"move {came.move}", int(time.time() * 1000)
                )
            for name in ("delivered", "dropped", "deleted", "replayed"):
                await connection.execute(SQL["book"], name, getattr(books, name))
            await connection.execute(SQL["book"], "recorded", books.delivered + books.dropped + books.deleted)
            await _keep(connection, MOVED_FROM, came)

        await self._changed(work)

    async def take(self, rows: Sequence[Listed]) -> None:
        async def work(connection: Connection) -> None:
            came = await _said(connection, MOVED_FROM, Came)
            assert came is not None
            left = left_to_take(rows, came.upto)
            if not left:
                return
            await connection.execute(SQL["add"], *_columns(left))
            failed = [r for r in left if r.attempts]
            await connection.execute(
                SQL["add_deferred"],
                [r.id for r in failed], [r.attempts for r in failed], [r.due for r in failed],
                [r.first_failed for r in failed], [r.last_failed for r in failed], [storable(r.error) for r in failed],
                [history_of(r) for r in failed],
            )  # fmt: skip
            await connection.execute(SQL["book"], "recorded", len(left))
            await _keep(connection, MOVED_FROM, structs.replace(came, upto=left[-1].id))

        await self._changed(work)

    async def take_delivered(self, rows: Sequence[Listed]) -> None:
        async def work(connection: Connection) -> None:
            came = await _said(connection, MOVED_FROM, Came)
            assert came is not None
            left = left_to_take(rows, came.delivered)
            if not left:
                return
            await connection.execute(
                SQL["add_delivered"],
                *_columns(left),
                [r.delivered for r in left], [r.attempts for r in left], [r.first_failed for r in left],
                [r.last_failed for r in left], [storable(r.error) for r in left], [history_of(r) for r in left],
            )  # fmt: skip
            await _keep(connection, MOVED_FROM, structs.replace(came, delivered=left[-1].id))

        await self._changed(work)

    async def _changed(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def in_a_transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._ownership.run(in_a_transaction)

    async def _naming_who(self, work: Callable[[], Awaitable[T]]) -> T:
        """A transaction that somebody left open is waited for, and then named."""
        try:
            return await work()
        except QueueUnavailable as e:
            others = ""
            with contextlib.suppress(MailvaneError):  # what was wrong is told in any case
                found = await self._ownership.run(lambda c: c.fetch(SQL["others"]))
                others = ", ".join(f"{row[1]} (backend {row[0]})" for row in found)
            if not others:
                raise
            raise QueueUnavailable(f"{e}; transactions are open there: {others}") from e


async def _said(connection: Connection, name: str, kind: type[S]) -> S | None:
    text = await connection.fetchval(SQL["kept"], name)
    return msgspec.json.decode(text, type=kind) if text else None


async def _keep(connection: Connection, name: str, value: Going | Came) -> None:
    await connection.execute(SQL["keep"], name, _json(value).decode())


async def _close(connection: Connection, table: str, message: str) -> None:
    if not await connection.fetchval(SQL["closed"], table):
        await connection.execute(SQL["make_refusal"])
        await connection.execute(str(await connection.fetchval(SQL["close"], table, message)))


async def _remove(connection: Connection, ids: Sequence[int]) -> None:
    said = await connection.execute(SQL["remove"], list(ids))
    await connection.execute(SQL["undefer"], list(ids))
    await connection.execute(SQL["book"], "recorded", -int(said.rpartition(" ")[2]))


async def _keep_no_more(connection: Connection, ids: Sequence[int]) -> None:
    await connection.execute(SQL["keep_no_more"], list(ids))


def _columns(rows: Sequence[Listed]) -> list[list[int] | list[str]]:
    """What both tables have of an event, as the statements take it."""
    return [
        [r.id for r in rows], [r.event_type for r in rows], [r.mail_class for r in rows], [r.recorded for r in rows],
        [r.valued for r in rows], [r.body for r in rows], [r.extra for r in rows],
    ]  # fmt: skip
