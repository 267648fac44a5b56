"""What stands at the far end of each destination type: the real server, what arrived there, and what may go wrong."""

import json
import os
import platform
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import apsw
import psycopg
import pymysql
import pytest

from destinations.matrix.gate import Gate
from support.certificates import Authority
from support.endpoint import Answer, Endpoint, Never, Outcome, Raw, Request
from support.homes import Json, legacy, rule
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL

RIGHT, WRONG = "right/secret", "wrong/secret"
POISON = f"poison{'x' * 50}@example.com"
"""The address of an event that the far end will not have."""


@dataclass(frozen=True)
class Arrival:
    """An event as it arrived. `name`: the id that it has for the receiver, beside the queue's."""

    id: int
    name: str
    email: str
    text: str


class FarEnd(Protocol):
    """One trouble at a time is made, by the method of its name, and ended by `mend`."""

    version: str
    """As the server reports it."""

    def document(self, wrong: bool = False, neighbour: str = "") -> dict[str, Json]:
        """event_processor.json that leads here (`wrong`: with a wrong secret), and for `scomp` to a neighbour's URL."""
        ...

    def arrived(self) -> list[Arrival]: ...

    def count(self) -> int:
        """How many have arrived."""
        ...

    def fail(self) -> None:
        """Each attempt fails."""
        ...

    def go_away(self) -> None: ...

    def stall(self) -> None:
        """Nothing is answered."""
        ...

    def stalled(self) -> bool:
        """Whether something waits for an answer, as far as it is known here."""
        ...

    def talk_rubbish(self) -> None: ...

    def mend(self) -> None: ...


# HTTP


class HttpEnd:
    """The tests' own endpoint; it wants RIGHT in the query, and has no events of POISON."""

    def __init__(self, endpoint: Endpoint, as_json: bool, version: str) -> None:
        self.version = version
        self._endpoint = endpoint
        self._json = as_json
        self._says: Outcome = 200
        self._not_taken: set[int] = set()
        """Numbers of requests that were answered 200, and not as it should be."""
        endpoint.answer = self._answer

    def document(self, wrong: bool = False, neighbour: str = "") -> dict[str, Json]:
        url = self._endpoint.url(f"/hook?token={WRONG if wrong else RIGHT}")
        return legacy(*_neighbour(neighbour), rule("http_post", url=url), use_json=self._json)

    def _answer(self, request: Request) -> Outcome:
        if not request.path.endswith(RIGHT):
            return 401
        if self._says is NOT_OK:
            self._not_taken.add(request.number)
        return 422 if request.events[0]["email"] == POISON else self._says

    def arrived(self) -> list[Arrival]:
        answered = [request for request, status in list(self._endpoint.answered) if status == 200]
        return [_posted(request) for request in answered if request.number not in self._not_taken]

    def count(self) -> int:
        return len(self._endpoint.answered)

    def fail(self) -> None:
        self._says = 500

    def go_away(self) -> None:
        self._endpoint.stop()

    def stall(self) -> None:
        self._says = Never()

    def stalled(self) -> bool:
        return len(self._endpoint.requests) > len(self._endpoint.answered)

    def talk_rubbish(self) -> None:
        self._says = NO_HTTP if self._json else NOT_OK

    def mend(self) -> None:
        self._says = 200
        self._endpoint.start()


NO_HTTP = Raw([b"\x15\x03\x03 what is a webhook?\r\n\r\n"])
NOT_OK = Answer(200, b"error: no such list")


def _posted(request: Request) -> Arrival:
    (event,) = request.events
    return Arrival(int(event["id"]), request.webhook_id, event["email"], event.get("bounce_text", ""))


def _neighbour(url: str) -> list[dict[str, Json]]:
    return [rule("http_post", {"event_type": "scomp"}, url=url)] if url else []


# SQL


@dataclass(frozen=True)
class Login:
    """How the configuration gets to a database; `secret`: where the password stands (not at all in a file's)."""

    type: str
    dsn: str
    secret: bool = True


