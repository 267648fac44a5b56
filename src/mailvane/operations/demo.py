"""`mailvane demo`: the story of GreenArrow's guide on real mail, in a home of its own, by commands that everybody uses.

What happens is in `demo_story`. Nothing is slept through: each step waits for what it shows.
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

from mailvane.operations.demo_processes import DemoFailed
from mailvane.operations.demo_story import play
from mailvane.operations.demo_tour import Tour


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
            play(tour)
            if stay:
                _stay(tour)
        except KeyboardInterrupt:
            console.print("\nended by Ctrl-C", style="yellow")
            return 0 if stay else 130
        finally:
            for process in reversed(tour.processes):
                process.end()
    return 0


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
