"""Events in an application's own transactions: what docs/outbox.md shows is taken from the page and run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from support.homes import LEAVES, Home
from support.postgresql import PostgreSQL

PAGE = (Path(__file__).parents[2] / "docs" / "outbox.md").read_text()
CHAPTERS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
PROGRAM = Path(__file__).with_name("outbox_program.py")
WAYS = {
    "django": ("Django", "DataError"),
    "sqlalchemy": ("SQLAlchemy", "DataError"),
    "sqlalchemy-async-psycopg": ("SQLAlchemy", "DataError"),
    "sqlalchemy-async-asyncpg": ("SQLAlchemy", "DBAPIError"),
    "psycopg": ("psycopg", "InvalidParameterValue"),
}
"""The ways of outbox_program.py: the chapter that shows each, and the error that it has for an event that is wrong."""

# The second person's transaction fails at the very COMMIT, the third's event is refused.
SUBSCRIBERS = """
CREATE TABLE subscribers (
    id serial PRIMARY KEY, email text NOT NULL, list_id text NOT NULL, subscribed boolean NOT NULL DEFAULT true
);
INSERT INTO subscribers (email, list_id) VALUES
    ('One@example.com', 'A1'), ('two@example.com', 'a1'), ('', 'a1'), ('four@example.com', 'a1');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.email = 'two@example.com' THEN RAISE EXCEPTION 'stays' USING ERRCODE = 'check_violation'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON subscribers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@dataclass(frozen=True)
