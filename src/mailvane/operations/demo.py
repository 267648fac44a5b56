"""`mailvane demo`: a tour on real mail, in a home of its own, by the commands that everybody uses.

The endpoint is down at first, so that events are seen waiting; it comes back, and they are seen arriving. Nothing is
slept through: each step waits for what it shows.
"""

import signal
import socket
import sys
import tempfile
import threading
from importlib.resources import as_file, files
from pathlib import Path
from random import SystemRandom
from typing import TextIO

from mailvane.operations.demo_processes import DemoFailed, command, until
from mailvane.operations.demo_tour import Tour

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


def demo(stay: bool, out: TextIO) -> int:
    """Runs the tour; returns the exit status. With `stay` everything runs on until Ctrl-C. Raises MailvaneError."""
    from rich.console import Console

    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that the processes end, too
    with (
        tempfile.TemporaryDirectory(prefix="mailvane-demo-") as folder,
        as_file(files("mailvane.operations").joinpath("demo_mails")) as mails,
    ):
        tour = Tour(console, Path(folder) / "home", mails, free_port(), free_port())
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


def _go(tour: Tour) -> None:
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


def _stay(tour: Tour) -> None:
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
