"""What `mailvane doctor` looks at in the queue: its owner, its file, its books, its log."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Protocol

import apsw

from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings
from mailvane.errors import QueueUnavailable
from mailvane.operations.findings import Finding, note, ok, wrong
from mailvane.queue.contract import Books, Filter, Listed
from mailvane.queue.migrate import newest, refuse_newer, schema_version
from mailvane.queue.ownership import Lock, describe
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.remote import NobodyThere, OwnerClient
from mailvane.queue.sqlite_errors import refuse_emptied
from mailvane.queue.statements import statements

BIG_LOG = 64 * 1024 * 1024
ANSWERS_WITHIN = 10.0

_SQL = statements("sqlite.sql")


def owner(settings: Settings) -> Iterator[Finding]:
    """Who has the queue, and whether it answers."""
    places = places_of(settings)
    holder = describe(Lock(places.lock, "").holder())
    taken = _taken(places.lock)
    client = OwnerClient(places.socket, timeout=ANSWERS_WITHIN)
    try:
        client.request("GET", "/healthz")
    except NobodyThere:
        if taken:
            found = f"the queue belongs to {holder}, which has no socket"
            yield note("owner", found, "a command of a moment; if it stays so, end that process")
        else:
            yield note("owner", "no process has the queue: nothing is delivered", "mailvane run")
        return
    except QueueUnavailable as error:
        yield wrong("owner", f"{holder} does not answer: {error}", "look at its log; end it, and start it again")
        return
    finally:
        client.close()
    yield from readiness(OwnerClient(places.socket, timeout=ANSWERS_WITHIN), f"the queue belongs to {holder}, which")


def readiness(client: OwnerClient, who: str) -> Iterator[Finding]:
    """Whether a process takes events."""
    try:
        client.request("GET", "/readyz")
        yield ok("owner", f"{who} answers and takes events")
    except QueueUnavailable as error:
        yield wrong("owner", f"{who} takes no events: {error}", "see what it says")
    finally:
        client.close()


def _taken(path: str) -> bool:
    """Whether somebody holds the lock; asked with a shared lock for a moment, and without making the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _exists(path: str) -> bool:
    """Whether the queue's tables are there."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return False
    try:
        with closing(SQLiteReader(path)) as reader:
            return reader.made
    except QueueUnavailable:
        return True  # `integrity` tells what is the matter


def integrity(settings: Settings) -> Iterator[Finding]:
    """The file is sound, and the books balance with what is in it."""
    path = places_of(settings).database
    refuse_emptied(path, os.path.exists(places_of(settings).ballast))
    if not _exists(path):
        yield ok("queue", f"{path} is not there yet; it is made with the first event")
        return
    with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)) as db:
        db.set_busy_timeout(5_000)
        db.pragma("query_only", True)
        refuse_newer(db, path)
        if (version := schema_version(db)) < newest():
            yield note("queue", f"schema {version} of {newest()}", "it is brought up when mailvane runs next")
            return
        try:
            faults = [str(row[0]) for row in db.execute("PRAGMA quick_check(20)")]
        except apsw.Error as error:
            faults = [str(error)]
        if faults != ["ok"]:
            advice = (
                "stop mailvane, leave queue.db and queue.db-wal as they are: mailvane queue salvage copies what it can"
            )
            yield wrong("queue", f"{path} is damaged: {'; '.join(faults)[:500]}", advice)
            return
        mode = str(db.pragma("journal_mode"))
        books, rows = _books_and_rows(db)
    if mode != "wal":
        yield wrong(
            "queue", f"its journal mode is {mode}", "somebody changed it; start mailvane run, which sets wal again"
        )
    yield ok("queue", f"{path} is sound, schema {version}, {os.path.getsize(path) / 1024**2:,.0f} MiB")
    told = (
        f"{books.recorded:,} recorded = {books.delivered:,} delivered + {books.dropped:,} dropped"
        f" + {books.deleted:,} deleted + {books.waiting:,} waiting"
    )
    if rows == books.waiting:
        yield ok("books", told)
    else:
        advice = "rows were removed past `events` (DELETE FROM queue?); delete from events, or by mailvane events drop"
        yield wrong("books", f"{told}, but {rows:,} rows are there", advice)


def _books_and_rows(db: apsw.Connection) -> tuple[Books, int]:
    """What the books say and how many rows there are, both at one moment."""
    db.execute("BEGIN")
    n = {str(name): int(str(value)) for name, value in db.execute(_SQL["books"])}
    rows = db.execute(_SQL["count"].format(conditions="1")).fetchall()
    db.execute("COMMIT")
    return Books(n["recorded"], n["delivered"], n["dropped"], n["deleted"]), int(str(rows[0][0]))


def write_ahead_log(settings: Settings) -> Iterator[Finding]:
    """A log that grows has a reader that does not end."""
    path = places_of(settings).database
    size = os.path.getsize(path + "-wal") if os.path.exists(path + "-wal") else 0
    if size > BIG_LOG:
        found = f"{path}-wal has {size / 1024**2:,.0f} MiB: somebody keeps a transaction open: {_readers(path)}"
        yield wrong("log of the queue", found, "end that transaction (a shell with BEGIN, a backup that hangs)")
    else:
        yield ok("log of the queue", f"{size / 1024**2:,.1f} MiB")


_READ_MARKS = range(123, 128)
"""Bytes of the -shm file that a read transaction has a lock on (SQLite's WAL-index format)."""


def _readers(path: str) -> str:
    """The processes in the middle of reading, in words (Linux)."""
    try:
        inode = os.stat(path + "-shm").st_ino
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file if "->" not in line]  # not those that wait
    except OSError:
        return "a process that cannot be named"
    # 1: POSIX  ADVISORY  READ 4711 fe:00:131 124 124
    pids = {
        int(words[4])
        for words in lines
        if words[1] == "POSIX" and words[5].rpartition(":")[2] == str(inode) and int(words[6]) in _READ_MARKS
    }
    return ", ".join(f"process {pid} ({_name(pid)})" for pid in sorted(pids)) or "a process that has just ended"


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "gone by now"


