"""Copies what can be read of a damaged SQLite queue into a new one. The old files stay as they are.

Every page is read for itself (`sqlite_pages`), the log too, also behind damage (`sqlite_log`). A row that was delivered
may come back where it is not known any more that it was; it has the same id, so receivers can tell. What else a queue
has (failed attempts, delivered events that are kept, the books) is copied as far as SQLite reads it.
"""

import contextlib
import mmap
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import apsw
import msgspec

from mailvane.errors import QueueUnavailable
from mailvane.queue.contract import Listed
from mailvane.queue.migrate import migrate, schema_version
from mailvane.queue.moving import MOVED_TO, Going, moved_message
from mailvane.queue.sqlite_errors import sync
from mailvane.queue.sqlite_log import read_log
from mailvane.queue.sqlite_pages import Page, candidates, what_is_wrong_with
from mailvane.queue.statements import statements
from mailvane.queue.studio import rows_in_sqlite, states_in, switch_in_sqlite

PAGE_SIZE = 4_096
SPARE_IDS = 1_000_000
"""How far new ids lie above all that are known of, where the last one that was given is not known for sure."""
TOLD = 1_000
"""Problems that are told at most."""

AT_ONCE = 10_000
"""Rows in one transaction."""

_SQL = statements("sqlite_salvage.sql")
_DELIVERED_SINCE = 3
"""The schema that brought delivered events and the failed attempts."""
_STUDIO_SINCE = 4

Row = tuple["apsw.SQLiteValue", ...]


@dataclass(frozen=True)
class Salvaged:
    """What came of it: events copied, and what was wrong; nothing wrong means that nothing is missing."""

    events: int
    wrong: tuple[str, ...]


def salvage(old: str, new: str) -> Salvaged:
    """Copies the queue in the file `old` into the file `new`, which must not be there. Nobody may write `old` then.

    Needs room for two copies. Raises QueueUnavailable if one cannot be read or the other cannot be written.
    """
    if os.path.exists(new):
        raise QueueUnavailable(f"{new} is there already: name a file that is not")
    try:
        if not os.path.getsize(old) and not _size(old + "-wal"):
            raise QueueUnavailable(f"{old} is empty: there is nothing in it to copy")
        with _removed_if_it_fails(new):
            migrate(new)
            return _into(old, new)
    except OSError as e:
        raise QueueUnavailable(f"{e.filename or old}: {e.strerror or e}") from e
    except apsw.Error as e:
        raise QueueUnavailable(f"{new} cannot be written: {e}") from e


@contextlib.contextmanager
def _removed_if_it_fails(path: str) -> Generator[None, None, None]:
    try:
        yield
    except BaseException:
        _remove(path)
        raise


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)