CREATE = "CREATE TABLE received (id bigint, name varchar(64), email varchar(40){check}, text text)"
"""With no key: what comes twice is seen twice. docs/destinations-sql.md has the statement that makes that harmless."""
INSERT = "INSERT INTO received (id, name, email, text) VALUES (?, ?, ?, ?)"
BIND = ["id", "event_unique_id", "email", "bounce_text"]
Query = Callable[[str], list[tuple[Any, ...]]]
Hold = Callable[[], AbstractContextManager[object]]


class SqlEnd:
    """A table. `hold` keeps it locked for as long as its context is open."""

    def __init__(
        self, login: Login, version: str, query: Query, hold: Hold, place: "Gate | Path", check: str = ""
    ) -> None:
        self.version = version
        self._login = login
        self._query = query
        self._hold = hold
        self._place = place
        self._mend = ExitStack()
        query(CREATE.format(check=check))

    def document(self, wrong: bool = False, neighbour: str = "") -> dict[str, Json]:
        login: dict[str, Json] = {"db_dsn": self._login.dsn, "sql": INSERT, "bind_list": BIND}
        if self._login.secret:
            login |= {"db_username": "mailvane", "db_password": WRONG if wrong else PASSWORD}
        return legacy(*_neighbour(neighbour), rule(self._login.type, **login))

    def arrived(self) -> list[Arrival]:
        return [Arrival(*row) for row in self._query("SELECT id, name, email, text FROM received")]

    def count(self) -> int:
        return self._query("SELECT count(*) FROM received")[0][0]

    def fail(self) -> None:
        """The table is not there."""
        self._query("ALTER TABLE received RENAME TO aside")
        self._mend.callback(self._query, "ALTER TABLE aside RENAME TO received")

    def go_away(self) -> None:
        if isinstance(self._place, Gate):
            self._place.shut()
            self._mend.callback(self._place.start)
        else:
            self._mend.enter_context(_moved_away(self._place))

    def stall(self) -> None:
        self._mend.enter_context(self._hold())

    def stalled(self) -> bool:
        return False

    def talk_rubbish(self) -> None:
        if isinstance(self._place, Gate):
            gate = self._place
            gate.rubbish = True
            self._mend.callback(setattr, gate, "rubbish", False)
        else:
            self._mend.enter_context(_moved_away(self._place))
            self._place.write_bytes(b"this is no database\n" * 100)
            self._mend.callback(self._place.unlink)

    def mend(self) -> None:
        self._mend.close()


PASSWORD = "test/secret"


