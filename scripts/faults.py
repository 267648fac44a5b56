"""Makes docs/faults.md of tests/faults.toml and of the tests that are named after the ids.

faults.py [--check]    with --check nothing is written; exit status 1 if the page is not as it should be, or an id has
                       no test
faults.py --run FILE   notes the results of a run (build/results.xml, which `make test` writes) in
                       tests/faults_run.json, from which the page tells them; exit status 1, and nothing is noted, if
                       a test of an id failed, or none ran
"""

import json
import platform
import re
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TypedDict

HERE = Path(__file__).resolve().parent.parent
PAGE = HERE / "docs" / "faults.md"
RUN = HERE / "tests" / "faults_run.json"
_NAME = re.compile(r"^test_((?:[hsdcm]\d+_)+)")
_TEST = re.compile(r"^\s*(?:async )?def (test_[hsdcm]\d+_\w+)", re.MULTILINE)
HEAD = """# Faults and attacks that mailvane survives

Made from the tests, which are named after the ids: `make test PYTEST="-k test_h1_"` runs those of one fault. Change
`tests/faults.toml`, then run `python scripts/faults.py`. The last column is from a run:
`make test`, then `python scripts/faults.py --run build/results.xml`.
"""
TABLE_HEAD = "| id | what happens | what mailvane does | tests | passed |\n|---|---|---|---|---|\n"


class Run(TypedDict):
    """What is noted of a run: when it began, on what, how many cases passed, and how many of each id."""

    began: str
    on: str
    cases: int
    passed: dict[str, int]


def ids_of(name: str) -> list[str]:
    """h1 and h13 for test_h1_h13_…, whatever stands behind."""
    ids = _NAME.match(name)
    return ids[1].strip("_").split("_") if ids else []


def tests() -> dict[str, list[tuple[str, str]]]:
    """For each id the tests, as file and name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file in sorted((HERE / "tests").rglob("test_*.py")):
        for name in _TEST.findall(file.read_text(encoding="utf-8")):
            for fault in ids_of(name):
                found.setdefault(fault, []).append((str(file.relative_to(HERE)), name))
    return found


def noted(results: Path) -> tuple[Run, list[str]]:
    """What a run (JUnit's XML, as pytest writes it) says of the faults, and what of it cannot stand on the page."""
    root = ET.parse(results).getroot()
    passed: dict[str, int] = {}
    wrong: list[str] = []
    cases = 0
    for case in root.iter("testcase"):
        ids = ids_of(case.get("name", ""))
        if ids and (case.find("failure") is not None or case.find("error") is not None):
            wrong.append(f"failed: {case.get('classname')} {case.get('name')}")
        cases += bool(ids)
        for fault in ids:
            passed[fault] = passed.get(fault, 0) + 1
    suite = next(root.iter("testsuite"))
    wrong += [f"{fault} was not run" for fault in ids_of_faults() if fault not in passed]
    on = f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}"
    began = suite.get("timestamp", "")[:16].replace("T", " ")
    return Run(began=began, on=on, cases=cases, passed=dict(sorted(passed.items()))), wrong


def ids_of_faults() -> list[str]:
    faults = tomllib.loads((HERE / "tests" / "faults.toml").read_text(encoding="utf-8"))
    return [f"{letter}{number}" for letter, rows in faults.items() for number in rows if number != "title"]


def page() -> tuple[str, list[str]]:
    """The page, and the ids that have no test."""
    faults = tomllib.loads((HERE / "tests" / "faults.toml").read_text(encoding="utf-8"))
    named = tests()
    run: Run | None = json.loads(RUN.read_text(encoding="utf-8")) if RUN.exists() else None
    parts, without = [HEAD], list[str]()
    if run:
        parts.append(f"\nThe run: {run['began']}, {run['on']}; {run['cases']} cases, all passed.\n")
    for letter, rows in faults.items():
        parts.append(f"\n## {rows.pop('title')}\n\n{TABLE_HEAD}")
        for number, (fault, answer) in rows.items():
            mine = named.get(f"{letter}{number}", [])
            if not mine:
                without.append(f"{letter}{number}")
            files = sorted({file for file, _ in mine})
            shown = ", ".join(f"[{len([1 for f, _ in mine if f == file])}](../{file})" for file in files)
            passed = run["passed"].get(f"{letter}{number}", "not yet run") if run else "not yet run"
            parts.append(f"| {letter.upper()}{number} | {fault} | {answer} | {shown} | {passed} |\n")
    return "".join(parts), without


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--run"]:
        if not Path(arguments[1]).exists():
            print(f"{arguments[1]} is not there: `make test` writes it", file=sys.stderr)
            return 1
        run, wrong = noted(Path(arguments[1]))
        for line in wrong:
            print(line, file=sys.stderr)
        if wrong:
            return 1
        RUN.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    text, without = page()
    for fault in without:
        print(f"{fault} has no test: name one test_{fault}_…", file=sys.stderr)
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/faults.md is not as the tests have it: run python scripts/faults.py", file=sys.stderr)
        return 1
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
