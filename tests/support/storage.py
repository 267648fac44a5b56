"""Programs that record until something happens to them, and what is on disk afterwards.

Run as a program (`python storage.py HOME …`) it records and prints each acknowledgement in one write, so that what a
test has read was acknowledged, whatever happens next.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from mailvane import AsyncRecorder, Event, QueueUnavailable, Recorder
from mailvane.configuration.home import init
from mailvane.events.codecs import legacy_values
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Filter
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.ownership import Lock
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.short import Places
from mailvane.queue.sqlite import SQLiteWriter

PROGRAM = Path(__file__)
WEAKEN = "WEAKEN_WRITER"
"""Environment variable: a pragma for the writing connection, to see a test turn red."""


# What tests do


def places(home: Path) -> Places:
    """The files of a home's queue."""
    return Places(str(home / "queue.db"), str(home / "queue.lock"), str(home / "mailvane.sock"), str(home / "ballast"))


def recording_home(folder: Path, *event_types: str) -> Path:
    """A home that records these types (bounce_all unless told otherwise)."""
    home = folder / "h"
    init(home)
    for event_type in event_types or ("bounce_all",):
        (home / "control" / f"record_events.simplemh.{event_type}").write_text("1\n")
    return home


def command(home: Path, *options: str) -> list[str]:
    """The command line of a recording program."""
    return [sys.executable, str(PROGRAM), str(home), *options]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", **more}


@dataclass(frozen=True)
class Said:
    """What a program printed: names acknowledged with their ids, names refused with the reason, in order."""

    acknowledged: Mapping[str, int]
    refused: Mapping[str, str]
    order: Sequence[str]

    @classmethod
    def in_text(cls, text: str) -> "Said":
        acknowledged: dict[str, int] = {}
        refused: dict[str, str] = {}
        order: list[str] = []
        for line in text.splitlines(keepends=True):
            kind, *rest = line.rstrip("\n").split(" ", 2)
            if not line.endswith("\n") or len(rest) < 2:
                continue
            if kind == "acked":
                acknowledged[rest[1]] = int(rest[0])
                order.append(kind)
            elif kind == "refused":
                refused[rest[0]] = rest[1]
                order.append(kind)
        return cls(acknowledged, refused, order)


def stored(home: Path) -> dict[str, int]:
    """The names of the events in a queue, with their ids; every body is read, so nothing half-written passes."""
    reader = SQLiteReader(str(home / "queue.db"))
    try:
        found: dict[str, int] = {}
        after = 0
        while page := reader.select(Filter(), after, 1000):
            for row in page:
                values = legacy_values(row.id, row.body)
                assert values["email"] == f"{values['click_tracking_id']}@example.com"
                assert str(values["click_tracking_id"]) not in found, "recorded twice"
                found[str(values["click_tracking_id"])] = row.id
            after = page[-1].id
        assert reader.books().waiting == len(found)
        return found
    finally:
        reader.close()


def problems_of(home: Path) -> list[str]:
    """What SQLite's own check finds wrong with a database."""
    db = apsw.Connection(str(home / "queue.db"))
    try:
        said = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
        return [] if said == ["ok"] else said
    finally:
        db.close()


# What strace saw

_CALL = re.compile(r"^(?P<pid>\d+)\s+(?P<name>\w+)\((?P<fd>\d+)(?:<(?P<path>[^>]*)>)?(?P<rest>.*)$")
_UNFINISHED = re.compile(r"^(?P<pid>\d+)\s+(?P<start>.*?)\s*<unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(?P<pid>\d+)\s+<\.\.\. (?P<name>\w+) resumed>(?P<end>.*)$")
TRACE = "trace=pwrite64,write,fdatasync,fsync"


@dataclass(frozen=True)
class Call:
    name: str
    path: str
    text: str
    done: bool


