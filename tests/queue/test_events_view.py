"""What people type into `events` in a years older sqlite3 shell, while a processor has the queue."""

import asyncio
import csv
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailvane.events.catalogue import CLASSIC, Event
from mailvane.events.codecs import stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Books, Failed, Filter, Settlement
from mailvane.queue.local import SQLiteQueue
from support.storage import shell
from support.tools import tool

NOW = 1_790_000_000


def sample() -> list[Event]:
    def event(number: int, event_type: str = "bounce_all", **more: object) -> Event:
        given = {"event_type": event_type, "event_time": NOW + number, "email": f"user{number}@example.com", **more}
        return Event(**given)  # type: ignore[arg-type]

    return [
        event(0, bounce_type="h", bounce_code=10, bounce_text="550 5.1.1 User unknown"),
        event(1, bounce_type="s", bounce_text="452 4.2.2 Mailbox full"),
        event(2, "scomp", listid="a1"),
        event(3, "engine_click", click_url='https://www.example.com/?a=1,2&b="x"', user_agent="Mozilla/5.0; 'x'"),
        event(4, email="Someone@Example.ORG", bounce_type="h", bounce_text="user UNKNOWN, sorry\nsecond line"),
        event(5, "studio_subscriber_updated", json_after={"id": 900, "status": "active"}),
    ]


