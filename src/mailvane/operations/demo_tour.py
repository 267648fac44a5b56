"""What the demo has, does and shows: its home and processes, what was taken in and what arrived, line by line."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
    taken_in: list[_Ingested] = field(default_factory=list[_Ingested])
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

    def table(self, title: str) -> None:
        """Mail, kind, events, how many wait, how many arrived."""
        from rich.table import Table

        table = Table("mail", "kind", "events", "waiting", "delivered", title=title, title_justify="left")
        for mail in self.taken_in:
            recorded = [e for e in mail.events if e.recorded]
            off = [e.event_type for e in mail.events if not e.recorded]
            names = ", ".join([e.event_type for e in recorded] + [f"({name}: off)" for name in off]) or "-"
            delivered = sum(1 for e in recorded if e.id in self.arrived)
            counts = [str(n) if n else "-" for n in (len(recorded) - delivered, delivered)]
            table.add_row(Path(mail.file).name, mail.kind, names, *counts)
        with self._lock:
            self.console.print()
            self.console.print(table)

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

    def enable(self, event_type: str) -> None:
        """As the guide does it."""
        switch = Path("control") / f"record_events.simplemh.{event_type}"
        self.shell(f"echo 1 > {switch}")
        (self.home / switch).write_text("1\n")

    def ingest(self, name: str) -> _Ingested:
        self.shell(f"mailvane ingest mail {name}.eml")
        said = command(["ingest", "mail", "--json", str(self.mails / f"{name}.eml")], self.environment)
        done = msgspec.json.decode(said, type=_Ingested)
        self.line("mail", f"{done.kind}: {done.reason}")
        for event in done.events:
            became = f"recorded as event {event.id}" if event.recorded else "not recorded: its type is off"
            self.line("mail", f"{event.event_type} of {event.email}: {became}", "" if event.recorded else "yellow")
        return done

    def status(self) -> Status:
        client = OwnerClient(str(self.home / "mailvane.sock"))
        try:
            return msgspec.json.decode(client.request("GET", "/v1/status"), type=Status)
        finally:
            client.close()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