@contextmanager
def _moved_away(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


@contextmanager
def _mariadb(server: MariaDB, url: str, as_custom: bool) -> Iterator[SqlEnd]:
    database = urlsplit(url).path[1:]

    @contextmanager
    def hold() -> Iterator[None]:
        with pymysql.connect(unix_socket=str(server.socket), user="root", database=database) as session:
            with session.cursor() as cursor:
                cursor.execute("LOCK TABLES received WRITE")
                yield

    with Gate(server.port) as gate:
        url_here = f"mysql://127.0.0.1:{gate.port}/{database}"
        dbi = f"DBI:mysql:database={database};host=127.0.0.1;port={gate.port}"
        login = Login("custom_sql", dbi) if as_custom else Login("mysql", url_here)
        yield SqlEnd(login, f"MariaDB {server.version()}", lambda sql: server.query(sql, url=url), hold, gate)


@contextmanager
def _postgresql(server: PostgreSQL, url: str) -> Iterator[SqlEnd]:
    database = urlsplit(url).path[1:]

    @contextmanager
    def hold() -> Iterator[None]:
        with psycopg.connect(host=str(server.folder), port=server.port, user="postgres", dbname=database) as session:
            session.execute("LOCK TABLE received IN ACCESS EXCLUSIVE MODE")
            yield

    with Gate(server.port) as gate:
        login = Login("postgresql", f"postgresql://127.0.0.1:{gate.port}/{database}")
        yield SqlEnd(login, f"PostgreSQL {server.version()}", lambda sql: server.query(sql, url=url), hold, gate)


def _sqlite(folder: Path) -> SqlEnd:
    file = folder / "received.db"

    def query(sql: str) -> list[tuple[Any, ...]]:
        database = apsw.Connection(str(file))
        database.set_busy_timeout(10_000)
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()

    @contextmanager
    def hold() -> Iterator[None]:
        database = apsw.Connection(str(file))
        try:
            database.execute("BEGIN IMMEDIATE")
            yield
        finally:
            database.close()

    version = f"SQLite {apsw.sqlite_lib_version()}"
    return SqlEnd(Login("sqlite", f"sqlite:{file}", False), version, query, hold, file, " CHECK (length(email) <= 40)")


# A log file


class LogFileEnd:
    """A log file alone: with other destinations it would stand beside them, so it has no neighbour."""

    def __init__(self, folder: Path) -> None:
        self.version = f"{platform.system()} {platform.release()}"
        self._folder = folder / "log"
        self._folder.mkdir()
        self._file = self._folder / "events.log"
        self._mend = ExitStack()
        self._hangs = threading.Event()

    def document(self, wrong: bool = False, neighbour: str = "") -> dict[str, Json]:
        return {"logfile": {"filename": str(self._file)}}

    def arrived(self) -> list[Arrival]:
        lines = self._file.read_bytes().splitlines() if self._file.exists() else []
        return [Arrival(e["id"], "", e["email"], e.get("bounce_text", "")) for e in map(json.loads, lines)]

    def count(self) -> int:
        return self._file.read_bytes().count(b"\n") if self._file.exists() else 0

    def fail(self) -> None:
        """A folder has its place."""
        self._file.mkdir()
        self._mend.callback(self._file.rmdir)

    def go_away(self) -> None:
        self._mend.enter_context(_moved_away(self._folder))

    def stall(self) -> None:
        """The disk does not answer."""
        goes_on, real = threading.Event(), os.fdatasync

        def hang(file: int) -> None:
            self._hangs.set()
            goes_on.wait(60)
            real(file)

        os.fdatasync = hang
        self._mend.callback(goes_on.set)
        self._mend.callback(setattr, os, "fdatasync", real)

    def stalled(self) -> bool:
        return self._hangs.is_set()

    def talk_rubbish(self) -> None:
        """A symbolic link to a file of somebody else's stands there."""
        other = self._folder / "other"
        other.write_bytes(b"not ours\n")
        self._file.symlink_to(other)
        self._mend.callback(lambda: self._assert_untouched(other))

    def _assert_untouched(self, other: Path) -> None:
        self._file.unlink()
        assert other.read_bytes() == b"not ours\n"

    def mend(self) -> None:
        self._mend.close()


@contextmanager
def far_end(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[FarEnd]:
    """What stands at the far end of the type of this name, with nothing in it; a trouble ends with it."""
    with ExitStack() as stack:
        made = stack.enter_context(_made(name, request, folder))
        stack.callback(made.mend)
        yield made


@contextmanager
def _made(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[FarEnd]:
    kind, _, how = name.partition(": ")
    match kind:
        case "http_post":
            form, scheme = how.split(", ")
            authority: Authority = request.getfixturevalue("authority")
            tls = scheme == "https"
            version = f"the tests' endpoint, Python {platform.python_version()}" + f", {ssl.OPENSSL_VERSION}" * tls
            with Endpoint(certificate=authority.good() if tls else None) as endpoint:
                yield HttpEnd(endpoint, form == "JSON", version)
        case "mysql" | "custom_sql":
            server, url = request.getfixturevalue("mariadb"), request.getfixturevalue("mariadb_url")
            with _mariadb(server, url, kind == "custom_sql") as end:
                yield end
        case "postgresql":
            with _postgresql(request.getfixturevalue("postgresql"), request.getfixturevalue("postgresql_url")) as end:
                yield end
        case "sqlite":
            yield _sqlite(folder)
        case "logfile":
            yield LogFileEnd(folder)
        case _:
            raise AssertionError(f"nobody stands at the far end of {name}: add it to far_ends.py")
