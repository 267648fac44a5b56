"""`mailvane queue move`: all that a queue has, to another."""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import count, say, say_json
from mailvane.cli.parsing import Spec
from mailvane.cli.progress import progress
from mailvane.clock import SystemClock
from mailvane.configuration.directive_values import queue_in
from mailvane.configuration.home import existing_home
from mailvane.configuration.places import queue_url
from mailvane.configuration.secrets import Secret
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import EventRejected, QueueOwned, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.moving import Moved, move
from mailvane.queue.ownership import Lock, describe
from mailvane.recording.intake import Intake
from mailvane.recording.switches import Switches

if TYPE_CHECKING:  # imported when it is known which is needed: the driver takes long to load
    from mailvane.queue.postgresql.moving import PostgreSQLEnd
    from mailvane.queue.sqlite_moving import SQLiteEnd

COMMAND = "mailvane queue move"
OTHERS_END = 2.0
"""Seconds that a command of a moment may keep a queue from us."""


def _move(args: argparse.Namespace) -> int:
    home = existing_home(args.home)
    settings = load_settings(home)
    source, target = _place(args.source, "FROM_URL", home), _place(args.target, "TO_URL", home)
    if source == target:
        raise WrongUsage("FROM_URL and TO_URL name the same queue")
    with contextlib.ExitStack() as stack:
        _own_files([p for p in (source, target) if isinstance(p, Path)], stack)

        def begins(total: int) -> Callable[[int], None]:
            return stack.enter_context(progress("move:", total))

        moved = asyncio.run(_moved(source, target, settings, begins))
    if args.json:
        say_json({"moved": moved.waiting, "delivered_moved": moved.delivered})
    else:
        kept = f", and {moved.delivered:,} delivered that are kept" if moved.delivered else ""
        say(f"{count(moved.waiting, 'event')} moved{kept}; mailvane.conf goes on there with: queue {args.target}")
    return 0


def _place(url: str, name: str, home: Path) -> Path | Secret:
    return queue_in(url, home, lambda why: WrongUsage(f"{name}: {why}"))


def _own_files(files: list[Path], stack: contextlib.ExitStack) -> None:
    """Two files in one folder share the lock beside them."""
    for path in sorted({file.parent / "queue.lock" for file in files}):
        lock = Lock(str(path), COMMAND)
        try:
            taken = lock.take() or lock.take_in_line(OTHERS_END)
        except OSError as e:
            raise QueueUnavailable(f"{path}: {e.strerror}; is the folder there, and ours to write?") from e
        if not taken:
            raise QueueOwned(f"{path} is held by {describe(lock.holder())}: end that first")
        stack.callback(lock.release)


async def _moved(
    source: Path | Secret, target: Path | Secret, settings: Settings, begins: Callable[[int], Callable[[int], None]]
) -> Moved:
    if isinstance(source, Path) and not source.exists():
        raise QueueUnavailable(f"{source} is not there: nothing was ever recorded into it")
    async with _end(source, settings) as one, _end(target, settings) as other:
        return await move(one, other, begins)


@contextlib.asynccontextmanager
async def _end(place: Path | Secret, settings: Settings) -> AsyncGenerator["SQLiteEnd | PostgreSQLEnd", None]:
    if isinstance(place, Path):
        from mailvane.queue.sqlite_moving import SQLiteEnd

        end = SQLiteEnd(str(place), str(place.parent / "ballast"))
        try:
            yield end
        finally:
            await end.close()
        return
    from mailvane.queue.postgresql.moving import postgresql_end

    url = queue_url(place)
    async with postgresql_end(url, COMMAND, await asyncio.to_thread(_door, settings, url)) as end:
        yield end


def _door(settings: Settings, url: str) -> Callable[[bytes], StoredForm | EventRejected | None]:
    """For what people recorded in transactions and nobody has looked at yet."""
    from mailvane.queue.postgresql.rows import PostgreSQLRows

    with PostgreSQLRows(url, COMMAND) as rows:
        switches = Switches(settings.control_directory, rows.kept("switches"))
        switches.studio.take(rows.studio_rows())
    intake = Intake(switches, settings.server_id, SystemClock(), lambda state: None)
    return intake.form_in


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM_URL", help="the queue of now: sqlite:FILE or postgresql://…")
    parser.add_argument("target", metavar="TO_URL", help="one that has never held an event")


MOVE = Spec(
    about="Moves all events that wait from one queue to another, from SQLite to PostgreSQL or back, or to another of "
    "the same kind. Ids stay, and what is known of failed attempts; the books, the epoch and what is paused go along. "
    "Delivered events that are kept (keep_delivered) follow when all that waits is there. URLs as for `queue` in "
    "mailvane.conf, also @file:PATH or @env:NAME, so that no password stands in the command line.\n\n"
    "Nothing may deliver from either queue meanwhile; who records into the first is refused from the beginning on, and "
    "for good. If it is cut short, by whatever, the same command goes on: nothing is lost, nothing comes twice. "
    "mailvane.conf is not changed: name the new queue there afterwards.",
    examples=[
        ("mailvane queue move sqlite:queue.db @file:/etc/mailvane/queue.url", "to PostgreSQL"),
        ("mailvane queue move postgresql://mailvane@db.example.com/mailvane sqlite:queue2.db", "and back"),
    ],
    arguments=_arguments,
    run=_move,
)
