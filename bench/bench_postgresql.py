"""PostgreSQL as the queue: durable records a second, and events a second end to end.

The server syncs each commit to disk, as it does out of the box (the tests' own does not). All its processes are pinned
to the sink's core, and whoever speaks to it, be it mailvane or what it is measured against, has the other core alone:
so does mailvane with the SQLite queue, whose work is in its own process.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from drivers.homes import fill, make, point, rule
from measure import HERE, Figure, Work, compare, pinned, plain_sink

sys.path.append(str(HERE.parent / "tests"))

from support.postgresql import PostgreSQL

PRODUCERS = 64
EVENTS = 100_000


def run(work: Work) -> list[Figure]:
    with _server(work) as server:
        return [_recording(work, server), _delivery(work, server)]


@contextlib.contextmanager
def _server(work: Work) -> Iterator[PostgreSQL]:
    """It syncs, and is pinned; so is every session that it starts from then on."""
    with PostgreSQL({"fsync": "on", "shared_buffers": "128MB"}) as server:
        if work.sink_core in os.sched_getaffinity(0):
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            for pid in (server.pid, *map(int, children)):
                os.sched_setaffinity(pid, {work.sink_core})
        yield server


@contextlib.contextmanager
def _home(work: Work, server: PostgreSQL, name: str) -> Iterator[Path]:
    """A home with a database of its own as its queue."""
    url = server.database()
    home = make(work.folder / name, f'queue "{url}"')
    try:
        yield home
    finally:
        shutil.rmtree(home)
        server.drop(url)
        server.query("CHECKPOINT")  # what this round left to be written is not the next one's


def _recording(work: Work, server: PostgreSQL) -> Figure:
    def records() -> float:
        with _home(work, server, "recording-postgresql") as home:
            return _said(work, "record.py", home, PRODUCERS, work.seconds)

    def alone() -> float:
        url = server.database()
        try:
            return _said(work, "insert_alone.py", url, PRODUCERS, work.seconds)
        finally:
            server.drop(url)
            server.query("CHECKPOINT")

    result = compare(work, records, alone)
    return Figure(
        "postgresql_recording",
        f"durable records a second, {PRODUCERS} producers, PostgreSQL, over {PRODUCERS} connections of the same driver"
        " that INSERT and commit alone",
        "×",
        result.ratios,
        3.0,
        beside=result.beside("records/s", "INSERTs/s"),
        note=f"PostgreSQL {server.version()}, fsync on",
    )


def _delivery(work: Work, server: PostgreSQL) -> Figure:
    with plain_sink(work) as endpoint:

        def deliver(home: Path) -> float:
            fill(home, EVENTS)
            point(home, rule(endpoint.url))
            return EVENTS / _said(work, "deliver.py", home)

        def on_postgresql() -> float:
            with _home(work, server, "delivery-postgresql") as home:
                return deliver(home)

        def on_sqlite() -> float:
            home = make(work.folder / "delivery-sqlite")
            try:
                return deliver(home)
            finally:
                shutil.rmtree(home)

        result = compare(work, on_postgresql, on_sqlite)
    return Figure(
        "postgresql_delivery",
        "events a second end to end, single POSTs, PostgreSQL queue, over the same with the SQLite queue",
        "×",
        result.ratios,
        0.7,
        beside=result.beside("events/s", "events/s with SQLite"),
        note=f"PostgreSQL {server.version()}, fsync on, on the sink's core",
    )


def _said(work: Work, driver: str, *arguments: object) -> float:
    """The number that a driver prints; it has a core to itself."""
    command = pinned(work.core, sys.executable, HERE / "drivers" / driver, *map(str, arguments))
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
