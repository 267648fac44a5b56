"""A SQLite queue as one end of a move (mailvane.queue.moving). The caller holds its `queue.lock`."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import TypeVar

import apsw
import msgspec
from msgspec import structs

from mailvane.errors import QueueUnavailable
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Books, Listed
from mailvane.queue.history import history_of, listed, storable
from mailvane.queue.migrate import migrate
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
from mailvane.queue.reading import books_of
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.sqlite_errors import DiskFull, refuse_emptied
from mailvane.queue.statements import statements
from mailvane.queue.studio import rows_in_sqlite, states_in, switch_in_sqlite

T = TypeVar("T", bound=msgspec.Struct)

_SQL = {**statements("sqlite.sql"), **statements("sqlite_moving.sql")}
_json = msgspec.json.encode


class SQLiteEnd:
    """See Source and Target. `shown` is how people name it. Raises QueueUnavailable."""

    def __init__(self, path: str, ballast: str) -> None:
        self.shown = f"sqlite:{path}"
        self._ballast = Ballast(ballast)
        refuse_emptied(path, self._ballast.is_there())
        migrate(path)
        self._writer = SQLiteWriter(path)
        self._writer.refuse_damaged()

    async def going(self) -> Going | None:
        return self._said(MOVED_TO, Going)

    async def came(self) -> Came | None:
        return self._said(MOVED_FROM, Came)

    def _said(self, name: str, kind: type[T]) -> T | None:
        text = self._writer.kept(name)
        return msgspec.json.decode(text, type=kind) if text else None

    async def close_for(self, going: Going) -> None:
        message = "'" + moved_message(self.shown, going).replace("'", "''") + "'"
        async with self._transaction() as db:
            db.execute(_SQL["keep"], (MOVED_TO, _json(going).decode()))
            db.execute(_SQL["close"].format(message=message))

    async def estate(self) -> Estate:
        async with self._transaction() as db:
            kept = {str(name): str(value) for name, value in db.execute(_SQL["all_kept"])}
            ((delivered,),) = db.execute(_SQL["count_kept"])
            studio = states_in(rows_in_sqlite(db))
            return Estate(_last_id(db), _books(db), kept, int(str(delivered)), studio)

    async def hand_over(self, take: Take) -> int:
        return await self._hand_over("lowest", take, _remove)

    async def hand_over_delivered(self, take: Take) -> int:
        return await self._hand_over("lowest_delivered", take, _keep_no_more)

    async def _hand_over(
        self, lowest: str, take: Take, remove: Callable[[apsw.Connection, Sequence[int]], None]
    ) -> int:
        with self._making_room():
            async with self._transaction() as db:
                rows = _lowest(db, lowest)
                if rows:
                    await take(rows)
                    remove(db, [row.id for row in rows])
        return len(rows)

    async def unused(self) -> bool:
        async with self._transaction() as db:
            return _unused(db)

    async def begin(self, came: Came, estate: Estate) -> None:
        books = estate.books
        gone = books.delivered + books.dropped + books.deleted
        async with self._transaction() as db:
            if not _unused(db):
                raise QueueUnavailable(f"{self.shown} has held events")
            for name, value in goes_along(estate.kept).items():
                db.execute(_SQL["keep"], (name, value))
            if estate.studio:
                switch_in_sqlite(db, estate.studio)
            db.execute(_SQL["forget_last_id"])
            db.execute(_SQL["set_last_id"], (estate.last_id,))
            for name in ("delivered", "dropped", "deleted", "replayed"):
                db.execute(_SQL["set_book"], (getattr(books, name), name))
            # Each id counts as recorded: what of them does not wait, and is not gone, was or will be added apart.
            db.execute(_SQL["set_book"], (gone - estate.last_id, "recorded_beside"))
            db.execute(_SQL["keep"], (MOVED_FROM, _json(came).decode()))

    async def take(self, rows: Sequence[Listed]) -> None:
        came = await self.came()
        assert came is not None
        left = left_to_take(rows, came.upto)
        if not left:
            return
        async with self._adding(structs.replace(came, upto=left[-1].id)) as db:
            db.executemany(
                _SQL["add"],
                [(r.id, r.event_type, r.mail_class, r.recorded, r.valued, r.body, r.extra) for r in left],
            )
            db.executemany(
                _SQL["add_deferred"],
                [
                    (r.id, r.attempts, r.due, r.first_failed, r.last_failed, storable(r.error), history_of(r))
                    for r in left
                    if r.attempts
                ],
            )
            db.execute(_SQL["add_to_book"], (len(left), "recorded_beside"))

    async def take_delivered(self, rows: Sequence[Listed]) -> None:
        came = await self.came()
        assert came is not None
        left = left_to_take(rows, came.delivered)
        if not left:
            return
        async with self._adding(structs.replace(came, delivered=left[-1].id)) as db:
            db.executemany(
                _SQL["add_delivered"],
                [
                    (
                        *(r.id, r.event_type, r.mail_class, r.recorded, r.valued, r.body, r.extra, r.delivered),
                        *(r.attempts, r.first_failed, r.last_failed, storable(r.error), history_of(r)),
                    )
                    for r in left
                ],
            )

    @contextlib.asynccontextmanager
    async def _adding(self, came: Came) -> AsyncGenerator[apsw.Connection, None]:
        """A transaction that brings the target so far."""
        if not self._ballast.make():
            raise DiskFull(f"no room on the disk for {self.shown}: make room")
        async with self._transaction() as db:
            yield db
            db.execute(_SQL["keep"], (MOVED_FROM, _json(came).decode()))

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[apsw.Connection, None]:
        """Its slow ends beside the event loop: a server at the other end has to hear from us meanwhile."""
        transaction = self._writer.transaction()
        db = await asyncio.to_thread(transaction.__enter__)
        try:
            yield db
        except BaseException:
            transaction.__exit__(*sys.exc_info())
            raise
        await asyncio.to_thread(transaction.__exit__, None, None, None)

    @contextlib.contextmanager
    def _making_room(self) -> Generator[None, None, None]:
        """On a full disk removing needs the ballast's room."""
        try:
            yield
        except DiskFull as e:
            if self._ballast.free():
                raise QueueUnavailable(f"{e} (there is a little room now: try again)") from e
            raise

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close)


def _last_id(db: apsw.Connection) -> int:
    return int(str(db.execute(_SQL["last_id"]).fetchall()[0][0]))


def _books(db: apsw.Connection) -> Books:
    return books_of({str(name): int(str(n)) for name, n in db.execute(_SQL["books"])})


def _unused(db: apsw.Connection) -> bool:
    return not _last_id(db) and not _books(db).recorded


def _lowest(db: apsw.Connection, statement: str) -> list[Listed]:
    rows: list[Listed] = []
    size = 0
    with contextlib.closing(db.cursor()) as cursor:
        for row in cursor.execute(_SQL[statement], (PAGE,)):
            rows.append(listed(row))
            size += len(rows[-1].body) + len(rows[-1].extra)
            if size >= PAGE_BYTES:
                break
    return rows


def _remove(db: apsw.Connection, ids: Sequence[int]) -> None:
    text = _json(list(ids)).decode()
    db.execute(_SQL["remove_ids"], (text,))
    db.execute(_SQL["undefer_ids"], (text,))
    db.execute(_SQL["add_to_book"], (-len(ids), "recorded_beside"))


def _keep_no_more(db: apsw.Connection, ids: Sequence[int]) -> None:
    db.execute(_SQL["keep_no_more"], (_json(list(ids)).decode(),))
