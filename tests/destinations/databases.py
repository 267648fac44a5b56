"""A table in each kind of database, and the destination that fills it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from destinations.adversary import Names
from mailvane.clock import SystemClock
from mailvane.destinations.addresses import Policy
from mailvane.destinations.contract import Database, Outcome, Outgoing, SqlStatement
from mailvane.destinations.dial import Limits
from mailvane.destinations.sql import SqlDestination
from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form

EPOCH = "k3v9"
ROOMY = Limits(connect=20, attempt=40)
TABLE = {
    Database.MYSQL: "CREATE TABLE t (id bigint, name varchar(64) UNIQUE, email varchar(40), code int) ENGINE=InnoDB",
    Database.POSTGRESQL: "CREATE TABLE t (id bigint, name varchar(64) UNIQUE, email varchar(40), code int)",
    Database.SQLITE: "CREATE TABLE t (id bigint, name text UNIQUE, email text CHECK (length(email) <= 40), code int)",
}
INSERT = "INSERT INTO t (id, name, email, code) VALUES (?, ?, ?, ?)"
HARMLESS = {
    Database.MYSQL: f"{INSERT} ON DUPLICATE KEY UPDATE name = name",
    Database.POSTGRESQL: f"{INSERT} ON CONFLICT (name) DO NOTHING",
    Database.SQLITE: f"{INSERT} ON CONFLICT (name) DO NOTHING",
}
BIND = ("id", "event_unique_id", "email", "bounce_code")


@dataclass(frozen=True)
class Place:
    """An empty database. `query` runs a statement beside the destination, as its administrator."""

    database: Database
    url: str
    query: Callable[[str], list[tuple[Any, ...]]]

    def make(self) -> "Place":
        self.query(TABLE[self.database])
        return self

    def insert(self, harmless: bool = True) -> SqlStatement:
        return SqlStatement(self.database, self.url, HARMLESS[self.database] if harmless else INSERT, BIND)

    def statement(self, sql: str, *bind: str) -> SqlStatement:
        return SqlStatement(self.database, self.url, sql, bind)

    def ids(self) -> list[int]:
        return [i for (i,) in self.query("SELECT id FROM t ORDER BY id")]


def sqlite_place(folder: Path) -> Place:
    file = folder / "events.db"

    def query(sql: str) -> list[tuple[Any, ...]]:
        db = apsw.Connection(str(file))
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    query("PRAGMA journal_mode = WAL")
    return Place(Database.SQLITE, f"sqlite:{file}", query)


def outgoing(number: int, event: Event | None = None, attempt: int = 1) -> Outgoing:
    form = stored_form(event or Event(event_type="bounce_all", email=f"user{number}@example.com", bounce_code=10))
    return Outgoing(number, attempt, form.body, form.extra, form.valued)


def batch(*numbers: int) -> list[Outgoing]:
    return [outgoing(number) for number in numbers]


@contextlib.asynccontextmanager
async def destination(
    spec: SqlStatement,
    *,
    limits: Limits = ROOMY,
    policy: Policy | None = None,
    names: Names | None = None,
    tls_ca_file: str = "",
    reveal: Callable[[str], str] = lambda value: value,
) -> AsyncIterator[SqlDestination]:
    made = SqlDestination(
        spec,
        epoch=EPOCH,
        policy=policy or Policy(),
        resolver=names or Names(["127.0.0.1"]),
        clock=SystemClock(),
        reveal=reveal,
        tls_ca_file=tls_ca_file,
        limits=limits,
    )
    try:
        yield made
    finally:
        await made.close()


class Answers:
    """What became of a batch, part by part; `note` sees each part as it is answered."""

    def __init__(self, note: Callable[[Sequence[Outgoing]], None] = lambda part: None) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.parts: list[list[int]] = []
        self._note = note
        self._all = asyncio.Event()
        self._expected = 0
        self._wrong: AssertionError | None = None

    async def of(self, to: SqlDestination, events: Sequence[Outgoing]) -> dict[int, Outcome]:
        self.send(to, events)
        return await self.all()

    async def all(self) -> dict[int, Outcome]:
        """When everything that was sent is answered."""
        await self._all.wait()
        if self._wrong is not None:
            raise self._wrong
        return self.outcomes

    def send(self, to: SqlDestination, events: Sequence[Outgoing]) -> None:
        self._expected += len(events)
        self._all.clear()
        to.send(events, self._done)

    def _done(self, part: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        assert len(part) == len(outcomes) > 0
        for event, outcome in zip(part, outcomes, strict=True):
            assert event.id not in self.outcomes, "answered once"
            self.outcomes[event.id] = outcome
        self.parts.append([event.id for event in part])
        try:
            self._note(part)
        except AssertionError as wrong:  # told to the test, not to the destination
            self._wrong = wrong
        if len(self.outcomes) == self._expected:
            self._all.set()


async def deliver(to: SqlDestination, events: Sequence[Outgoing]) -> dict[int, Outcome]:
    """What became of each event of a batch."""
    return await Answers().of(to, events)


def configuration(spec: SqlStatement) -> str:
    """event_processor.json with the statement for all events."""
    destination = {"type": spec.database, "db_dsn": spec.dsn, "sql": spec.sql, "bind_list": list(spec.bind)}
    return json.dumps({"event_destinations": [{"matches": {"all": True}, "destination": destination}]})
