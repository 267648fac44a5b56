"""Reading a SQLite queue: needs no lock. Every method is one short read; no transaction stays open afterwards."""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, starmap
from typing import TypeVar

import apsw
import msgspec

from mailvane.errors import QueueUnavailable
from mailvane.queue.contract import Books, DuePlace, Filter, Listed, Place, Row
from mailvane.queue.history import listed
from mailvane.queue.migrate import refuse_newer, schema_version
from mailvane.queue.sqlite_errors import WHAT_TO_DO
from mailvane.queue.statements import statements
from mailvane.queue.studio import rows_in_sqlite

READ_BYTES = 4 * 1024 * 1024
"""Bytes of bodies after which a read brings nothing more, looked at every `READ_ROWS`."""
READ_ROWS = 8
SCAN_SECONDS = 0.002

T = TypeVar("T")

_SQL = statements("sqlite.sql")
_json = msgspec.json.encode


class SQLiteReader:
    """A reading connection. Not safe for threads."""

    def __init__(self, path: str) -> None:
        with _told(path):
            self.path = path
            self._db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            self._db.set_busy_timeout(30_000)
            refuse_newer(self._db, path)
            self._db.pragma("query_only", True)
            self._db.pragma("cache_size", -8_000)
            self._db.pragma("wal_autocheckpoint", 0)
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # who only reads leaves the log to who writes

    def read(self, after: int, limit: int) -> list[Row]:
        rows: list[Row] = []
        size = 0
        with _told(self.path), contextlib.closing(self._db.cursor()) as cursor:
            found = starmap(Row, cursor.execute(_SQL["read"], (after, limit)))  # the schema says what the columns are
            while size <= READ_BYTES and (some := list(islice(found, READ_ROWS))):
                size += sum([len(row.body) for row in some])
                rows += some
        return rows

    def scan(self, after: int, limit: int) -> list[Place]:
        """At most `limit` places, and no longer than two milliseconds, so that nothing else waits for it."""
        places: list[Place] = []
        end = time.monotonic() + SCAN_SECONDS
        with _told(self.path), contextlib.closing(self._db.cursor()) as cursor:
            for found in cursor.execute(_SQL["scan"], (after, limit)):
                places.append(Place(*found))  # type: ignore[arg-type]
                if not len(places) % 64 and time.monotonic() > end:
                    break
        return places

    def fetch(self, ids: Sequence[int]) -> list[Row]:
        with _told(self.path):
            found = self._db.execute(_SQL["fetch"], (_json(list(ids)).decode(),)).fetchall()
        return [Row(*row) for row in found]  # type: ignore[arg-type]

    def still_there(self, ids: Sequence[int]) -> set[int]:
        with _told(self.path):
            return {int(str(i)) for (i,) in self._db.execute(_SQL["still_there"], (_json(list(ids)).decode(),))}

    def due(self, after: tuple[int, int], now: int, limit: int) -> list[DuePlace]:
        with _told(self.path):
            found = self._db.execute(_SQL["due"], (*after, now, limit)).fetchall()
        return [DuePlace(*row) for row in found]  # type: ignore[arg-type]

    def next_due(self) -> int | None:
        return self._number("next_due")

    def census(self) -> list[tuple[str, str, int]]:
        """How many deferred events there are, by type and mail class."""
        with _told(self.path):
            found = self._db.execute(_SQL["census"]).fetchall()
        return [(str(t), str(c), int(str(n))) for t, c, n in found]

    def deferred(self) -> int:
        return self._number("deferred_in_all") or 0

    def last_id(self) -> int:
        return self._number("last_id") or 0

    def oldest(self) -> int | None:
        return self._number("oldest")

    def books(self) -> Books:
        with _told(self.path):
            n = {str(name): int(str(value)) for name, value in self._db.execute(_SQL["books"])}
        return books_of(n)

    @property
    def made(self) -> bool:
        """Whether its tables are there."""
        with _told(self.path):
            return schema_version(self._db) > 0

    def kept(self, name: str) -> str | None:
        with _told(self.path):
            row = self._db.execute(_SQL["kept"], (name,)).fetchone()
        return None if row is None else str(row[0])

    def studio_rows(self) -> str:
        """The rows of Studio's switches as JSON: see mailvane.queue.studio; "" where the table is not made yet."""
        with _told(self.path):
            return rows_in_sqlite(self._db) if schema_version(self._db) >= 4 else ""

    def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        history = "coalesce(d.history, '[]')" if self._knows_attempts() else "'[]'"
        return self._listed(_SQL["select"], _where(which), after, limit, history)

    def matching_ids(self, which: Filter, after: int, limit: int) -> list[int]:
        return self._ids(_SQL["matching_ids"], _where(which), after, limit)

    def count(self, which: Filter) -> int:
        return self._count(_SQL["count"], _where(which))

    def select_delivered(self, which: Filter, after: int, limit: int) -> list[Listed]:
        """See Queue.select_delivered."""
        if not self._knows_attempts():
            return []
        return self._listed(_SQL["select_delivered"], _where(which, delivered=True), after, limit)

    def delivered_ids(self, which: Filter, after: int, limit: int) -> list[int]:
        """As `matching_ids`, of delivered events that are kept."""
        if not self._knows_attempts():
            return []
        return self._ids(_SQL["delivered_ids"], _where(which, delivered=True), after, limit)

    def count_delivered(self, which: Filter) -> int:
        """See Queue.count_delivered."""
        return self._count(_SQL["count_delivered"], _where(which, delivered=True)) if self._knows_attempts() else 0

    def _knows_attempts(self) -> bool:
        """Whether the schema has attempts and delivered events; an older one is brought up by who writes next."""
        with _told(self.path):
            return schema_version(self._db) >= 3

    def _listed(self, sql: str, where: "_Where", after: int, limit: int, history: str = "") -> list[Listed]:
        values = {**where.values, "after": after, "limit": limit}
        with _told(self.path):
            found = self._db.execute(sql.format(conditions=where.conditions, history=history), values).fetchall()
        return [listed(row) for row in found]

    def _ids(self, sql: str, where: "_Where", after: int, limit: int) -> list[int]:
        values = {**where.values, "after": after, "limit": limit}
        with _told(self.path):
            return [int(str(i)) for (i,) in self._db.execute(sql.format(conditions=where.conditions), values)]

    def _count(self, sql: str, where: "_Where") -> int:
        with _told(self.path):
            row = self._db.execute(sql.format(conditions=where.conditions), where.values).fetchone()
        return int(str(row[0])) if row else 0

    def close(self) -> None:
        self._db.close()

    def _number(self, name: str) -> int | None:
        with _told(self.path):
            row = self._db.execute(_SQL[name]).fetchone()
        return None if row is None or row[0] is None else int(str(row[0]))


