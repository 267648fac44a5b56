"""Durable records a second, over what the disk can make durable: one process, 64 and 512 producers."""

import subprocess
import sys

from drivers.homes import make
from measure import HERE, Figure, Work, compare, fdatasyncs_a_second

WANTED = {64: (6.0, 12.0), 512: (8.0, 18.0)}


def run(work: Work) -> list[Figure]:
    return [_figure(work, producers) for producers in WANTED]


def _figure(work: Work, producers: int) -> Figure:
    home = make(work.folder / f"recording-{producers}")

    def records() -> float:
        command = [sys.executable, HERE / "drivers/record.py", home, str(producers), str(work.seconds)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    result = compare(work, records, lambda: fdatasyncs_a_second(work))
    must, ambitious = WANTED[producers]
    return Figure(
        f"recording_{producers}",
        f"durable records a second, {producers} producers, over fdatasync a second",
        "×",
        result.ratios,
        must,
        ambitious,
        beside=result.beside("records/s", "fdatasync/s"),
    )
