"""SQLite's own: how connections are set, files made and brought up, versions and locks judged."""

import asyncio
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

import mailvane.queue.local
import mailvane.queue.sqlite
import mailvane.queue.sqlite_errors
from mailvane import QueueUnavailable, Recorder
from mailvane.errors import QueueTooNew
from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.blocking import who_holds
from mailvane.queue.contract import Books, Failed, Filter, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.migrate import migrate, newest
from mailvane.queue.ownership import Lock
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.remote import NobodyThere, OwnerClient
from mailvane.queue.sqlite import SQLiteWriter, refuse_unsafe_sqlite
from support.storage import recording_home, shell
from support.tools import tool

EVENT = Event(event_type="bounce_all", event_time=1, email="user@example.com")
FORM = stored_form(EVENT)


@pytest.fixture
def database(short_folder: Path) -> str:
    path = str(short_folder / "queue.db")
    migrate(path)
    return path


# Connections


def test_every_writing_connection_syncs_each_commit(database: str) -> None:
    for _ in range(2):
        writer = SQLiteWriter(database)
        db = writer._db  # pyright: ignore[reportPrivateUsage]
        assert db.pragma("journal_mode") == "wal"
        assert db.pragma("synchronous") == 2
        assert db.pragma("wal_autocheckpoint") == 0
        writer.close()


def test_a_reading_connection_cannot_write(database: str) -> None:
    reader = SQLiteReader(database)
    with pytest.raises(apsw.ReadOnlyError):
        reader._db.execute("DELETE FROM queue")  # pyright: ignore[reportPrivateUsage]
    reader.close()


def test_no_read_stays_open(short_folder: Path) -> None:
    """One that did would keep the log from ever beginning anew."""
    path = str(short_folder / "queue.db")

    async def use() -> int:
        queue = SQLiteQueue(path, Ballast(str(short_folder / "ballast")), asyncio.get_running_loop())
        ids = await queue.append([FORM] * 600)
        await queue.read(0, 10)
        await queue.scan(0, 10)
        await queue.fetch(ids[:3])
        await queue.still_there(ids[:3])
        await queue.due((0, 0), 1, 1)
        await queue.next_due()
        await queue.census()
        await queue.oldest()
        await queue.books()
        await queue.kept("epoch")
        queue._store.writer.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)  # pyright: ignore[reportPrivateUsage]
        size = os.path.getsize(path + "-wal")
        await queue.close()
        return size

    assert asyncio.run(use()) == 0


@pytest.mark.parametrize("version", ["3.51.3", "3.51.4", "3.52.0", "3.54.1", "4.0.0", "3.50.7", "3.50.10", "3.44.6"])
def test_a_safe_sqlite_is_taken(version: str) -> None:
    refuse_unsafe_sqlite(version)


@pytest.mark.parametrize(
    "version", ["3.51.2", "3.51.0", "3.50.6", "3.49.2", "3.45.3", "3.44.5", "3.43.9", "3.40.1", "3.7.17"]
)
def test_a_sqlite_that_could_corrupt_the_queue_is_refused(version: str) -> None:
    with pytest.raises(QueueUnavailable, match=r"apsw 3\.51\.3"):
        refuse_unsafe_sqlite(version)


def test_the_sqlite_that_is_installed_is_judged(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.50.2")
    with pytest.raises(QueueUnavailable, match="WAL-reset"):
        SQLiteWriter(database)


# Files


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    yield
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o640), (0o077, 0o600), (0o002, 0o660)])
def test_the_queue_is_nobody_elses_to_read(short_folder: Path, mask: int, mode: int) -> None:
    path = short_folder / "queue.db"
    with umask(mask):
        migrate(str(path))
        writer = SQLiteWriter(str(path))
        writer.append([([FORM], "")])
        for file in short_folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == mode, file
        writer.close()


def test_ids_are_never_reused_and_pages_can_be_given_back(database: str) -> None:
    said = shell(tool("sqlite3"), Path(database).parent, "PRAGMA auto_vacuum; SELECT sql FROM sqlite_schema").stdout
    assert said.startswith("2\n")
    assert "AUTOINCREMENT" in said