def calls(trace: str) -> Iterable[Call]:
    """System calls of a trace (`strace -f -y`) in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if found := _UNFINISHED.match(line):
            begun[found["pid"]] = f"{found['pid']} {found['start']}"
            continue
        if found := _RESUMED.match(line):
            line = begun.pop(found["pid"], found["pid"]) + found["end"]
        if found := _CALL.match(line):
            result = found["rest"].rpartition("= ")[2].strip()
            yield Call(found["name"], found["path"] or "", found["rest"], bool(result) and result[0].isdigit())


def unsynced_acknowledgements(trace: str) -> tuple[int, list[str]]:
    """How many events were acknowledged in a trace of one producer, and which of them before they were on disk.

    Between `offer` and `acked` there must be a write to the log, and after the last one a sync of the log that did it.
    """
    acknowledged = 0
    wrong: list[str] = []
    written = synced = False
    for call in calls(trace):
        if call.path.endswith("-wal"):
            if call.name == "pwrite64":
                written, synced = True, False
            elif call.done:
                synced = True
        elif call.name == "write" and call.text.startswith(', "offer '):
            written = synced = False
        elif call.name == "write" and call.text.startswith(', "acked '):
            acknowledged += 1
            if not (written and synced):
                wrong.append(call.text)
    return acknowledged, wrong


def syncs_of_the_log(trace: str) -> int:
    return sum(1 for call in calls(trace) if call.name != "pwrite64" and call.path.endswith("-wal") and call.done)


def shell(sqlite3: str, home: Path, *statements: str) -> subprocess.CompletedProcess[str]:
    """What a person's sqlite3 shell says to statements."""
    return subprocess.run(
        [sqlite3, "-batch", str(home / "queue.db"), *statements], capture_output=True, text=True, check=False
    )


# The program


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _event(name: str, padding: int) -> Event:
    text = "x" * padding
    return Event(event_type="bounce_all", email=f"{name}@example.com", click_tracking_id=name, bounce_text=text)


def _record_by_threads(home: Path, options: argparse.Namespace) -> None:
    recorder = Recorder(home)

    def work(thread: int) -> None:
        for number in range(options.count):
            name = f"{options.name}-{thread}-{number}"
            _say(f"offer {name}")
            try:
                _say(f"acked {recorder.record(_event(name, options.padding))} {name}")
            except QueueUnavailable as e:
                _say(f"refused {name} {e}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()


async def _record_by_tasks(home: Path, options: argparse.Namespace) -> None:
    async with AsyncRecorder(home) as recorder:

        async def work(task: int) -> None:
            for number in range(options.count):
                name = f"{options.name}-{task}-{number}"
                _say(f"offer {name}")
                try:
                    _say(f"acked {await recorder.record(_event(name, options.padding))} {name}")
                except QueueUnavailable as e:
                    _say(f"refused {name} {e}")

        await asyncio.gather(*[work(n) for n in range(options.threads)])


async def _record_as_owner(home: Path, options: argparse.Namespace) -> None:
    from mailvane.events.codecs import stored_form

    lock = Lock(places(home).lock, "a test")
    assert lock.take()
    queue = SQLiteQueue(places(home).database, Ballast(places(home).ballast), asyncio.get_running_loop())
    try:

        async def work(task: int) -> None:
            for number in range(options.count):
                name = f"{options.name}-{task}-{number}"
                _say(f"offer {name}")
                try:
                    (event_id,) = await queue.append([stored_form(_event(name, options.padding))])
                    _say(f"acked {event_id} {name}")
                except QueueUnavailable as e:
                    _say(f"refused {name} {e}")

        await asyncio.gather(*[work(n) for n in range(options.threads)])
    finally:
        await queue.close()
        lock.release()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--as", dest="way", choices=["recorder", "async", "owner"], default="recorder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--padding", type=int, default=100)
    parser.add_argument("--name", default="e")
    options = parser.parse_args()
    if pragma := os.environ.get(WEAKEN):
        _weaken(pragma)
    _say("begin")
    match options.way:
        case "recorder":
            _record_by_threads(options.home, options)
        case "async":
            asyncio.run(_record_by_tasks(options.home, options))
        case _:
            asyncio.run(_record_as_owner(options.home, options))
    _say(json.dumps({"ended": True}))


def _weaken(pragma: str) -> None:
    strong = SQLiteWriter.__init__

    def weak(self: SQLiteWriter, path: str) -> None:
        strong(self, path)
        self._db.execute(pragma)  # pyright: ignore[reportPrivateUsage]

    SQLiteWriter.__init__ = weak


if __name__ == "__main__":
    main()
