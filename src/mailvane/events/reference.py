"""The tables of docs/events.md, made from the catalogue.

`python -m mailvane.events.reference docs/events.md` writes them anew; a test holds the page to them.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from mailvane.events.catalogue import FIELDS, TYPES, Part

_SECTION = re.compile(r"(<!-- made: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with every section `<!-- made: NAME -->` … `<!-- end -->` as the catalogue has it."""
    tables = {
        "types": types(),
        "classic": fields("classic"),
        "delivery": fields("delivery"),
        "modern": fields("modern"),
    }
    return _SECTION.sub(lambda found: f"{found[1]}{tables[found[2]]}{found[3]}", page)


def types() -> str:
    rows = (
        (
            f"`{t.name}`",
            t.what_happened,
            ", ".join(f"`{by}`" for by in (t.switch, t.column) if by) or "nothing makes it",
        )
        for t in TYPES.values()
    )
    return _table(("type", "what happened", "recording is enabled by"), rows)


def fields(part: Part) -> str:
    rows = (
        (f"`{f.name}`", f.kind, f.on, f.description, f"`{json.dumps(f.sample)}`")
        for f in FIELDS.values()
        if f.part == part
    )
    return _table(("field", "type", "on", "meaning", "example"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
