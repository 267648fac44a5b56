"""A program that is killed (SIGKILL to itself) at every write, sync, truncation and removal of what it does to a queue.

`python kill_points.py FOLDER ACT MOST`: for about MOST of the points the folder is made anew, a child does the act and
dies there, and what is left is looked at. Prints a JSON line for each, first that of the act done without a kill. At
every other point half of the write has come to pass: `torn`.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Failed, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.migrate import migrate
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.statements import statements

ROWS = 300
OLD = Path(__file__).parents[1] / "data" / "queue" / "schema_1.sql"


@dataclass
class Point:
    """Where to die: at the call of this number, or nowhere (0), which counts. `torn`: half of a write is done first."""

    at: int
    torn: bool = False
    seen: int = 0

    def passed(self) -> bool:
        self.seen += 1
        return self.seen == self.at


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class DyingFile(apsw.VFSFile):
    """A file whose writes, syncs and truncations are points."""

    def __init__(self, point: Point, name: object, flags: list[int]) -> None:
        self._point = point
        super().__init__("unix", name, flags)  # type: ignore[arg-type]

    def xWrite(self, data: Any, offset: int) -> None:
        if self._point.passed():
            if self._point.torn:
                super().xWrite(memoryview(data)[: len(memoryview(data)) // 2], offset)
            die()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._point.passed():
            die()
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        if self._point.passed():
            die()
        super().xTruncate(newsize)


class DyingVFS(apsw.VFS):
    """Everything SQLite does to files goes through here, in this process."""

    def __init__(self, point: Point) -> None:
        self._point = point
        super().__init__("dying", "unix", makedefault=True)

    def xOpen(self, name: object, flags: list[int]) -> DyingFile:
        return DyingFile(self._point, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if self._point.passed():
            die()
        super().xDelete(filename, syncdir)


# The acts. Each is done to a queue that `prepared` made, and says what must hold afterwards: all of it, or nothing.


def event(number: int) -> Event:
    return Event(event_type="bounce_all", event_time=number, email=f"user{number}@example.com", bounce_text="x" * 700)


def prepared(folder: Path) -> None:
    """300 events, of which 40 were delivered and are kept, 20 failed; much of it is still in the log."""

    async def make() -> None:
        queue = opened(folder)
        queue.keep_delivered = 3_600_000
        ids = await queue.append([stored_form(event(n)) for n in range(1, ROWS + 1)])
        await queue.settle(Settlement(ids[:40], failed=[Failed(i, 1, 1, "x") for i in ids[40:60]]), queue.term)
        await queue.close()

    asyncio.run(make())


def opened(folder: Path) -> SQLiteQueue:
    return SQLiteQueue(str(folder / "queue.db"), Ballast(str(folder / "ballast")), asyncio.get_running_loop())


def with_writer(folder: Path, act: Callable[[SQLiteWriter], object]) -> None:
    writer = SQLiteWriter(str(folder / "queue.db"))
    act(writer)
    writer.close()


def settle(writer: SQLiteWriter) -> None:
    what = Settlement(list(range(41, 200)), list(range(200, 220)), [Failed(i, 1, 1, "x") for i in range(220, 240)])
    writer.settle(what, int(writer.kept("term") or 0), keep=True)


def upkeep(writer: SQLiteWriter) -> None:
    writer.forget_delivered(0)
    writer.prune()
    writer.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)


def vacuum(writer: SQLiteWriter) -> None:
    """In more than one step."""
    settle(writer)
    db = writer._db  # pyright: ignore[reportPrivateUsage]
    while free := int(db.pragma("freelist_count")):
        writer.give_back(free, seconds=0.0)
    writer.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)


def old_queue(folder: Path) -> None:
    db = apsw.Connection(str(folder / "queue.db"))
    db.execute(OLD.read_text())
    db.pragma("journal_mode", "wal")
    db.close()


ACTS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "settle": (prepared, lambda folder: with_writer(folder, settle)),
    "delete": (prepared, lambda folder: with_writer(folder, lambda w: w.delete(list(range(41, 240))))),
    "replay": (prepared, lambda folder: with_writer(folder, lambda w: w.replay(list(range(1, 41))))),
    "upkeep": (prepared, lambda folder: with_writer(folder, upkeep)),
    "vacuum": (prepared, lambda folder: with_writer(folder, vacuum)),
    "make": (lambda folder: None, lambda folder: migrate(str(folder / "queue.db"))),
    "migrate": (old_queue, lambda folder: migrate(str(folder / "queue.db"))),
}


def seen(folder: Path) -> dict[str, object]:
    """What is left, as the next process finds it; it brings the schema up if that is half done."""
    path = str(folder / "queue.db")
    migrate(path)
    writer = SQLiteWriter(path)
    db = writer._db  # pyright: ignore[reportPrivateUsage]
    books = {str(name): int(str(n)) for name, n in db.execute(statements("sqlite.sql")["books"])}
    (rows,) = db.execute("SELECT count(*) FROM queue").fetchall()[0]
    found: dict[str, object] = {
        "sound": [str(row[0]) for row in db.execute("PRAGMA integrity_check")],
        "balanced": books["recorded"] - books["delivered"] - books["dropped"] - books["deleted"] == rows,
        "books": books,
        "rows": rows,
        "kept": db.execute("SELECT count(*) FROM delivered").fetchall()[0][0],
        "deferred": db.execute("SELECT count(*) FROM deferred").fetchall()[0][0],
        "schema": db.pragma("user_version"),
    }
    # And it goes on from there.
    found["goes_on"] = writer.append([([stored_form(event(1))], "")])
    writer.close()
    return found


def in_child(work: Callable[[], None]) -> bool:
    """Whether it came to its end."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as e:
            print(json.dumps({"failed": repr(e)}), flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def done(start: Path, folder: Path, act: Callable[[Path], None], point: Point) -> bool:
    """Whether the act came to its end; the folder is as it was left then."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start, folder)

    def work() -> None:
        vfs = DyingVFS(point)
        act(folder)
        vfs.unregister()
        (folder / "points").write_text(str(point.seen))

    return in_child(work)


def tell(point: Point, folder: Path) -> None:
    told = {"at": point.at, "torn": point.torn}
    if not in_child(lambda: print(json.dumps({**told, **seen(folder)}), flush=True)):
        raise SystemExit(f"what {told} left cannot be opened")


def main(place: Path, name: str, most: int) -> None:
    prepare, act = ACTS[name]
    start, folder = place / "start", place / "killed"
    start.mkdir()
    if not in_child(lambda: prepare(start)) or not done(start, folder, act, Point(0)):
        raise SystemExit("it cannot be done without a kill")
    count = int((folder / "points").read_text())
    tell(Point(0), folder)
    step = max(1, count // most)
    for at in sorted({*range(1, count + 1, step), *range(max(1, count - 3), count + 1)}):
        point = Point(at, torn=at // step % 2 == 1)
        if done(start, folder, act, point):
            raise SystemExit(f"there are {count} points, and it was not killed at {at}")
        tell(point, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
