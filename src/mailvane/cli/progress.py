"""A bar that tells how far something is, on standard error, and only where that is a terminal."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

Advance = Callable[[int], None]


def on_terminal() -> bool:
    """Whether somebody would see a bar."""
    return sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]


@contextmanager
def progress(what: str, total: int | None) -> Generator[Advance, None, None]:
    """Call what it gives with how many more are done. `total` is how many there will be about, None: nobody knows."""
    if not on_terminal():
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda n: shown.advance(task, n)
