"""Runs the benchmarks of this folder and writes bench/results/DATE.md and .json: run.py [--only NAME] [--rounds N]."""

import argparse
import dataclasses
import datetime
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import HERE, Figure, Work

RESULTS = HERE / "results"
TABLE_HEAD = "| figure | median | rounds | must | ambitious | verdict |\n| --- | --- | --- | --- | --- | --- |\n"


def benchmarks(only: list[str]) -> dict[str, Callable[[Work], Figure | list[Figure]]]:
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if unknown := set(only) - set(names):
        raise SystemExit(f"no such benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    return {name: importlib.import_module(f"bench_{name}").run for name in only or names}


def row(figure: Figure) -> str:
    sign = "≥" if figure.better == "more" else "≤"
    wanted = ["" if w is None else f"{sign} {number(w)}" for w in (figure.must, figure.ambitious)]
    rounds = " ".join(number(value) for value in figure.rounds)
    return (
        f"| {figure.what} | **{number(figure.median)}** {figure.unit} | {rounds} | {wanted[0]} | {wanted[1]}"
        f" | {figure.verdict} |\n"
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def beside(figure: Figure) -> str:
    absolutes = ", ".join(f"{name} {number(value)}" for name, value in figure.beside.items())
    said = "; ".join(part for part in (absolutes, figure.note) if part)
    return f"- {figure.name}: {said}\n" if said else ""


def markdown(figures: list[Figure], work: Work, day: str) -> str:
    return (
        f"# Benchmarks of {day}\n\n"
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.release()};"
        f" medians of {work.rounds} rounds, each between two of what it is divided by. `make bench` repeats them.\n\n"
        + TABLE_HEAD
        + "".join(map(row, figures))
        + "\nMeasured beside them (medians; they drift from day to day, compare ratios):\n\n"
        + "".join(map(beside, figures))
    )


def report(figures: list[Figure], work: Work, suffix: str) -> Path:
    now = datetime.datetime.now(datetime.UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%d}{suffix}.md"
    path.write_text(markdown(figures, work, f"{now:%Y-%m-%d}"))
    rows = [{**dataclasses.asdict(figure), "median": figure.median, "verdict": figure.verdict} for figure in figures]
    document = {"at": now.isoformat(timespec="seconds"), "python": platform.python_version(), "figures": rows}
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="bench_NAME.py alone")
    parser.add_argument("--rounds", type=int, default=5, help="of each (5; fewer are only a look)")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a run of the reference takes (3)")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=scratch()))
    work = Work(folder, arguments.rounds, arguments.seconds, sink_core=cores[0], core=cores[-1])
    figures: list[Figure] = []
    failed = False
    try:
        for name, run in benchmarks(arguments.only).items():
            print(f"{name} …", flush=True)
            try:
                result = run(work)
            except Exception as error:  # one that breaks must not take the others' figures along
                print(f"  broke: {error!r}", file=sys.stderr)
                failed = True
                continue
            for figure in result if isinstance(result, list) else [result]:
                figures.append(figure)
                print(f"  {figure.what}: {number(figure.median)} {figure.unit} ({figure.verdict})", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if figures:
        print(f"written to {report(figures, work, '-' + '-'.join(arguments.only) if arguments.only else '')}")
    return 1 if failed else 0


def scratch() -> Path:
    """On this checkout's disk: the system's temporary folder may be in memory, where syncing costs nothing."""
    folder = HERE.parent / ".tools" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
