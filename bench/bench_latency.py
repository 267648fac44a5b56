"""From commit to arrival at the endpoint on an idle system: the 99th percentile."""

import shutil
import socket
import subprocess
import sys

from drivers.homes import make, point, rule
from measure import HERE, Figure, Work, pinned, sample

COUNT = 600


def run(work: Work) -> Figure:
    medians: list[float] = []

    def percentile99() -> float:
        milliseconds = sorted(_latencies(work))
        medians.append(milliseconds[len(milliseconds) // 2])
        return milliseconds[int(len(milliseconds) * 0.99)]

    rounds = sample(work, percentile99)
    return Figure(
        "latency",
        "from commit to arrival at the endpoint, idle system, 99th percentile",
        "ms",
        rounds,
        2.0,
        better="less",
        beside={"median ms": sorted(medians)[len(medians) // 2]},
    )


def _latencies(work: Work) -> list[float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    home = make(work.folder / "latency")
    point(home, rule(f"http://127.0.0.1:{port}/hook"))
    endpoint = pinned(work.sink_core, sys.executable, HERE / "drivers/arrivals.py", str(port), str(COUNT + 1))
    with subprocess.Popen(endpoint, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        command = pinned(work.core, sys.executable, HERE / "drivers/latency.py", home, str(COUNT))
        committed = _pairs(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        arrived = _pairs(process.stdout.read())
    shutil.rmtree(home)
    return [(arrived[i] - at) / 1e6 for i, at in committed.items()]


def _pairs(text: str) -> dict[int, int]:
    return {int(a): int(b) for a, b in (line.split() for line in text.splitlines())}