class Shop:
    """A database that belongs to an application, whose role is `shop`; mailvane has a schema in it."""

    url: str
    administrator: Callable[[str], None]
    queue_url: str

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """As the application."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()


@pytest.fixture
def shop(postgresql: PostgreSQL) -> Iterator[Shop]:
    postgresql.query("CREATE ROLE shop LOGIN PASSWORD 'shop'")
    postgresql.query("CREATE DATABASE shop OWNER shop")

    def administrator(sql: str) -> None:
        with psycopg.connect(
            host=str(postgresql.folder), port=postgresql.port, user="postgres", dbname="shop", autocommit=True
        ) as connection:
            connection.execute(sql.encode())

    try:
        of_shop = postgresql.url_of("shop", "shop", "shop")
        with psycopg.connect(of_shop) as connection:
            connection.execute(SUBSCRIBERS.encode())
        yield Shop(of_shop, administrator, f"{postgresql.url_of('shop')}?schema=mailvane")
    finally:
        postgresql.query("DROP DATABASE shop WITH (FORCE)")
        postgresql.query("DROP ROLE shop")


@contextmanager
def mailvane(shop: Shop, make_home: Callable[..., Home]) -> Iterator[Home]:
    """Set up as the page says, with the switch for one of its types on."""
    schema, grants = re.findall(r"^```sql\n(.*?)^```$", CHAPTERS["Setting up"], re.MULTILINE | re.DOTALL)
    shop.administrator(schema)
    home = make_home(queue=shop.queue_url, legacy=LEAVES, enable=["unsub"])
    process = home.run()
    shop.administrator(grants)
    yield home
    process.stop()


def files_of(chapter: str, folder: Path) -> list[str]:
    """Writes the files that a chapter shows; their names."""
    names: list[str] = []
    for name, text in re.findall(r"^```python\n# (\S+)\n(.*?)^```$", CHAPTERS[chapter], re.MULTILINE | re.DOTALL):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        names.append(name)
    assert names and len(names) == CHAPTERS[chapter].count("```python"), "each block of Python says which file it is"
    return names


def wait_for_rows(home: Home, count: int) -> list[dict[str, object]]:
    """The events in the queue, once there are so many."""
    home.wait_for_status(lambda status: status["queue"]["events"] >= count)
    return home.waiting()


@pytest.mark.parametrize("way", WAYS)
def test_the_page_s_code_records_if_and_only_if_its_transaction_commits(
    shop: Shop, make_home: Callable[..., Home], tmp_path: Path, way: str
) -> None:
    chapter, error = WAYS[way]
    files_of(chapter, tmp_path)
    with mailvane(shop, make_home) as home:
        done = subprocess.run(
            [sys.executable, PROGRAM, way, shop.url],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        first, at_commit, refused, last = json.loads(done.stdout)
        assert (first, last) == ("", "")
        assert "stays" in at_commit
        assert refused.startswith(f"{error}: ")
        assert "the event was not recorded: email: must be the address" in refused
        events = wait_for_rows(home, 2)
        assert [(e["event_type"], e["email"], e["listid"]) for e in events] == [
            ("engine_unsub", "One@example.com", "a1"),
            ("engine_unsub", "four@example.com", "a1"),
        ]
        assert shop.rows("SELECT id FROM subscribers WHERE NOT subscribed ORDER BY id") == [(1,), (4,)]


def test_every_chapter_with_code_is_run() -> None:
    assert {name for name, text in CHAPTERS.items() if "```python" in text} == {chapter for chapter, _ in WAYS.values()}


def test_an_application_has_no_other_right(shop: Shop, make_home: Callable[..., Home]) -> None:
    with mailvane(shop, make_home), psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("SET search_path = mailvane")
        for statement in (
            "SELECT * FROM events",
            "DELETE FROM events",
            "SELECT * FROM inbox",
            "INSERT INTO inbox (event) VALUES ('{}')",
            "SELECT * FROM kept",
            "SELECT mailvane_append('t', '{scomp}', '{a}', '{1}', '{x}', '{y}', '{}', '{}')",
            "CREATE TABLE mine ()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_the_page_s_words_on_what_is_recorded_hold(shop: Shop, make_home: Callable[..., Home]) -> None:
    """Many at once, a savepoint, a type that is off, an event that only the door refuses, the time of the call."""

    def event(email: str, **more: object) -> str:
        return json.dumps({"event_type": "engine_unsub", "email": email, **more})

    record = "SELECT mailvane.mailvane_record(%s::jsonb)"
    with mailvane(shop, make_home) as home:
        with psycopg.connect(shop.url) as connection:
            connection.execute(
                "SELECT mailvane.mailvane_record(e) FROM jsonb_array_elements(%s::jsonb) AS e",
                [f"[{event('a@example.com', event_time=5)}, {event('b@example.com', event_time=None)}]"],
            )
            with pytest.raises(psycopg.errors.InvalidParameterValue), connection.transaction():
                connection.execute(record, [event("gone@example.com")])
                connection.execute(record, [event("wrong@example.com", emial="x")])
            connection.execute(record, ['{"event_type": "scomp", "email": "off@example.com"}'])
            connection.execute(record, [event("door@example.com", event_time="yesterday")])
            connection.execute(record, [event("c@example.com")])
            (before,) = connection.execute("SELECT floor(extract(epoch FROM now()))").fetchone() or (0,)
        events = wait_for_rows(home, 3)
        assert [e["email"] for e in events] == ["a@example.com", "b@example.com", "c@example.com"]
        assert events[0]["event_time"] == 5
        assert all(before <= int(str(e["event_time"])) < before + 60 for e in events[1:])
        with psycopg.connect(shop.queue_url.partition("?")[0]) as operator:
            left = operator.execute("SELECT event ->> 'email', rejected FROM mailvane.inbox").fetchall()
        assert [email for email, _ in left] == ["door@example.com"] and "event_time" in left[0][1]


def test_what_was_recorded_while_nobody_ran_is_moved_later_with_its_own_time(
    shop: Shop, make_home: Callable[..., Home]
) -> None:
    with mailvane(shop, make_home) as home:
        pass
    with psycopg.connect(shop.url) as connection:
        (before,) = connection.execute("SELECT floor(extract(epoch FROM clock_timestamp()))").fetchone() or (0,)
        connection.execute(
            "SELECT mailvane.mailvane_record(%s::jsonb)", ['{"event_type": "engine_unsub", "email": "a@example.com"}']
        )
    with psycopg.connect(shop.queue_url.partition("?")[0]) as operator:
        (at,) = operator.execute("SELECT (event -> 'event_time')::int FROM mailvane.inbox").fetchone() or (0,)
    assert before <= at < before + 60
    home.run()
    (event,) = wait_for_rows(home, 1)
    assert (event["email"], event["event_time"]) == ("a@example.com", at)
