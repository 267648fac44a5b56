"""Damaged files: D12. They are refused with what to do, and what can be read of them goes into a new queue."""

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm, stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Books, Failed, Filter, Listed, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.salvage import Salvaged, salvage
from mailvane.queue.short import ShortStore
from mailvane.queue.sqlite_log import read_log
from mailvane.queue.studio import states_in
from support.homes import COMMAND, LEAVES, Home, bounce
from support.storage import places

FLIPS = 500
SUFFIXES = ("", "-wal")


def form(number: int) -> StoredForm:
    text = "y" * 9_000 if number % 50 == 0 else "x" * (number * 37 % 700)
    return stored_form(
        Event(event_type="bounce_all", event_time=number, email=f"user{number}@example.com", bounce_text=text)
    )


@dataclass(frozen=True)
class Queue:
    """A queue's files as a kill left them: half in the database, half in the log; and what was in it."""

    path: Path
    data: bytes
    log: bytes
    rows: dict[int, Listed]
    books: Books
    last_id: int
    epoch: str


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="mv-", dir=shared if shared.is_dir() else None) as name:
        folder = Path(name)
        asyncio.run(fill(folder))
        reader = SQLiteReader(str(folder / "queue.db"))
        rows = {row.id: row for row in reader.select(Filter(), 0, 10_000)}
        books, last_id, epoch = reader.books(), reader.last_id(), reader.kept("epoch")
        reader.close()
        data, log = ((folder / f"killed.db{suffix}").read_bytes() for suffix in SUFFIXES)
        assert len(data) > 20 * 4096 and len(log) > 20 * 4096
        yield Queue(folder / "killed.db", data, log, rows, books, last_id, epoch or "")


async def fill(folder: Path) -> None:
    queue = SQLiteQueue(str(folder / "queue.db"), Ballast(str(folder / "ballast")), asyncio.get_running_loop())
    queue.keep_delivered = 3_600_000
    ids = await queue.append([form(n) for n in range(1, 201)])
    await queue.switch_studio({"scomp": True, "studio_unsub": True})
    failed = [Failed(i, 1, 5, "timeout: no answer") for i in ids[:10]]
    await queue.settle(Settlement(ids[50:70], ids[100:130], failed), queue.term)
    await queue.upkeep()
    ids += await queue.append([form(n) for n in range(201, 261)])
    await queue.settle(Settlement(ids[210:215]), queue.term)
    await queue.delete(Filter(ids=(ids[220],)))
    for suffix in SUFFIXES:
        shutil.copy(folder / f"queue.db{suffix}", folder / f"killed.db{suffix}")
    await queue.close()


@dataclass(frozen=True)
class Found:
    """What came out, and how it was told."""

    told: Salvaged
    rows: dict[int, Listed]
    books: Books
    last_id: int
    epoch: str
    studio: dict[str, bool]


