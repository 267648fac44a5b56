"""Writing a SQLite queue: one connection, one transaction a group, on disk when it returns.

Write-ahead log with `synchronous = FULL`: a COMMIT returns after the log was synced. Checkpoints are made here and not
by SQLite itself, which would keep it from us when the sync of the database file fails. A sync that failed is never
tried again (the kernel may have thrown the pages away): the connection is *broken* and the process must end.
"""

import contextlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from itertools import islice

import apsw
import msgspec

from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.contract import Settled, Settlement
from mailvane.queue.migrate import refuse_newer
from mailvane.queue.moving import MOVED_TO, refuse_moved
from mailvane.queue.sqlite_errors import BUSY_MS, WHAT_TO_DO, Broken, DiskFull, sync, told
from mailvane.queue.sqlite_settling import settle
from mailvane.queue.statements import statements
from mailvane.queue.studio import switch_in_sqlite
from mailvane.queue.writer import Answer, Group

SAFE_SQLITE = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""First versions without the WAL-reset bug: of the newest line, and of two older ones."""
PAGE = 4_096
LOOKED_THROUGH = 32 * 1024 * 1024
"""Bytes up to which a file is looked through before it is delivered from: a tenth of a second."""
CHECKPOINT_PAGES = 4_000
PAGES_KEPT = 8_192
"""Pages of the file that may be unused (32 MiB), beside half as many as are used: with the log it then has no more than
twice what is in it and 64 MiB."""
GIVEN_AT_ONCE = 16
"""Pages that are given back before the clock is looked at."""
TOKEN_LIFE_MS = 120_000
FORGET_LIMIT = 2_000
"""Kept events that are forgotten in one transaction: recording waits for it."""

_SQL = statements("sqlite.sql")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
_NO_ROW = (None,) * 6
_FAR = 2**62
"""A time after all others."""
_json = msgspec.json.encode


def refuse_unsafe_sqlite(version: str) -> None:
    """Raises QueueUnavailable for a SQLite that could corrupt a database two connections write at once."""
    v = tuple(int(p) for p in version.split(".")[:3])
    if v >= SAFE_SQLITE[0] or any(v[:2] == safe[:2] and v >= safe for safe in SAFE_SQLITE[1:]):
        return
    raise QueueUnavailable(
        f"SQLite {version} has a bug that can corrupt the queue (the WAL-reset bug): install apsw 3.51.3 or newer"
    )


class SQLiteWriter:
    """The writing connection. Not safe for threads: it belongs to whoever holds `queue.lock`."""

    def __init__(self, path: str) -> None:
        refuse_unsafe_sqlite(apsw.sqlite_lib_version())
        self.path = path
        self.broken = ""
        self._wal_pages = 0
        self._folder_synced = False
        """The log's own entry in its folder: SQLite does not tell when syncing it fails."""
        with self._told():
            self._db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            self._db.set_busy_timeout(BUSY_MS)
            refuse_newer(self._db, path)
            self._db.pragma("journal_mode", "wal")
            self._db.pragma("synchronous", 2)
            self._db.pragma("wal_autocheckpoint", 0)
            self._db.pragma("journal_size_limit", 64 * 1024 * 1024)
            self._db.pragma("cache_size", -8_000)
            self._db.set_wal_hook(self._after_commit)
        there = os.stat(path)
        self._file = (there.st_dev, there.st_ino)

    @property
    def log_size(self) -> int:
        """Bytes that the log has, of what was not moved into the database yet."""
        return self._wal_pages * PAGE

    def is_current(self) -> bool:
        """Whether the file at the path is still the one that is open: not moved away, nor made anew.

        Raises QueueTooNew if a newer mailvane has changed its schema since.
        """
        if self.broken:
            return True  # and stays so: nothing more is written by this process
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        if (there.st_dev, there.st_ino) != self._file:
            return False
        with self._told():
            refuse_newer(self._db, self.path)
        return True

    def refuse_damaged(self) -> None:
        """Raises Broken if the file is damaged, as far as a moment can tell: a large one is not looked through."""
        with self._told():
            if os.path.getsize(self.path) > LOOKED_THROUGH:
                return
            found = [str(row[0]) for row in self._db.execute("PRAGMA quick_check(3)")]
            if found != ["ok"]:
                raise Broken(f"{self.path} is damaged ({'; '.join(found)[:300]}): {WHAT_TO_DO}")

    def append(self, groups: Sequence[Group]) -> list[Answer]:
        """Adds groups of events, each with its token ("" for none), in one transaction; answers with their ids.

        The ids of a group are contiguous: nobody else writes meanwhile. A token that came with another number of
        events before is refused, and nothing of that group added.
        """
        now = int(time.time() * 1000)
        if not any(token for _, token in groups):
            fresh = [e for events, _ in groups for e in events]
            ids = iter(self._add(fresh, now))
            return [list(islice(ids, len(events))) for events, _ in groups]
        known: dict[str, tuple[int, int]] = {}
        fresh = list[StoredForm]()
        places: list[int] = []
        with self._transaction() as db:
            for events, token in groups:
                places.append(len(fresh))
                if token and (found := db.execute(_SQL["token_is_in"], (token,)).fetchone()):
                    known[token] = (int(str(found[0])), int(str(found[1])))
                elif token not in known:  # else asked again before the first time was through: both in this commit
                    if token:
                        known[token] = (-len(fresh), len(events))
                    fresh += events
            first = self._insert(db, fresh, now)[0] if fresh else 0
            for token, (at, n) in known.items():
                if at <= 0:
                    known[token] = (first - at, n)
                    db.execute(_SQL["remember_token"], (token, now, first - at, n))
        return [
            _ids(*known.get(token, (first + place, len(events))), len(events))
            for place, (events, token) in zip(places, groups, strict=True)
        ]

    def _add(self, events: Sequence[StoredForm], now: int) -> Sequence[int]:
        """Adds events and answers with their ids."""
        if len(events) > _SIZES[-1]:
            with self._transaction() as db:
                return self._insert(db, events, now)
        with self._told():
            # One statement, which is a transaction by itself: each further one would give Python's lock away, and
            # beside a busy event loop get it back late.
            ids = self._insert(self._db, events, now)
            self._sync_folder()
        self._checkpoint_if_long()
        return ids

    def _insert(self, db: apsw.Connection, events: Sequence[StoredForm], now: int) -> Sequence[int]:
        for at in range(0, len(events), _SIZES[-1]):
            part = events[at : at + _SIZES[-1]]
            values: list[str | int | None] = []
            for e in part:
                values += (e.event_type, e.mail_class, now, e.valued, e.body, e.extra)
            size = next(n for n in _SIZES if n >= len(part))
            values += _NO_ROW * (size - len(part))
            db.execute(_insert(size), values)
        last = db.last_insert_rowid()
        return range(last - len(events) + 1, last + 1)

    def transaction(self) -> contextlib.AbstractContextManager[apsw.Connection]:
        """For what is done to a queue once in a while: on disk when it ends, nothing of it done if it raises."""
        return self._transaction()

    def settle(self, what: Settlement, term: int, keep: bool = False) -> Settled:
        """As OwnedQueue.settle, for at most SETTLE_LIMIT ids of each sort, KEEPING_LIMIT with `keep`."""
        with self._transaction() as db:
            if (in_force := self._kept(db, "term")) != str(term):
                raise OwnershipLost(f"the queue has an owner of term {in_force}; this process had term {term}")
            return settle(db, what, int(time.time() * 1000), keep)

    def delete(self, ids: Sequence[int]) -> int:
        """Deletes as a person would through `events`; returns how many were there."""
        with self._transaction() as db:
            before = self._book(db, "deleted")
            db.execute(_SQL["delete_by_hand"], (_json(list(ids)).decode(),))
            return self._book(db, "deleted") - before

    def replay(self, ids: Sequence[int]) -> list[int]:
        """See OwnedQueue.replay."""
        with self._transaction() as db:
            back = sorted(int(str(i)) for (i,) in db.execute(_SQL["replay"], (_json(list(ids)).decode(),)))
            if back:
                text = _json(back).decode()
                db.execute(_SQL["keep_no_more"], (text,))
                db.execute(_SQL["undefer_ids"], (text,))
                for book in ("recorded_beside", "replayed"):
                    db.execute(_SQL["add_to_book"], (len(back), book))
        return back

    def make_due(self, ids: Sequence[int] | None, now: int) -> int:
        """Deferred events due at once: these, or all of them."""
        with self._transaction() as db:
            if ids is None:
                db.execute(_SQL["make_all_due"], (now,))
            else:
                db.execute(_SQL["make_due"], (now, _json(list(ids)).decode(), now))
            return db.changes()

    def pull_back(self, now: int, latest: int, instead: int) -> int:
        """See OwnedQueue.pull_back."""
        with self._transaction() as db:
            db.execute(_SQL["pull_back"], (now, latest, instead))
            return db.changes()

    def keep(self, name: str, value: str) -> None:
        with self._transaction() as db:
            db.execute(_SQL["keep"], (name, value))

    def switch_studio(self, states: Mapping[str, bool]) -> None:
        """See Queue.switch_studio."""
        with self._transaction() as db:
            switch_in_sqlite(db, states)

    def take_term(self) -> int:
        """A term above every earlier one. Raises QueueUnavailable for a queue that was moved away."""
        with self._transaction() as db:
            refuse_moved(self._kept(db, MOVED_TO), self.path)
            term = int(self._kept(db, "term") or "0") + 1
            db.execute(_SQL["keep"], ("term", str(term)))
        return term

    def kept(self, name: str) -> str | None:
        with self._told():
            return self._kept(self._db, name)

    def forget_delivered(self, kept: int) -> bool:
        """Forgets some of the events delivered longer than so many milliseconds ago (0: of all); whether these were
        the last."""
        # With nothing to be kept the clock, which may have been set back, has no say.
        before = int(time.time() * 1000) - kept if kept else _FAR
        with self._transaction() as db:
            db.execute(_SQL["forget_delivered"], (before, FORGET_LIMIT))
            return db.changes() < FORGET_LIMIT

    def prune(self) -> None:
        """Forgets failures of events that are gone, and old tokens."""
        with self._transaction() as db:
            db.execute(_SQL["prune_deferred"])
            db.execute(_SQL["forget_tokens"], (int(time.time() * 1000) - TOKEN_LIFE_MS,))

    def unused(self) -> int:
        """Pages that the file has beyond what it may keep for the events that come next."""
        with self._told():
            free = int(self._db.pragma("freelist_count"))
            used = int(self._db.pragma("page_count")) - free
        return free - PAGES_KEPT - used // 2

    def give_back(self, pages: int, seconds: float) -> None:
        """Makes the file shorter by up to so many pages, in one transaction, and stops after so many seconds."""
        end = time.monotonic() + seconds
        with self._transaction() as db, contextlib.closing(db.cursor()) as cursor:
            for given, _ in enumerate(cursor.execute(f"PRAGMA incremental_vacuum({pages})"), 1):
                if not given % GIVEN_AT_ONCE and time.monotonic() >= end:
                    break

    def checkpoint(self, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> None:
        """Moves the log into the database file. Raises Broken if that could not be synced."""
        with self._told():
            with contextlib.suppress(apsw.BusyError):  # a reader or a person's shell stands in the way: later
                self._db.wal_checkpoint(mode=mode)
            self._wal_pages = 0

    def close(self) -> None:
        if self.broken:  # closing must not try again what failed: the log stays for the next process
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._db.close()

    def _after_commit(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    @staticmethod
    def _kept(db: apsw.Connection, name: str) -> str | None:
        row = db.execute(_SQL["kept"], (name,)).fetchone()
        return None if row is None else str(row[0])

    @staticmethod
    def _book(db: apsw.Connection, name: str) -> int:
        return next(int(str(n)) for book, n in db.execute(_SQL["books"]) if book == name)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[apsw.Connection, None, None]:
        with self._told():
            self._db.execute(_SQL["begin"])
            try:
                yield self._db
                self._db.execute("COMMIT")
                self._sync_folder()
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        self._checkpoint_if_long()

    def _sync_folder(self) -> None:
        if not self._folder_synced:
            sync(os.path.dirname(self.path) or ".")
            self._folder_synced = True

    def _checkpoint_if_long(self) -> None:
        if self._wal_pages >= CHECKPOINT_PAGES:
            with contextlib.suppress(DiskFull):  # what was committed is in the log, and stays there until there is room
                self.checkpoint()

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        """As `told`; once a sync has failed, nothing is tried again."""
        if self.broken:
            raise Broken(self.broken)
        try:
            with told(self.path):
                yield
        except Broken as e:
            self.broken = str(e)
            raise


@cache
def _insert(size: int) -> str:
    """The statement that adds up to so many rows: one statement for each size would be prepared anew each time."""
    rows = ",".join(["(?,?,?,?,?,?)"] * size)
    return (
        "INSERT INTO queue (event_type, mail_class, recorded, valued, body, extra) "
        f"SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL"
    )


def _ids(first: int, n: int, asked: int) -> Answer:
    if n != asked:
        return QueueUnavailable(f"this token came with {n} events before, now with {asked}: nothing was recorded")
    return list(range(first, first + n))