class Busy:
    """The owner of a queue that writes without a pause, in a thread of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ids: list[int] = []
        self._end = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))
        self._thread.start()
        assert self._ready.wait(30)

    async def _work(self) -> None:
        queue = SQLiteQueue(
            str(self.home / "queue.db"), Ballast(str(self.home / "ballast")), asyncio.get_running_loop()
        )
        self.queue = queue
        self.ids = await queue.append([stored_form(event) for event in sample()])
        await queue.settle(Settlement(failed=[Failed(self.ids[0], 1, NOW, "timeout")]), queue.term)
        self._ready.set()
        traffic = stored_form(Event(event_type="engine_open", event_time=1, email="traffic@example.net"))
        while not self._end.is_set():
            ids = await queue.append([traffic] * 5)
            await queue.settle(Settlement(delivered=ids), queue.term)
        self.books = await queue.books()
        self.left = await queue.count(Filter())
        await queue.close()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def busy(short_folder: Path) -> Iterator[Busy]:
    busy = Busy(short_folder)
    yield busy
    busy.stop()


def said(busy: Busy, *statements: str) -> list[str]:
    # Without a timeout a shell does not wait even a millisecond for a commit of ours.
    done = shell(tool("sqlite3"), busy.home, ".timeout 20000", *statements)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.splitlines()


OURS = "event_type <> 'engine_open'"


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (f"SELECT event_type, count(*) FROM events WHERE {OURS} GROUP BY event_type ORDER BY 1",
         ["bounce_all|3", "engine_click|1", "scomp|1", "studio_subscriber_updated|1"]),
        ("SELECT count(*) FROM events WHERE event_type = 'scomp'", ["1"]),
        ("SELECT email FROM events WHERE bounce_type = 'h' ORDER BY id", ["user0@example.com", "Someone@Example.ORG"]),
        (f"SELECT id FROM events WHERE event_time >= {NOW + 2} AND event_time < {NOW + 4} ORDER BY id", ["3", "4"]),
        (f"SELECT email FROM events WHERE datetime(event_time, 'unixepoch') > '2026-09-21' AND event_time > {NOW + 4}",
         ["user5@example.com"]),
        ("SELECT id FROM events WHERE bounce_text LIKE '%user unknown%' ORDER BY id", ["1", "5"]),
        ("SELECT id FROM events WHERE email LIKE '%@example.org'", ["5"]),
        ("SELECT listid = 'a1', bounce_code IS NULL, list_name = '' FROM events WHERE id = 3", ["1|1|1"]),
        ("SELECT json_extract(json_after, '$.status') FROM events WHERE json_after <> ''", ["active"]),
        ("SELECT max(id) - min(id) FROM events WHERE id <= 6", ["5"]),
    ],
)  # fmt: skip
def test_what_people_ask(busy: Busy, sql: str, rows: list[str]) -> None:
    assert said(busy, sql) == rows


def test_the_columns_are_those_of_the_classic_row(busy: Busy) -> None:
    names = [line.split("|")[1] for line in said(busy, "PRAGMA table_info(events)")]
    assert names == ["id", *CLASSIC]


def test_a_selection_goes_into_a_csv_file(busy: Busy) -> None:
    target = busy.home / "out.csv"
    said(busy, ".mode csv", ".headers on", f".output {target}", f"SELECT * FROM events WHERE {OURS} ORDER BY id")
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(i) for i in busy.ids]
    assert rows[3]["click_url"] == 'https://www.example.com/?a=1,2&b="x"'
    assert rows[4]["bounce_text"] == "user UNKNOWN, sorry\nsecond line"


@pytest.mark.parametrize(
    ("sql", "deleted"),
    [
        ("DELETE FROM events WHERE id IN (1, 3)", 2),
        ("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE bounce_text LIKE '%unknown%')", 2),
        ("DELETE FROM events WHERE event_type = 'bounce_all' AND bounce_type = 'h'", 2),
        ("DELETE FROM events WHERE id = 1; DELETE FROM events WHERE id = 1", 1),
        ("BEGIN; DELETE FROM events WHERE id < 7; ROLLBACK", 0),
        ("DELETE FROM events WHERE id = 987654321", 0),
    ],
)
def test_a_row_deleted_by_hand_is_gone_and_counted(busy: Busy, sql: str, deleted: int) -> None:
    said(busy, sql)
    there = {int(i) for i in said(busy, f"SELECT id FROM events WHERE {OURS}")}
    assert len(there) == 6 - deleted
    # What failed goes with its event.
    assert {int(i) for i in said(busy, "SELECT id FROM deferred")} == {1} & there
    busy.stop()
    assert busy.books.deleted == deleted
    assert busy.books.waiting == busy.left == 6 - deleted


@pytest.mark.parametrize(
    ("sql", "way"),
    [
        ("INSERT INTO events (event_type, email) VALUES ('scomp', 'a@example.com')", "mailvane record"),
        ("UPDATE events SET email = 'b@example.com' WHERE id = 1", "mailvane record"),
        ("UPDATE events SET event_type = 'scomp'", "delete the event"),
    ],
)
def test_inserting_and_changing_is_refused_with_the_right_way(busy: Busy, sql: str, way: str) -> None:
    done = shell(tool("sqlite3"), busy.home, ".timeout 20000", sql)
    assert done.returncode != 0
    assert way in done.stderr
    assert said(busy, f"SELECT count(*), min(email) FROM events WHERE {OURS}") == ["6|Someone@Example.ORG"]


def test_a_shell_that_reads_for_long_stops_nobody(busy: Busy) -> None:
    with subprocess.Popen(
        [tool("sqlite3"), "-batch", str(busy.home / "queue.db")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as person:  # fmt: skip
        assert person.stdin and person.stdout
        person.stdin.write("BEGIN; SELECT count(*) > 0 FROM events;\n")
        person.stdin.flush()
        assert person.stdout.readline() == "1\n"
        recorded = "SELECT seq FROM sqlite_sequence WHERE name = 'queue'"
        before = int(said(busy, recorded)[0])
        end = time.monotonic() + 30
        while int(said(busy, recorded)[0]) <= before:  # each of these is a shell of its own, which takes its time
            assert time.monotonic() < end, "recording waits for somebody who only reads"
        person.stdin.close()
    busy.stop()
    assert busy.books.waiting == busy.left == 6


def test_nothing_that_a_shell_of_ten_years_ago_lacks(tmp_path: Path) -> None:
    """`->`, `->>`, RETURNING, generated columns and STRICT would keep an older shell from opening the file at all."""
    from mailvane.queue.statements import migrations

    schema = "\n".join(line.partition("--")[0] for _, script in migrations("sqlite") for line in script.splitlines())
    for word in ("->", "RETURNING", "GENERATED", " AS (", "STRICT", "MATERIALIZED", "RENAME COLUMN", "iif("):
        assert word not in schema, word
    db = sqlite3.connect(tmp_path / "queue.db")
    db.executescript(schema)
    db.close()


def test_an_empty_queue_has_balanced_books(short_folder: Path) -> None:
    async def look() -> Books:
        queue = SQLiteQueue(str(short_folder / "q.db"), Ballast(str(short_folder / "b")), asyncio.get_running_loop())
        books = await queue.books()
        await queue.close()
        return books

    assert asyncio.run(look()) == Books(0, 0, 0, 0)
