"""The table of docs/metrics.md, made from the declared metrics.

`python -m mailvane.operations.reference docs/metrics.md` writes it anew; a test holds the page to it.
"""

from mailvane import pages
from mailvane.operations.metrics import METRICS


def filled(page: str) -> str:
    """The page with its section `<!-- made: metrics -->` … `<!-- end -->` as the declarations have it."""
    return pages.filled(page, {"metrics": metrics()})


def metrics() -> str:
    rows = (
        (f"`{name}`", declared.kind, ", ".join(f"`{label}`" for label in declared.labels), declared.help)
        for name, declared in METRICS.items()
    )
    return pages.table(("metric", "kind", "labels", "meaning"), rows)


if __name__ == "__main__":
    pages.rewrite(filled)