def salvaged(queue: Queue, data: bytes, log: bytes) -> Found:
    old, new = queue.path.with_name("old.db"), queue.path.with_name("new.db")
    for path in (old, new):
        for suffix in (*SUFFIXES, "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    old.write_bytes(data)
    old.with_name("old.db-wal").write_bytes(log)
    told = salvage(str(old), str(new))
    assert old.read_bytes() == data and old.with_name("old.db-wal").read_bytes() == log
    assert {path.name for path in queue.path.parent.glob("new.db*")} <= {"new.db", "new.db-wal", "new.db-shm"}
    reader = SQLiteReader(str(new))
    rows = {row.id: row for row in reader.select(Filter(), 0, 10_000)}
    found = Found(
        told, rows, reader.books(), reader.last_id(), reader.kept("epoch") or "", states_in(reader.studio_rows())
    )
    reader.close()
    assert found.books.waiting == len(rows) == told.events
    return found


def test_what_is_not_damaged_is_copied_whole(queue: Queue) -> None:
    found = salvaged(queue, queue.data, queue.log)
    assert found.told.wrong == ()
    assert (found.rows, found.books, found.last_id, found.epoch) == (
        queue.rows,
        queue.books,
        queue.last_id,
        queue.epoch,
    )
    assert [name for name, on in found.studio.items() if on] == ["scomp", "studio_unsub"]


def test_d12_no_flipped_byte_loses_an_event_that_can_be_read(queue: Queue) -> None:
    """A byte hits one event at most; whatever else it hits, the others are found, and something is told."""
    chance = random.Random(12)
    silent = 0
    for trial in range(FLIPS):
        data, log = bytearray(queue.data), bytearray(queue.log)
        flips = chance.choice([1, 1, 2, 4])
        for _ in range(flips):
            hit = chance.choice([data, log])
            hit[chance.randrange(len(hit))] ^= chance.randrange(1, 256)
        found = salvaged(queue, bytes(data), bytes(log))
        missing, extra = queue.rows.keys() - found.rows.keys(), found.rows.keys() - queue.rows.keys()
        changed = [i for i in found.rows.keys() & queue.rows.keys() if found.rows[i].body != queue.rows[i].body]
        assert len(missing) + len(changed) <= flips, (trial, missing, changed, found.told)
        if not found.told.wrong:
            silent += 1
            assert not missing and not extra, trial
        assert found.last_id >= queue.last_id, "no id is given again"
    assert silent < FLIPS * 0.75, "most of what is hit is told"


def moved(queue: Queue) -> bytes:
    """The database with its log moved into it."""
    path = queue.path.with_name("moved.db")
    path.write_bytes(queue.data)
    path.with_name("moved.db-wal").write_bytes(queue.log)
    db = apsw.Connection(str(path))
    db.pragma("user_version")
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()
    return path.read_bytes()


def test_d12_a_damaged_head_of_a_page_costs_no_event(queue: Queue) -> None:
    """It says what the page is, how many events it has, and where they are; they are found without it."""
    whole = moved(queue)
    assert salvaged(queue, whole, b"").told.wrong == ()
    leaves = [at for at in range(4096, len(whole), 4096) if whole[at] == 0x0D and b"user" in whole[at : at + 4096]]
    for leaf in random.Random(8).sample(leaves, 5):
        for place in range(12):
            data = bytearray(whole)
            data[leaf + place] ^= 0x09
            found = salvaged(queue, bytes(data), b"")
            assert queue.rows.keys() <= found.rows.keys(), (leaf // 4096 + 1, place, found.told)
            assert found.told.wrong, (leaf // 4096 + 1, place)


def test_d12_a_page_of_zeros_costs_its_own_events_alone(queue: Queue) -> None:
    for number in range(1, len(queue.data) // 4096):
        data = bytearray(queue.data)
        data[number * 4096 : (number + 1) * 4096] = bytes(4096)
        found = salvaged(queue, bytes(data), queue.log)
        missing = queue.rows.keys() - found.rows.keys()
        assert len(missing) < 80 and (not missing or found.told.wrong), (number, len(missing))


def test_d12_a_log_that_lost_its_end_is_an_earlier_state(queue: Queue) -> None:
    """SQLite takes it for a crash, and so do we: no commit that is there as a whole is lost."""
    frame = 24 + 4096
    commits = [0] + [
        n + 1 for n in range((len(queue.log) - 32) // frame) if any(queue.log[32 + n * frame + 4 : 32 + n * frame + 8])
    ]
    for length in range(0, len(queue.log), frame * 3 + 1_000):
        whole = max(n for n in commits if 32 + n * frame <= max(32, length))
        found = salvaged(queue, queue.data, queue.log[:length])
        wanted = salvaged(queue, queue.data, queue.log[: 32 + whole * frame] if whole else b"")
        assert found.rows == wanted.rows, length


def test_d12_a_damaged_file_is_refused_with_what_to_do_or_works(queue: Queue) -> None:
    chance = random.Random(21)
    refused = 0
    for _ in range(60):
        data = bytearray(queue.data)
        for _ in range(8):
            data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        path = queue.path.with_name("damaged.db")
        for suffix in (*SUFFIXES, "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(data)
        path.with_name("damaged.db-wal").write_bytes(queue.log)
        try:
            asyncio.run(use(path))
        except QueueUnavailable as e:
            refused += 1
            assert str(path) in str(e)
            assert "mailvane queue salvage" in str(e) or "another program" in str(e) or "newer mailvane" in str(e), str(
                e
            )
    assert refused > 3  # most bytes are of a text that nobody can judge


async def use(path: Path) -> None:
    queue = SQLiteQueue(str(path), Ballast(str(path.with_name("no ballast"))), asyncio.get_running_loop())
    await queue.close()


def test_d12_nothing_is_written_to_a_damaged_file_that_is_refused(queue: Queue) -> None:
    data = bytearray(queue.data)
    leaf = next(n for n in range(4, len(data) // 4096) if data[n * 4096] == 0x0D)
    data[leaf * 4096 + 3 : leaf * 4096 + 5] = b"\xff\xff"
    path = queue.path.with_name("damaged.db")
    for suffix in (*SUFFIXES, "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(data)
    with pytest.raises(QueueUnavailable, match=r"is damaged.*mailvane queue salvage"):
        asyncio.run(use(path))
    assert path.read_bytes() == data


def test_d12_an_empty_file_that_was_a_queue_is_refused(queue: Queue, short_folder: Path) -> None:
    """SQLite would throw its log away, and begin anew."""
    path = short_folder / "queue.db"
    path.touch()
    (short_folder / "queue.db-wal").write_bytes(queue.log)
    with pytest.raises(QueueUnavailable, match=r"is empty, and was not.*mailvane queue salvage"):
        asyncio.run(use(path))
    store = ShortStore(places(short_folder), "a test")
    with pytest.raises(QueueUnavailable, match="is empty, and was not"):
        store.do(lambda owned: owned.writer.keep("a", "b"), lambda owner: None)
    store.close()
    assert path.stat().st_size == 0 and (short_folder / "queue.db-wal").read_bytes() == queue.log
    assert salvage(str(path), str(short_folder / "new.db")).events > 40
    (short_folder / "queue.db-wal").unlink()
    Ballast(str(short_folder / "ballast")).make()
    with pytest.raises(QueueUnavailable, match=r"is empty, and was not.*backup"):
        store.do(lambda owned: owned.writer.keep("a", "b"), lambda owner: None)
    store.close()


def test_d12_people_are_told_of_an_empty_file_by_every_command(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(1)])
    for suffix in ("-wal", "-shm"):
        (home.folder / f"queue.db{suffix}").unlink(missing_ok=True)
    os.truncate(home.folder / "queue.db", 0)
    for command in (["events", "list"], ["events", "status"], ["trigger", "bounce_all"], ["run"]):
        done = home.mailvane(*command, check=False)
        assert done.returncode == 1 and "is empty, and was not" in done.stderr, command
    told = home.mailvane("doctor", "--json", check=False)
    assert told.returncode == 1 and "is empty, and was not" in told.stdout
    (home.folder / "queue.db").unlink()
    assert home.json("events", "list") == []


def test_a_new_file_is_never_written_over_and_none_is_left_half_made(queue: Queue, short_folder: Path) -> None:
    there = short_folder / "there.db"
    there.write_text("mine")
    with pytest.raises(QueueUnavailable, match="is there already"):
        salvage(str(queue.path), str(there))
    assert there.read_text() == "mine"
    for old, why in ((short_folder / "nowhere.db", "No such file"), (short_folder, "directory")):
        with pytest.raises(QueueUnavailable, match=why):
            salvage(str(old), str(short_folder / "new.db"))
    assert sorted(os.listdir(short_folder)) == ["there.db"]


def test_what_is_no_queue_at_all_gives_an_empty_one_and_says_so(short_folder: Path) -> None:
    (short_folder / "x.db").write_bytes(b"no database at all\n" * 1_000)
    told = salvage(str(short_folder / "x.db"), str(short_folder / "new.db"))
    assert told.events == 0 and any("head of the file" in problem for problem in told.wrong)


def test_the_log_is_read_as_sqlite_reads_it(queue: Queue) -> None:
    log = read_log(queue.log, 4096)
    assert not log.wrong and not log.beyond
    by_sqlite = moved(queue)
    assert len(by_sqlite) == log.pages * 4096
    for number, at in log.sound.items():
        assert by_sqlite[(number - 1) * 4096 : number * 4096] == queue.log[at : at + 4096], number


def test_people_salvage_by_a_command(queue: Queue, short_folder: Path) -> None:
    for suffix in SUFFIXES:
        shutil.copy(f"{queue.path}{suffix}", f"{short_folder}/q.db{suffix}")
    done = subprocess.run(
        [COMMAND, "queue", "salvage", short_folder / "q.db"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(queue.rows)} events copied to {short_folder}/q.salvaged.db\n" in done.stdout
    again = subprocess.run(
        [COMMAND, "queue", "salvage", short_folder / "q.db"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1 and "is there already" in again.stderr
