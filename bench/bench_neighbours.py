"""What sick neighbours cost: the third destination's throughput and 99th percentile, healthy and sick in turn."""

import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from drivers.homes import event, make, point, rule
from mailvane import Recorder
from measure import HERE, Figure, Sink, Work, pinned, plain_sink

PAIRS = 9
COUNT = 20_000
PACED = 400
KINDS = ("bounce_all", "engine_unsub", "scomp")


def run(work: Work) -> list[Figure]:
    with plain_sink(work) as sink, _sick(work) as (silent, refusing):
        healthy: list[tuple[float, float]] = []
        sick: list[tuple[float, float]] = []
        for _ in range(max(PAIRS, work.rounds)):
            healthy.append(_third(work, sink, sink.url + "/first", sink.url + "/second"))
            sick.append(_third(work, sink, silent, refusing))
    throughput = tuple(s[0] / h[0] for h, s in zip(healthy, sick, strict=True))
    latency = tuple(s[1] / h[1] for h, s in zip(healthy, sick, strict=True))
    rates = {"events/s healthy": _median(healthy, 0), "events/s sick": _median(sick, 0)}
    times = {"ms healthy": _median(healthy, 1), "ms sick": _median(sick, 1)}
    return [
        Figure("neighbours_throughput", "third destination's events a second, sick over healthy neighbours", "×",
               throughput, 0.85, beside=rates),
        Figure("neighbours_latency", "third destination's 99th percentile, sick over healthy neighbours", "×",
               latency, 1.5, better="less", beside=times),
    ]  # fmt: skip


def _median(of: list[tuple[float, float]], which: int) -> float:
    return statistics.median(one[which] for one in of)


def _third(work: Work, sink: Sink, first: str, second: str) -> tuple[float, float]:
    home = make(work.folder / "neighbours")
    with Recorder(home) as recorder:
        for at in range(0, COUNT, 500):
            recorder.record_many(
                msgspec.structs.replace(event(at + i), event_type=kind) for i in range(500) for kind in KINDS
            )
    point(
        home,
        rule(first, {"event_type": KINDS[0]}),
        rule(second, {"event_type": KINDS[1]}),
        rule(sink.url + "/third"),
    )
    command = pinned(work.core, sys.executable, HERE / "drivers/neighbours.py", home, str(COUNT), str(PACED))
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    shutil.rmtree(home)
    return float(said[0]), float(said[1])


@contextlib.contextmanager
def _sick(work: Work) -> Iterator[tuple[str, str]]:
    ports: list[int] = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    command = pinned(work.sink_core, sys.executable, HERE / "drivers/sick.py", *map(str, ports))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{ports[0]}/silent", f"http://127.0.0.1:{ports[1]}/refusing"
        finally:
            process.terminate()