def retries(settings: Settings) -> Iterator[Finding]:
    """What failed and waits for another try, and why."""
    path = places_of(settings).database
    if not _exists(path):
        return
    with closing(SQLiteReader(path)) as reader:
        yield from retries_in(reader)


class Queued(Protocol):
    """What is read of either queue."""

    def deferred(self) -> int: ...

    def last_id(self) -> int: ...

    def select(self, which: Filter, after: int, limit: int, /) -> list[Listed]: ...


def retries_in(reader: Queued) -> Iterator[Finding]:
    """As `retries`."""
    waiting = reader.deferred()
    rows = reader.select(Filter(deferred=True), 0, 1)
    if not waiting or not rows:
        yield ok("retries", "no event waits for another try")
        return
    row = rows[0]
    advice = "look at the endpoint; mailvane events status, and events retry --all when it is back"
    found = f"{waiting:,} events wait for another try; of event {row.id} ({row.attempts} attempts): {row.error}"
    yield note("retries", found, advice)


def clock(settings: Settings) -> Iterator[Finding]:
    """A wall clock that went back puts wrong times on events."""
    path = places_of(settings).database
    if _exists(path):
        with closing(SQLiteReader(path)) as reader:
            yield from clock_by(reader)
    else:
        yield from clock_by(None)


def clock_by(reader: Queued | None) -> Iterator[Finding]:
    """As `clock`, by a queue if there is one."""
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if now < 1_700_000_000:
        yield wrong("clock", f"it says {told}", "set it (timedatectl set-ntp true): events carry its time")
        return
    if reader is not None:
        last = reader.select(Filter(), max(0, reader.last_id() - 1), 1)
        if last and last[0].recorded > (now + 60) * 1000:
            ahead = last[0].recorded / 1000 - now
            yield wrong(
                "clock", f"it says {told}; the last event was recorded {ahead:,.0f} s after that", "set the clock"
            )
            return
    yield ok("clock", f"it says {told}")
