"""How long `mailvane --help` takes, as a whole command."""

import subprocess
import time

from drivers.homes import COMMAND
from measure import Figure, Work, sample


def run(work: Work) -> Figure:
    def help_() -> float:
        start = time.perf_counter()
        subprocess.run([COMMAND, "--help"], check=True, capture_output=True)
        return time.perf_counter() - start

    help_()
    return Figure("help", "`mailvane --help`", "s", sample(work, help_), 0.25, better="less")
