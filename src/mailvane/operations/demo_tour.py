"""What the demo has, does and shows: its home and processes, what it types, what arrived, line by line."""

import json
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import msgspec

from mailvane.operations.demo_processes import Child, command, environment_for
from mailvane.operations.status import Status
from mailvane.queue.remote import OwnerClient

if TYPE_CHECKING:
    from rich.console import Console


class _Event(msgspec.Struct):
    event_type: str
    email: str
    recorded: bool
    id: int = 0


class _Ingested(msgspec.Struct):
    file: str
    kind: str
    reason: str
    events: list[_Event]


class _Result(msgspec.Struct):
    id: int = 0


class _Recorded(msgspec.Struct):
    results: list[_Result]


class _Arrived(msgspec.Struct):
    id: int
    event_type: str = ""
    email: str = ""


class _Request(msgspec.Struct):
    path: str
    events: list[_Arrived]
    status: int


@dataclass
class Tour:
    """What the demo has, and what happened so far."""

    console: "Console"
    home: Path
    mails: Path
    endpoint_port: int
    api_port: int
    processes: list[Child] = field(default_factory=list[Child])
    arrived: set[int] = field(default_factory=set[int])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.environment = environment_for(str(self.home))

    # What is printed.

    def step(self, text: str) -> None:
        with self._lock:
            self.console.print()
            self.console.print(text, style="bold")

    def line(self, who: str, text: str, style: str = "") -> None:
        with self._lock:
            self.console.print(f"  {who.ljust(8)} │ ", style="dim", end="")
            self.console.print(_printable(text), style=style)

    def shell(self, text: str) -> None:
        self.line("shell", f"$ {text}", "cyan")

    # What is done.

    def start(self, *arguments: str, who: str, json_lines: bool = False) -> Child:
        self.shell("mailvane " + " ".join(arguments))

        def show(line: str) -> None:
            if json_lines and line.startswith("{"):
                self._request(msgspec.json.decode(line, type=_Request))
            else:
                style = "red" if " error: " in line else "yellow" if " warning: " in line else ""
                self.line(who, line, style)

        child = Child(arguments, self.environment, show)
        self.processes.append(child)
        return child

    def _request(self, request: _Request) -> None:
        for event in request.events:
            self.line("endpoint", f"POST {request.path}: event {event.id}, {event.event_type} of {event.email},"
                      f" answered {request.status}", "green")  # fmt: skip
            if request.status < 300:
                self.arrived.add(event.id)

    def type(self, *words: str) -> str:
        """A command, as people type it; what it prints. Raises DemoFailed if it fails."""
        self.shell(shlex.join(["mailvane", *words]))
        return command(words, self.environment)

    def write(self, path: str, text: str, shown: str = "") -> None:
        """A file in home, as people write it."""
        self.shell(shown or f"cat > {path}")
        if not shown:
            for line in text.splitlines():
                self.line("file", line)
        (self.home / path).write_text(text)

    def ingest(self, name: str) -> list[int]:
        """A mail that came back; the ids of what was recorded."""
        self.shell(f"mailvane ingest mail {name}.eml")
        said = command(["ingest", "mail", "--json", str(self.mails / f"{name}.eml")], self.environment)
        done = msgspec.json.decode(said, type=_Ingested)
        self.line("mail", f"{done.kind}: {done.reason}")
        for event in done.events:
            became = f"recorded as event {event.id}" if event.recorded else "not recorded: its type is off"
            self.line("mail", f"{event.event_type} of {event.email}: {became}", "" if event.recorded else "yellow")
        return [event.id for event in done.events if event.recorded]

    def post(self, *events: Mapping[str, str | int]) -> list[int]:
        """Events of a program's, by the API; the ids of what was recorded."""
        lines = "\n".join(msgspec.json.encode(event).decode() for event in events)
        self.shell(f"curl --data-binary @- http://127.0.0.1:{self.api_port}/v1/events")
        client = OwnerClient(str(self.home / "mailvane.sock"))
        try:
            said = client.request("POST", "/v1/events", lines.encode(), "application/x-ndjson")
        finally:
            client.close()
        results = msgspec.json.decode(said, type=_Recorded).results
        for event, result in zip(events, results, strict=True):
            became = f"recorded as event {result.id}" if result.id else "not recorded: its type is off"
            text = f"{event['event_type']} of {event['email']}: {became}"
            self.line("api", text, "" if result.id else "yellow")
        return [result.id for result in results if result.id]

    def make(self, database: Path, statement: str) -> None:
        """A table in a database of one's own."""
        self.shell(f'sqlite3 {database.name} "{statement}"')
        db = apsw.Connection(str(database))
        try:
            db.execute(statement)
        finally:
            db.close()

    def look(self, database: Path, statement: str) -> list[tuple[str, ...]]:
        """The rows that a query gives, shown as sqlite3 shows them."""
        self.shell(f'sqlite3 {database.name} "{statement}"')
        db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            rows = [tuple(str(value) for value in row) for row in db.execute(statement)]
        finally:
            db.close()
        for row in rows:
            self.line("sqlite3", "|".join(row))
        return rows

    def status(self) -> Status:
        client = OwnerClient(str(self.home / "mailvane.sock"))
        try:
            return msgspec.json.decode(client.request("GET", "/v1/status"), type=Status)
        finally:
            client.close()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
