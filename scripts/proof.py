"""Runs the long tests of tests/proof, each part at most 30 minutes, into a dated report: proof.py [PART]."""

import datetime
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import TextIO

CHECKOUT = Path(__file__).resolve().parent.parent
PARTS = CHECKOUT / "tests" / "proof"
REPORTS = CHECKOUT / "proof-reports"
LIMIT_SECONDS = 30 * 60


def commit() -> str:
    """The commit that is proved, marked if there are changes on top; git may be missing in an unpacked archive."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def prove(file: Path) -> bool:
    """Runs one part, prints what it prints, and keeps it in proof-reports/DATE-PART.txt."""
    started = datetime.datetime.now(datetime.UTC)
    part = file.stem.removeprefix("test_")
    REPORTS.mkdir(exist_ok=True)
    report = REPORTS / f"{started:%Y-%m-%d}-{part}.txt"
    # -s: what a proof prints (kills, in flight, backlog) is its result. The faulthandler's limit is for short tests.
    command = [sys.executable, "-m", "pytest", "-s", "-v", "-o", f"faulthandler_timeout={LIMIT_SECONDS}", str(file)]
    with report.open("w") as kept:
        say(kept, f"{part}: {started:%Y-%m-%d %H:%M} UTC, commit {commit()}\n")
        say(kept, f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores\n\n")
        environment = {**os.environ, "HYPOTHESIS_PROFILE": "proof", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        limit = threading.Timer(LIMIT_SECONDS, process.terminate)
        limit.start()
        assert process.stdout is not None
        for line in process.stdout:
            say(kept, line.replace(f"{CHECKOUT}/", "").replace(str(CHECKOUT), "."))
        held = process.wait() == 0
        stopped = not limit.is_alive()
        limit.cancel()
        seconds = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
        result = "holds" if held else f"stopped after {LIMIT_SECONDS} s" if stopped else "falls short"
        say(kept, f"\n{part}: {result} ({seconds:.0f} s)\n")
    return held


def say(report: TextIO, text: str) -> None:
    report.write(text)
    print(text, end="", flush=True)


def main(names: list[str]) -> int:
    there = {file.stem.removeprefix("test_"): file for file in sorted(PARTS.glob("test_*.py"))}
    unknown = [name for name in names if name not in there]
    if unknown or not there:
        print(f"no such part: {' '.join(unknown)}; there are: {' '.join(there) or 'none yet'}", file=sys.stderr)
        return 2
    results = [prove(there[name]) for name in names or there]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
