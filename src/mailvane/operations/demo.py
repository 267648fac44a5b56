"""`mailvane demo`: a tour on real mail, in a home of its own, by the commands that everybody uses.

The endpoint is down at first, so that events are seen waiting; it comes back, and they are seen arriving. Nothing is
slept through: each step waits for what it shows.
"""

import json
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, TextIO

import msgspec

from mailvane.operations.demo_processes import Child, DemoFailed, command, environment_for, until
from mailvane.operations.status import Status
from mailvane.queue.remote import OwnerClient

if TYPE_CHECKING:
    from rich.console import Console

MAILS = ("hard_bounce", "soft_bounce", "spam_complaint", "ordinary_mail")
ENABLED = ("bounce_all", "bounce_bad_address")
LEGACY = """\
{
  "configuration_mode": "json",
  "use_json_for_http_post": true,
  "event_destinations": [
    {
      "matches": {"all": true},
      "destination": {"type": "http_post", "url": "http://127.0.0.1:PORT/notification"}
    }
  ]
}
"""


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
class _Tour:
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


def demo(stay: bool, out: TextIO) -> int:
    """Runs the tour; returns the exit status. With `stay` everything runs on until Ctrl-C. Raises MailvaneError."""
    from rich.console import Console

    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that the processes end, too
    with (
        tempfile.TemporaryDirectory(prefix="mailvane-demo-") as folder,
        as_file(files("mailvane.operations").joinpath("demo_mails")) as mails,
    ):
        tour = _Tour(console, Path(folder) / "home", mails, free_port(), free_port())
        try:
            _go(tour)
            if stay:
                _stay(tour)
        except KeyboardInterrupt:
            console.print("\nended by Ctrl-C", style="yellow")
            return 0 if stay else 130
        finally:
            for process in reversed(tour.processes):
                process.end()
    return 0


def _go(tour: _Tour) -> None:
    tour.step("1. A home, with a configuration that sends every event to an endpoint. The endpoint is down.")
    tour.shell("mailvane init")
    command(["init"], tour.environment)
    with (tour.home / "mailvane.conf").open("a") as settings:
        settings.write(f"\nhttp_listen 127.0.0.1:{tour.api_port}\n")
    legacy = LEGACY.replace("PORT", str(tour.endpoint_port))
    (tour.home / "control" / "event_processor.json").write_text(legacy)
    for text in legacy.splitlines():
        tour.line("config", text)
    run = tour.start("run", who="mailvane")
    run.wait_for_line(" ready: ")

    tour.step("2. Types of events are switched on as the guide does it; spam complaints stay off for now.")
    for event_type in ENABLED:
        tour.enable(event_type)

    tour.step("3. Mail comes back: a spam complaint, whose type is off, so that nothing is recorded.")
    if any(event.recorded for event in tour.ingest("spam_complaint").events):
        raise DemoFailed("a type that is off was recorded")

    tour.step("4. Its type is switched on, which holds at once; then the other mails.")
    tour.enable("scomp")
    for name in MAILS:
        tour.taken_in.append(tour.ingest(name))
    recorded = {e.id for mail in tour.taken_in for e in mail.events if e.recorded}
    if len(recorded) != 4:
        raise DemoFailed(f"{len(recorded)} events were recorded, not 4")

    tour.step("5. The endpoint is down: the events wait, on disk. None is given up, however long it takes.")
    until(lambda: tour.status().destinations[0].last_error, "no attempt was made")
    report = tour.status()
    tour.line("status", f"{report.queue.events} events in the queue; {report.destinations[0].last_error}", "yellow")
    tour.table("while the endpoint is down")

    tour.step("6. The endpoint comes up. `events retry` spares us the wait.")
    endpoint = tour.start("listen", "--port", str(tour.endpoint_port), "--json", who="endpoint", json_lines=True)
    endpoint.wait_for_line("listening on")
    tour.shell("mailvane events retry --all")
    command(["events", "retry", "--all"], tour.environment)
    until(lambda: recorded <= tour.arrived, "not all events arrived at the endpoint")
    until(lambda: tour.status().queue.events == 0, "what was delivered was not removed")
    tour.table("after it came back: delivered, and removed from the queue")
    books = tour.status().books
    tour.line("status", f"{books.recorded} recorded, {books.delivered} delivered, {books.waiting} waiting", "green")


def _stay(tour: _Tour) -> None:
    tour.step("All of it keeps running. In another shell:")
    for text in (
        f"export MAILVANE_HOME={tour.home}",
        "mailvane trigger scomp email=me@example.com",
        "mailvane events status",
        "mailvane events list --all",
        f"mailvane ingest mail --explain {tour.mails}/soft_bounce.eml",
        f"curl -s http://127.0.0.1:{tour.api_port}/v1/status",
        "mailvane doctor",
    ):
        tour.console.print(f"  {text}", style="cyan")
    tour.console.print("Ctrl-C ends it, and removes its home.", style="bold")
    ended = threading.Event()
    while all(process.running for process in tour.processes):
        ended.wait(0.5)
    raise DemoFailed("a process has ended: " + ", ".join(str(p) for p in tour.processes if not p.running))


def free_port() -> int:
    """A port of this machine on which nothing listens, below those that the kernel gives to outgoing connections.

    It stays free while its server is down.
    """
    while True:
        port = SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