def books_of(n: Mapping[str, int]) -> Books:
    """The books of their rows; an older schema has no replays."""
    return Books(n["recorded"], n["delivered"], n["dropped"], n["deleted"], n.get("replayed", 0))


def kept_value(path: str, name: str) -> str | None:
    """A value that a queue keeps; None also if the queue is not there yet, or is being made at this moment."""
    return _read(path, lambda reader: reader.kept(name))


def studio_rows_in(path: str) -> str:
    """As SQLiteReader.studio_rows; "" also if the queue is not there yet."""
    return _read(path, SQLiteReader.studio_rows) or ""


def _read(path: str, read: Callable[[SQLiteReader], T]) -> T | None:
    try:
        if not os.path.getsize(path):
            return None
    except FileNotFoundError:
        return None
    except OSError as e:
        raise QueueUnavailable(f"{path} cannot be read: {e.strerror}") from e
    reader = SQLiteReader(path)
    try:
        return read(reader) if reader.made else None
    finally:
        reader.close()


_MEMBER = "json_extract('{' || q.body || '}', '$.%s')"


@dataclass(frozen=True)
class _Where:
    """Conditions with values to be bound; what a person typed is never part of a statement."""

    conditions: str
    values: dict[str, str | int]


def _where(which: Filter, delivered: bool = False) -> _Where:
    """A filter, over the queue, or over delivered events that are kept."""
    conditions, values = ["1"], dict[str, str | int]()

    def add(condition: str, name: str, value: str | int) -> None:
        conditions.append(condition)
        values[name] = value

    if which.ids:
        add("q.id IN (SELECT value FROM json_each(:ids))", "ids", _json(which.ids).decode())
    if which.event_types:
        add("q.event_type IN (SELECT value FROM json_each(:types))", "types", _json(which.event_types).decode())
    if which.email:
        pattern = which.email.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
        add(f"{_MEMBER % 'email'} LIKE :email ESCAPE '\\'", "email", pattern)
    if which.listid:
        add(f"{_MEMBER % 'listid'} = :listid", "listid", which.listid.lower())
    if which.since is not None:
        add(f"{_MEMBER % 'event_time'} >= :since", "since", which.since)
    if which.until is not None:
        add(f"{_MEMBER % 'event_time'} < :until", "until", which.until)
    if delivered:
        if which.deferred is not None:
            conditions.append("0")
        if which.delivered_since is not None:
            add("q.delivered >= :dsince * 1000", "dsince", which.delivered_since)
        if which.delivered_until is not None:
            add("q.delivered < :duntil * 1000", "duntil", which.delivered_until)
    elif which.delivered_since is not None or which.delivered_until is not None:
        conditions.append("0")
    elif which.deferred is not None:
        conditions.append(f"d.id IS {'NOT NULL' if which.deferred else 'NULL'}")
    return _Where(" AND ".join(conditions), values)


@contextlib.contextmanager
def _told(path: str) -> Generator[None, None, None]:
    try:
        yield
    except apsw.Error as e:
        raise QueueUnavailable(f"{path} cannot be read: {_why(e, path)}") from e


def _why(error: apsw.Error, path: str) -> str:
    """Readers, too, write the log's index beside the database."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return f"{error}; {WHAT_TO_DO}"
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
        return "there is no room on the disk for the index of its log"
    folder = os.path.dirname(path) or "."
    if isinstance(error, apsw.CantOpenError) and os.path.exists(path) and not os.access(folder, os.W_OK):
        return f"{folder} is read-only, or not ours to write"
    return str(error)