def test_migrating_again_changes_nothing(database: str) -> None:
    before = Path(database).read_bytes()
    migrate(database)
    migrate(database)
    assert Path(database).read_bytes() == before
    assert stat.S_IMODE(os.stat(database).st_mode) & 0o007 == 0


@pytest.mark.parametrize(
    "made", ["nothing", "empty", "one byte", "only the header", "half of the schema, not committed"]
)
def test_a_file_that_was_half_made_is_finished(short_folder: Path, made: str) -> None:
    path = short_folder / "queue.db"
    if made == "empty":
        path.touch()
    elif made == "one byte":
        path.write_bytes(b"S")
    elif made == "only the header":
        shell(tool("sqlite3"), short_folder, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL")
    elif made.startswith("half"):
        with subprocess.Popen(
            [tool("sqlite3"), "-batch", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdin and other.stdout
            other.stdin.write(
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
                "BEGIN; CREATE TABLE queue (id INTEGER PRIMARY KEY); SELECT 'there';\n"
            )
            other.stdin.flush()
            assert [other.stdout.readline() for _ in range(2)] == ["wal\n", "there\n"]
            other.kill()
    migrate(str(path))
    writer = SQLiteWriter(str(path))
    assert writer.append([([FORM], "")]) == [[1]]
    writer.close()
    assert shell(tool("sqlite3"), short_folder, "PRAGMA auto_vacuum; PRAGMA user_version").stdout == f"2\n{newest()}\n"


@pytest.mark.parametrize("content", [b"no database at all\n" * 300, b"\x00" * 8192, b"SQLite format 3\x00" * 700])
def test_a_file_that_is_no_database_is_named_and_left_alone(short_folder: Path, content: bytes) -> None:
    path = short_folder / "queue.db"
    path.write_bytes(content)
    for attempt in (migrate, SQLiteWriter, SQLiteReader):
        with pytest.raises(QueueUnavailable) as raised:
            attempt(str(path))
        assert str(path) in str(raised.value)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(short_folder: Path) -> None:
    path = short_folder / "queue.db"
    shell(tool("sqlite3"), short_folder, "CREATE TABLE events (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(QueueUnavailable, match="another program"):
        migrate(str(path))
    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_the_file_and_a_missing_folder(short_folder: Path) -> None:
    (short_folder / "queue.db").mkdir()
    for path in (short_folder / "queue.db", short_folder / "missing" / "queue.db"):
        with pytest.raises(QueueUnavailable) as raised:
            migrate(str(path))
        assert str(path) in str(raised.value)


def test_d24_a_newer_schema_is_refused_and_not_touched(database: str) -> None:
    shell(tool("sqlite3"), Path(database).parent, f"PRAGMA user_version = {newest() + 1}")
    before = Path(database).read_bytes()
    for attempt in (migrate, SQLiteWriter, SQLiteReader):
        with pytest.raises(QueueTooNew, match="newer mailvane"):
            attempt(database)
    assert Path(database).read_bytes() == before


OLD_SCHEMA = Path(__file__).parents[1] / "data" / "queue" / "schema_1.sql"
"""As the first release had it: events 4 to 7 are there, of them 4 and 5 failed; 1 and 2 were delivered."""


@pytest.fixture
def old_database(short_folder: Path) -> str:
    path = short_folder / "queue.db"
    db = apsw.Connection(str(path))
    db.execute(OLD_SCHEMA.read_text())
    db.pragma("journal_mode", "wal")
    db.close()
    return str(path)


def test_d24_a_queue_of_the_first_schema_is_brought_up_with_all_it_has(old_database: str) -> None:
    async def use() -> None:
        queue = SQLiteQueue(old_database, Ballast(old_database + ".ballast"), asyncio.get_running_loop())
        assert queue.term == 2 and queue.epoch == "4ed33551"
        rows = await queue.select(Filter(), 0, 10)
        assert [(row.id, row.attempts, row.error, row.history) for row in rows] == [
            (4, 2, "timeout: no answer", ()), (5, 1, "http_5xx: 503", ()), (6, 0, "", ()), (7, 0, "", ()),
        ]  # fmt: skip
        assert await queue.books() == Books(8, 2, 1, 1)
        assert await queue.append([FORM]) == [9]
        assert await queue.append([FORM] * 8, "token-1") == list(range(1, 9)), "the token is known still"
        queue.keep_delivered = 60_000
        await queue.settle(Settlement([5, 6], failed=[Failed(4, 3, 1, "again", 503, 0.5)]), queue.term)
        (row,) = await queue.select(Filter(ids=(4,)), 0, 1)
        assert [(a.number, a.status, a.error) for a in row.history] == [(3, 503, "again")]
        assert [row.id for row in await queue.select_delivered(Filter(), 0, 10)] == [5, 6]
        assert await queue.replay([6]) == [6]
        await queue.close()

    asyncio.run(use())
    assert shell(tool("sqlite3"), Path(old_database).parent, "PRAGMA integrity_check").stdout == "ok\n"


def test_d24_people_can_look_into_an_older_queue_before_anybody_brings_it_up(old_database: str) -> None:
    before = Path(old_database).read_bytes()
    reader = SQLiteReader(old_database)
    assert [row.id for row in reader.select(Filter(deferred=True), 0, 10)] == [4, 5]
    assert reader.count(Filter()) == 4 and reader.books() == Books(8, 2, 1, 1)
    assert reader.select_delivered(Filter(), 0, 10) == [] and reader.delivered_ids(Filter(), 0, 10) == []
    assert reader.count_delivered(Filter()) == 0
    reader.close()
    assert Path(old_database).read_bytes() == before


def test_a_recorder_refuses_a_newer_schema_readably(short_folder: Path) -> None:
    home = recording_home(short_folder)
    with Recorder(home) as recorder:
        assert recorder.record(EVENT) == 1
        # A newer mailvane took the queue over while this program was running.
        lock = Lock(str(home / "queue.lock"), "a newer mailvane")
        assert lock.take_in_line(10)
        shell(tool("sqlite3"), home, f"PRAGMA user_version = {newest() + 1}")
        lock.release()
        with pytest.raises(QueueUnavailable, match="newer mailvane"):
            recorder.record(EVENT)
    with Recorder(home) as recorder, pytest.raises(QueueUnavailable, match="newer mailvane"):
        recorder.record(EVENT)


def test_a_queue_that_was_moved_away_takes_no_more_events(short_folder: Path) -> None:
    """A program must not go on recording into a file that nobody will find."""
    home = recording_home(short_folder)
    with Recorder(home) as recorder:
        recorder.record(EVENT)
        for suffix in ("", "-wal", "-shm"):
            (home / f"queue.db{suffix}").rename(home / f"old.db{suffix}")
        assert recorder.record(EVENT) == 1
    reader = SQLiteReader(str(home / "queue.db"))
    assert reader.books().waiting == 1
    reader.close()


def test_nobody_listening_is_told_however_long_the_path(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (108 - len(os.fsencode(tmp_path)) - 1))
    assert len(os.fsencode(path)) == 108
    for one in (str(path), str(path)[:-1], str(path / "deeper" / "still")):
        with pytest.raises(NobodyThere, match="nobody listens"):
            OwnerClient(one).request("GET", "/")


# A write that fails leaves nothing and harms nothing


def owned(folder: Path, use: Callable[[SQLiteQueue], object]) -> None:
    async def run() -> None:
        queue = SQLiteQueue(str(folder / "queue.db"), Ballast(str(folder / "ballast")), asyncio.get_running_loop())
        try:
            result = use(queue)
            if asyncio.iscoroutine(result):
                await result
        finally:
            await queue.close()

    asyncio.run(run())


def test_what_is_handed_over_in_memory_is_what_the_disk_has(short_folder: Path) -> None:
    """Groups that come again with their tokens, in the middle of a commit, must not shift the ids of others."""

    async def use(queue: SQLiteQueue) -> None:
        handed: dict[int, str] = {}

        def committed(first: int, events: object) -> None:
            for at, form in enumerate(events):  # type: ignore[arg-type]
                assert first + at not in handed
                handed[first + at] = form.body

        queue.on_commit = committed
        forms = [stored_form(Event(event_type="scomp", event_time=n, email=f"u{n}@example.com")) for n in range(60)]
        await queue.append(forms[:2], "first")
        again = [
            queue.append([forms[n]], "") if n % 3 else queue.append(forms[:2], "first" if n % 2 else f"t{n // 6}")
            for n in range(2, 60)
        ]
        await asyncio.gather(*again)
        rows = await queue.read(0, 1000)
        assert handed == {row.id: row.body for row in rows}

    owned(short_folder, use)


def test_a_defect_in_an_order_does_not_end_the_writer(short_folder: Path) -> None:
    async def use(queue: SQLiteQueue) -> None:
        def defect() -> None:
            raise RuntimeError("a defect")

        queue._writer.order(defect)  # pyright: ignore[reportPrivateUsage]
        assert await queue.append([FORM]) == [1]

    owned(short_folder, use)


def test_who_comes_after_the_end_does_not_wait_for_ever(short_folder: Path) -> None:
    async def run() -> None:
        queue = SQLiteQueue(str(short_folder / "q.db"), Ballast(str(short_folder / "b")), asyncio.get_running_loop())
        await queue.close()
        with pytest.raises(QueueUnavailable, match="closed"):
            await asyncio.wait_for(queue.append([FORM]), 30)

    asyncio.run(run())


def test_a_failed_checkpoint_does_not_take_back_a_commit(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed is acknowledged, also if moving the log finds the disk full."""

    def full(self: SQLiteWriter, mode: int = 0) -> None:
        raise mailvane.queue.sqlite_errors.DiskFull("full")

    monkeypatch.setattr(mailvane.queue.sqlite, "CHECKPOINT_PAGES", 1)
    monkeypatch.setattr(SQLiteWriter, "checkpoint", full)

    async def use(queue: SQLiteQueue) -> None:
        assert await queue.append([FORM] * 3) == [1, 2, 3]
        assert (await queue.settle(Settlement([1], [2]), queue.term)).delivered == 1
        assert not queue.full

    owned(short_folder, use)


# D11: a person's shell that holds a write transaction


@contextmanager
def shell_in_a_transaction(home: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [tool("sqlite3"), "-batch", str(home / "queue.db")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as person:  # fmt: skip
        assert person.stdin and person.stdout
        person.stdin.write(".timeout 10000\nBEGIN EXCLUSIVE; SELECT 'held';\n")
        person.stdin.flush()
        assert person.stdout.readline() == "held\n"
        yield person
        person.stdin.close()


def test_d11_recording_waits_for_a_shell_and_goes_on(short_folder: Path) -> None:
    home = recording_home(short_folder)
    with Recorder(home) as recorder:
        recorder.record(EVENT)
        done = threading.Event()
        ids: list[int | None] = []

        def record() -> None:
            ids.append(recorder.record(EVENT))
            done.set()

        with shell_in_a_transaction(home) as person:
            thread = threading.Thread(target=record)
            thread.start()
            assert not done.wait(2)
            assert person.stdin
            person.stdin.write("COMMIT;\n")
            person.stdin.flush()
            assert done.wait(30)
        thread.join()
    assert ids == [2]


def test_d11_beyond_the_limit_the_one_who_holds_it_is_named(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailvane.queue.sqlite, "BUSY_MS", 100)
    home = recording_home(short_folder)
    with Recorder(home) as recorder, shell_that_only_looks(home, recorder) as other:
        with shell_in_a_transaction(home) as person, pytest.raises(QueueUnavailable) as raised:
            recorder.record(EVENT)
        assert f"process {person.pid} (sqlite3)" in str(raised.value)
        assert str(other.pid) not in str(raised.value)
        assert recorder.record(EVENT) == 2
    reader = SQLiteReader(str(home / "queue.db"))
    assert reader.books().waiting == 2
    reader.close()


@contextmanager
def shell_that_only_looks(home: Path, recorder: Recorder) -> Iterator[subprocess.Popen[str]]:
    recorder.record(EVENT)
    with subprocess.Popen(
        [tool("sqlite3"), "-batch", str(home / "queue.db")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdin and other.stdout
        other.stdin.write("BEGIN; SELECT count(*) FROM events;\n")
        other.stdin.flush()
        assert other.stdout.readline() == "1\n"
        yield other
        other.stdin.close()


def test_a_lock_that_nobody_holds_is_nobodys(database: str) -> None:
    assert who_holds(database) == "another process"
    assert who_holds("/nowhere/queue.db") == "another process"
