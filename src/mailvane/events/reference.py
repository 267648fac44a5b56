"""The tables of docs/events.md, made from the catalogue.

`python -m mailvane.events.reference docs/events.md` writes them anew; a test holds the page to them.
"""

import json

from mailvane import pages
from mailvane.events.catalogue import FIELDS, TYPES, Part


def filled(page: str) -> str:
    """The page with every section `<!-- made: NAME -->` … `<!-- end -->` as the catalogue has it."""
    tables = {
        "types": types(),
        "classic": fields("classic"),
        "delivery": fields("delivery"),
        "modern": fields("modern"),
    }
    return pages.filled(page, tables)


def types() -> str:
    rows = (
        (
            f"`{t.name}`",
            t.what_happened,
            ", ".join(f"`{by}`" for by in (t.switch, t.column) if by) or "nothing makes it",
        )
        for t in TYPES.values()
    )
    return pages.table(("type", "what happened", "recording is enabled by"), rows)


def fields(part: Part) -> str:
    rows = (
        (f"`{f.name}`", f.kind, f.on, f.description, f"`{json.dumps(f.sample)}`")
        for f in FIELDS.values()
        if f.part == part
    )
    return pages.table(("field", "type", "on", "meaning", "example"), rows)


if __name__ == "__main__":
    pages.rewrite(filled)
