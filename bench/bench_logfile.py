"""Events a second into a log file, alone as the destination, over writing the same lines with one fsync every 1,000.

End to end: read from the queue, written, synced, removed. Beside it the destination alone: what is handed to it in
batches of 1,000, as lanes may, until it is answered.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from drivers.homes import fill, log_to, make
from measure import HERE, Figure, Work, compare

EVENTS = 150_000
LINES = 300_000


def run(work: Work) -> list[Figure]:
    def end_to_end() -> float:
        home = make(work.folder / "logfile")
        log = home / "events.log"
        fill(home, EVENTS)
        log_to(home, log)
        took = _told(work, "deliver.py", home)
        with log.open("rb") as file:
            lines = sum(1 for _ in file)
        if lines != EVENTS:
            raise SystemExit(f"{lines} lines of {EVENTS} events")
        shutil.rmtree(home)
        return EVENTS / took

    def destination() -> float:
        return LINES / _told(work, "logfile.py", work.folder / "alone.log", LINES)

    def reference() -> float:
        return _lines_a_second(work)

    whole, alone = compare(work, end_to_end, reference), compare(work, destination, reference)
    over = "over writing the same lines with one fsync every 1,000"
    return [
        Figure(
            "logfile",
            f"events a second end to end into a log file, {over}",
            "×",
            whole.ratios,
            0.5,
            beside=whole.beside("events/s", "lines/s"),
        ),
        Figure(
            "logfile_destination",
            f"events a second that the log file destination takes, {over}",
            "×",
            alone.ratios,
            0.5,
            beside=alone.beside("events/s", "lines/s"),
        ),
    ]


def _told(work: Work, driver: str, *arguments: Path | int) -> float:
    # Not pinned: the reference is not, and nothing else works meanwhile.
    command = [sys.executable, str(HERE / "drivers" / driver), *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _lines_a_second(work: Work) -> float:
    """As a program would that has nothing else to do."""
    path = work.folder / "reference.log"
    line = b"x" * 914 + b"\n"
    start = time.perf_counter()
    with path.open("wb") as file:
        for number in range(1, LINES + 1):
            file.write(line)
            if number % 1_000 == 0:
                file.flush()
                os.fsync(file.fileno())
    took = time.perf_counter() - start
    path.unlink()
    return LINES / took
