"""Makes docs/faults.md of tests/faults.toml and of the tests that are named after the ids: faults.py [--check].

With --check nothing is written; exit status 1 if the page is not as it should be, or an id has no test.
"""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PAGE = HERE / "docs" / "faults.md"
_TEST = re.compile(r"^\s*(?:async )?def (test_([hsdcm])(\d+)_\w+)", re.MULTILINE)
HEAD = """# Faults and attacks that mailvane survives

Made from the tests, which are named after the ids: `make test PYTEST="-k test_h1_"` runs those of one fault. Change
`tests/faults.toml`, then run `python scripts/faults.py`.
"""
TABLE_HEAD = "| id | what happens | what mailvane does | tests |\n|---|---|---|---|\n"


def tests() -> dict[tuple[str, int], list[tuple[str, str]]]:
    """For each id the tests, as file and name."""
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for file in sorted((HERE / "tests").rglob("test_*.py")):
        for name, letter, number in _TEST.findall(file.read_text(encoding="utf-8")):
            found.setdefault((letter, int(number)), []).append((str(file.relative_to(HERE)), name))
    return found


def page() -> tuple[str, list[str]]:
    """The page, and the ids that have no test."""
    faults = tomllib.loads((HERE / "tests" / "faults.toml").read_text(encoding="utf-8"))
    named = tests()
    parts, without = [HEAD], list[str]()
    for letter, rows in faults.items():
        parts.append(f"\n## {rows.pop('title')}\n\n{TABLE_HEAD}")
        for number, (fault, answer) in rows.items():
            mine = named.get((letter, int(number)), [])
            if not mine:
                without.append(f"{letter}{number}")
            files = sorted({file for file, _ in mine})
            shown = ", ".join(f"[{len([1 for f, _ in mine if f == file])}](../{file})" for file in files)
            parts.append(f"| {letter.upper()}{number} | {fault} | {answer} | {shown} |\n")
    return "".join(parts), without


def main() -> int:
    text, without = page()
    for fault in without:
        print(f"{fault} has no test: name one test_{fault}_…", file=sys.stderr)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/faults.md is not as the tests have it: run python scripts/faults.py", file=sys.stderr)
        return 1
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main())
