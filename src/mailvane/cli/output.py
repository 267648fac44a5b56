"""What commands print: plain lines, JSON, tables. What came from outside cannot control the terminal."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def prepare() -> None:
    """Makes printing safe, before anything is opened.

    Characters that the terminal's encoding does not have are shown as escapes, not raised. Where the caller closed
    descriptor 0, 1 or 2, there is /dev/null: else the next file or socket would get its number, and what is meant for
    people would go there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    """The text with everything that does not print (control characters, what turns text around) as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def plain_lines(text: str) -> str:
    """As `plain`, line by line."""
    return "\n".join(plain(line) for line in text.split("\n"))


def say(text: str) -> None:
    """A line or lines on standard output."""
    print(plain_lines(text))


def tell(text: str) -> None:
    """A line or lines on standard error."""
    with contextlib.suppress(BrokenPipeError):
        print(plain_lines(text), file=sys.stderr, flush=True)


def say_json(value: object, indent: int | None = None) -> None:
    """A value as JSON, in ASCII: nothing in it reaches a terminal but what prints."""
    print(json.dumps(value, indent=indent))


def say_json_array(values: Iterable[object]) -> None:
    """Values as one JSON array, printed as they come, a line each."""
    before = "["
    for value in values:
        print(before + json.dumps(value), end="")
        before = ",\n "
    print("[]" if before == "[" else "]")


def flush() -> None:
    """Everything printed goes out, while an error can still be told."""
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by the caller: `>&-`
        sys.stdout.flush()


def silence() -> None:
    """From now on nothing more is printed, and flushing at the end cannot fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        flush()
        return
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def console(wrap: bool = False) -> "Console":
    """Tables and colours, where a terminal has them. `rich` takes a tenth of a second: only where one is shown."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not wrap)


def ascii_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as GreenArrow draws it: ASCII, everything to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(cells: Sequence[str]) -> str:
        return "|" + "|".join(f" {cell.rjust(width)} " for cell, width in zip(cells, widths, strict=True)) + "|"

    return "\n".join([rule, line(head), rule, *map(line, rows), rule])


def moment(seconds: float) -> str:
    """Wall clock time for people, local, in the form that sorts."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def duration(seconds: float) -> str:
    """A length of time for people: 42 s, 3 min, 5 h, 2 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def count(n: int, what: str) -> str:
    """`1 event`, `1,000 events`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
