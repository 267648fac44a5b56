"""`mailvane events export`: events as NDJSON or CSV, page by page, so that any number of them fits."""

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TextIO

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import count, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.progress import Advance, on_terminal, progress
from mailvane.cli.query import query_arguments, query_of
from mailvane.cli.views import viewing
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import load_settings
from mailvane.errors import MailvaneError
from mailvane.events.catalogue import CLASSIC, INTEGER_MAX

ADVANCE_EVERY = 100
"""Events after which the bar moves."""
COLUMNS = ("id", *CLASSIC)
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n")
"""What a spreadsheet takes for the beginning of a formula (also in its wide form), or skips before one."""

Event = dict[str, object]


def ndjson(event: Event) -> str:
    """The event as a line of JSON."""
    return json.dumps(event) + "\n"


def csv_row(event: Event, exact: bool) -> str:
    """The event's classic row as a line of CSV (RFC 4180, lines end in a line feed).

    What comes from outside must not become a formula in somebody's spreadsheet: text that would begin one gets an
    apostrophe in front, unless `exact`.
    """
    return _csv_line([_cell(event.get(name), exact) for name in COLUMNS])


def _cell(value: object, exact: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    return "'" + value if value.startswith(_FORMULA) and not exact else value


def _csv_line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


class _Export:
    """How far it is: what was written, in whole lines, whatever ends it."""

    def __init__(self, after: int) -> None:
        self.written = 0
        self.last = after

    def write(self, events: Iterator[Event], line: Callable[[Event], str], file: TextIO, advance: Advance) -> None:
        for event in events:
            file.write(line(event))
            self.written += 1
            self.last = int(str(event["id"]))
            if self.written % ADVANCE_EVERY == 0:
                advance(ADVANCE_EVERY)


def _export(args: argparse.Namespace) -> int:
    query = query_of(args, time.time())
    output: str | None = args.output
    if not 0 <= args.after <= INTEGER_MAX:
        raise WrongUsage(f"--after: {args.after} is no id")
    if args.exact and not args.csv:
        raise WrongUsage("--exact is about --csv; NDJSON is always exact")
    if args.json and output is None:
        raise WrongUsage("--json: standard output has the events; it goes with --output FILE")
    settings = load_settings(existing_home(args.home))
    line: Callable[[Event], str] = (lambda event: csv_row(event, args.exact)) if args.csv else ndjson
    export = _Export(args.after)
    with viewing(settings) as view:
        total = view.count(query) if output is not None and on_terminal() else None
        with _opened(output, resumed=args.after > 0) as (file, fresh), progress("export:", total) as advance:
            try:
                if args.csv and fresh:
                    file.write(_csv_line(list(COLUMNS)))
                export.write(view.select(query, None, args.after), line, file, advance)
            except (KeyboardInterrupt, MailvaneError):
                tell(f"{count(export.written, 'event')} exported, then it ended; to go on: --after {export.last}")
                raise
    if args.json:
        say_json({"exported": export.written, "last": export.last})
    elif output is not None:
        tell(f"{count(export.written, 'event')} exported; for those that follow: --after {export.last}")
    return 0


@contextmanager
def _opened(output: str | None, resumed: bool) -> Generator[tuple[TextIO, bool], None, None]:
    """Where to write, and whether nothing stands there yet. Raises MailvaneError."""
    if output is None:
        yield sys.stdout, not resumed
        return
    try:
        with _file(output, resumed) as file:
            yield file, file.tell() == 0
            file.flush()
            os.fsync(file.fileno())  # people drop what they have exported
    except OSError as e:
        raise MailvaneError(f"{output}: {e.strerror or e}") from e


def _file(output: str, resumed: bool) -> TextIO:
    try:
        # Appending only where it was asked for; events have addresses, which are not for everybody.
        fd = os.open(output, os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if resumed else os.O_EXCL), 0o640)
    except FileExistsError:
        raise MailvaneError(
            f"{output} is there already: name another file, or go on behind its last event: --after ID"
        ) from None
    size = os.lseek(fd, 0, os.SEEK_END)
    if size and os.pread(fd, 1, size - 1) != b"\n":
        os.close(fd)
        raise MailvaneError(f"{output}: its last line is not whole; take it out, and go on behind the one before")
    return open(fd, "a", encoding="utf-8", newline="")


def _arguments(parser: argparse.ArgumentParser) -> None:
    query_arguments(parser)
    parser.add_argument("--csv", action="store_true", help="CSV with the columns of the classic row, and a head")
    parser.add_argument(
        "--exact", action="store_true", help="CSV as it is, for programs: no apostrophe before formulas"
    )
    parser.add_argument("--after", type=int, default=0, metavar="ID", help="events with larger ids than this: to go on")
    parser.add_argument("--output", metavar="FILE", help="to a file that is not there yet; with --after, at its end")


EXPORT = Spec(
    about="Writes events in the order of their ids, to standard output or to a file: as NDJSON, an object a line as "
    "events list --json has it, or as CSV with the columns of the classic row. All events in the queue if nothing says "
    "which; with --state delivered those that are kept after delivery. Nothing is locked and no snapshot taken: what "
    "comes or goes meanwhile may be in it or not. If it ends early, it says after which id to go on.\n\n"
    "What stands in events comes from outside. In CSV a text that a spreadsheet would take for a formula (because of "
    "an equals sign, plus, minus, @, tab or line break in front) gets an apostrophe before it, unless --exact says "
    "that no spreadsheet will see it.",
    examples=[
        ("mailvane events export --type bounce_all --since 24h > bounces.ndjson", ""),
        ("mailvane events export --csv --output events.csv", "for a spreadsheet"),
        ("mailvane events export --csv --output events.csv --after 4711", "goes on behind event 4711"),
    ],
    arguments=_arguments,
    run=_export,
)