def _into(old: str, new: str) -> Salvaged:
    db = apsw.Connection(new, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.execute("BEGIN")
        done = _copy(old, db, new)
        db.execute("COMMIT")
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
    sync(new)
    return done


def _copy(old: str, db: apsw.Connection, new: str) -> Salvaged:
    wrong: list[str] = []

    def tell(problem: str) -> None:
        if len(wrong) < TOLD:
            wrong.append(problem)

    for n, row in enumerate(_carved(old, tell)):
        if n % AT_ONCE == AT_ONCE - 1:
            db.execute("COMMIT; BEGIN")  # the log of the new file would take as much room as the file
        db.execute(_SQL["add"], _columns(row))
    books, last_id, moved = dict[str, int](), 0, False
    with _as_sqlite_reads_it(old, new + ".reading", tell) as reading:
        if reading is not None:
            for row in reading.rows("old_rows"):
                listed = Listed(*row)  # type: ignore[arg-type]  # the schema says what the columns are
                if why := _why_not(listed):
                    tell(f"event {listed.id}: {why}")
                else:
                    db.execute(_SQL["add"], row)
            history = reading.schema >= _DELIVERED_SINCE
            for row in reading.rows("old_deferred" if history else "old_deferred_1"):
                db.execute(_SQL["add_deferred"], row)
            for row in reading.rows("old_delivered") if history else ():
                db.execute(_SQL["add_delivered"], row)
            for row in reading.rows("old_kept"):
                db.execute(_SQL["add_kept"], row)
                if row[0] == MOVED_TO:
                    moved = True
                    tell(_where_it_went(old, str(row[1])))
            if states := reading.studio():
                switch_in_sqlite(db, states)
            last_id = max((int(str(seq)) for (seq,) in reading.rows("old_last_id")), default=0)
            books = {str(name): int(str(n)) for name, n in reading.rows("old_books")}
            if (beside := books.pop("recorded_beside", None)) is not None:
                books["recorded"] = beside + last_id
    events, highest = (int(str(n)) for n in db.execute(_SQL["waiting"]).fetchall()[0])
    if not books:
        tell("how many events were recorded and delivered is not known any more")
    gone = sum(books.get(name, 0) for name in ("delivered", "dropped", "deleted"))
    if books and not moved and (missing := books.get("recorded", 0) - gone - events):
        tell(f"by the books {missing:+,} events should be there")
    next_id = max(last_id, highest) + (SPARE_IDS if wrong else 0)
    for name, n in {**books, "recorded_beside": gone + events - next_id}.items():
        db.execute(_SQL["set_book"], (n, name))
    db.execute(_SQL["forget_last_id"])
    db.execute(_SQL["set_last_id"], (next_id,))
    return Salvaged(events, tuple(wrong))


def _where_it_went(old: str, kept: str) -> str:
    try:
        return moved_message(old, msgspec.json.decode(kept, type=Going))
    except msgspec.MsgspecError:
        return f"{old} was moved to another queue; which one cannot be read any more"


def _columns(row: Listed) -> Row:
    return row.id, row.event_type, row.mail_class, row.recorded, row.valued, row.body, row.extra


def _why_not(row: Listed) -> str:
    try:
        return what_is_wrong_with(row)
    except (TypeError, AttributeError):
        return "a column has a value of another type"


# Page by page.


def _carved(old: str, tell: Callable[[str], None]) -> Iterator[Listed]:
    with _bytes_of(old) as data, _bytes_of(old + "-wal") as written:
        log = read_log(written, PAGE_SIZE)
        if log.wrong:
            tell(log.wrong)

        def reading(*places: dict[int, int]) -> Page:
            def page(number: int) -> bytes:
                for logged in places:
                    if (at := logged.get(number)) is not None:
                        return bytes(written[at : at + PAGE_SIZE])
                return bytes(data[(number - 1) * PAGE_SIZE : number * PAGE_SIZE])

            return page

        newest = reading(log.beyond, log.sound)
        head = newest(1).ljust(PAGE_SIZE, b"\0")
        pages = max([len(data) // PAGE_SIZE, *log.sound, *log.beyond])
        expected = log.pages or int.from_bytes(head[28:32])
        if expected > pages or (expected < pages and not log.pages):
            tell(f"the file should have {expected} pages, and has {pages}")
        elif expected < pages:
            pages = expected  # what lies above was given up, and waits to be cut off
        if head[:16] != b"SQLite format 3\0" or int.from_bytes(head[16:18]) != PAGE_SIZE:
            tell("the head of the file is damaged")
        for carved in candidates(newest, range(2, pages + 1), PAGE_SIZE):
            if carved.wrong:
                tell(carved.wrong)
            yield from carved.rows
        # Where the log is damaged, what it would replace may be all that is left.
        for carved in candidates(reading(log.sound), sorted(log.beyond), PAGE_SIZE):
            yield from carved.rows


@contextlib.contextmanager
def _bytes_of(path: str) -> Generator[bytes | mmap.mmap, None, None]:
    if not _size(path):
        yield b""
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


# As SQLite reads it.


class _Reading:
    def __init__(self, db: apsw.Connection, tell: Callable[[str], None]) -> None:
        self._db = db
        self._tell = tell
        self.schema = schema_version(db)

    def rows(self, name: str) -> Iterator[Row]:
        """The rows of a table, up to what cannot be read."""
        try:
            yield from self._db.execute(_SQL[name])
        except (apsw.Error, UnicodeDecodeError) as e:
            self._tell(f"{name.removeprefix('old_')}: {e}")

    def studio(self) -> dict[str, bool]:
        """Studio's switches, as far as they are clear."""
        try:
            return states_in(rows_in_sqlite(self._db)) if self.schema >= _STUDIO_SINCE else {}
        except (apsw.Error, UnicodeDecodeError) as e:
            self._tell(f"s_system_configs: {e}")
            return {}


@contextlib.contextmanager
def _as_sqlite_reads_it(
    old: str, copy: str, tell: Callable[[str], None]
) -> Generator[_Reading | None, None, None]:  # fmt: skip
    """A copy of the old files, which SQLite may bring in order as it likes; None if it cannot open it."""
    db: apsw.Connection | None = None
    try:
        for suffix in ("", "-wal"):
            if _size(old + suffix):
                shutil.copyfile(old + suffix, copy + suffix)
        try:
            db = apsw.Connection(copy, flags=apsw.SQLITE_OPEN_READWRITE)
            for (found,) in db.execute("PRAGMA integrity_check(100)"):
                if found != "ok":
                    tell(f"SQLite: {found}")
            reading = _Reading(db, tell)
        except apsw.Error as e:
            tell(f"SQLite cannot read it: {e}")
            reading = None
        yield reading
    finally:
        if db is not None:
            with contextlib.suppress(apsw.Error):
                db.close()
        _remove(copy)
