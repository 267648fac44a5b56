"""The table of docs/metrics.md, made from the declared metrics.

`python -m mailvane.operations.reference docs/metrics.md` writes it anew; a test holds the page to it.
"""

import re
import sys
from pathlib import Path

from mailvane.operations.metrics import METRICS

_SECTION = re.compile(r"(<!-- made: metrics -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with its section `<!-- made: metrics -->` … `<!-- end -->` as the declarations have it."""
    return _SECTION.sub(lambda found: f"{found[1]}{metrics()}{found[2]}", page)


def metrics() -> str:
    lines = ["| metric | kind | labels | meaning |\n", "| --- | --- | --- | --- |\n"]
    for name, declared in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in declared.labels)
        lines.append(f"| `{name}` | {declared.kind} | {labels} | {declared.help} |\n")
    return "".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
