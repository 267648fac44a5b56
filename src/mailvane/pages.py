"""Pages of docs/ whose tables are made of the code's own declarations. Those tables stand between two comments."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_SECTION = re.compile(r"(<!-- made: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with every section `<!-- made: NAME -->` … `<!-- end -->` as `tables` has it."""
    return _SECTION.sub(lambda found: f"{found[1]}{tables[found[2]]}{found[3]}", page)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rewrite(made: Callable[[str], str]) -> None:
    """Writes the pages that the command line names anew."""
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(made(page.read_text(encoding="utf-8")), encoding="utf-8")
