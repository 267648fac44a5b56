"""The matrix as people see it: at the end of the tests, with the versions that the servers report, and in the docs.

As a program, in tests/: python -m destinations.matrix.printed writes docs/destinations.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from destinations.matrix.table import KINDS, MEANING, Case, Kind

PROPERTY = "destination"
"""Of a cell's report: name of the type, case, version."""
PAGE = Path(__file__).resolve().parents[3] / "docs" / "destinations.md"
HEAD = """# Destinations, and what each is held to

Every type passes one common suite, against the real server, with the processor of `mailvane run` in between; where a
case cannot apply, a note says why. Made from the tests: `make test PYTEST="-k matrix"` runs them, and prints this table
with the versions that the servers report. To add a type, see [CONTRIBUTING](../CONTRIBUTING.md).

How each is configured: [HTTP](configuration.md), [databases](destinations-sql.md),
[log files](destinations-logfile.md).

"""


def page() -> str:
    """docs/destinations.md."""
    notes: list[str] = []

    def cell(kind: Kind, case: Case) -> str:
        reason = kind.reasons.get(case)
        if reason is None:
            return "yes"
        if reason not in notes:
            notes.append(reason)
        return f"({notes.index(reason) + 1})"

    lines = ["| type | " + " | ".join(Case) + " |", "|---" * (len(Case) + 1) + "|"]
    lines += [f"| {kind.name} | " + " | ".join(cell(kind, case) for case in Case) + " |" for kind in KINDS]
    numbered = [f"{n}. {note}" for n, note in enumerate(notes, 1)]
    meaning = [f"- **{case}**: {MEANING[case]}." for case in Case]
    return HEAD + "\n".join([*lines, "", *numbered, "", *meaning, ""])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the matrix if a cell of it was run."""
    results: dict[tuple[str, str], str] = {}
    versions: dict[str, str] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    kind, case, version = value
                    results[kind, case] = outcome
                    versions[kind] = version
    if not results:
        return
    terminalreporter.section("destinations")
    for line in table(results, versions):
        terminalreporter.write_line(line)


def table(results: Mapping[tuple[str, str], str], versions: Mapping[str, str]) -> Sequence[str]:
    """The lines of the matrix."""
    rows = [["type", *Case, "version"]]
    for kind in KINDS:
        cells = ["n/a" if case in kind.reasons else results.get((kind.name, case), "not run") for case in Case]
        rows.append([kind.name, *cells, versions.get(kind.name, "")])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    for reason in dict.fromkeys(reason for kind in KINDS for reason in kind.reasons.values()):
        where = [
            f"{kind.name} ({', '.join(_all_or(kind, reason))})" for kind in KINDS if reason in kind.reasons.values()
        ]
        lines.append(f"n/a: {'; '.join(where)}: {reason}")
    return lines


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _all_or(kind: Kind, reason: str) -> list[str]:
    return ["all"] if len(kind.reasons) == len(Case) else [c for c, r in kind.reasons.items() if r == reason]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
