"""Delivers to three destinations and watches the third: neighbours.py HOME COUNT PACED.

First COUNT events of each type wait and are delivered: prints the third's events a second. Then PACED rounds of one
event each are recorded at a steady pace: prints, in milliseconds, the 99th percentile of the time from the commit of
the third's events to their outcome.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop
from homes import event

from mailvane.configuration.settings import load_settings
from mailvane.operations.metrics import Tally
from mailvane.operations.service import Service
from mailvane.operations.taking_over import take_ownership

TYPES = ("bounce_all", "engine_unsub", "scomp")  # the third is the one that is watched


class Watch(Tally):
    """Counts as the third's tally does, and notes when."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0
        self.reached = asyncio.Event()
        self.last = 0.0

    def delivered(self, seconds: Sequence[float]) -> None:
        super().delivered(seconds)
        self.last = time.perf_counter()
        if self.delivered_total >= self.wanted:
            self.reached.set()

    async def wait_for(self, wanted: int) -> None:
        self.wanted = wanted
        self.reached.clear()
        if self.delivered_total < wanted:
            await asyncio.wait_for(self.reached.wait(), 60)


async def main(home: Path, count: int, paced: int) -> None:
    settings = load_settings(home)
    service = Service(settings, await take_ownership(settings, "benchmark"))
    watch = Watch()
    counts = service.metrics.tally
    service.metrics.tally = lambda destination: watch if "third" in destination else counts(destination)  # type: ignore[method-assign]
    await service.start()
    start = time.perf_counter()
    delivering = asyncio.create_task(service.deliver())
    await watch.wait_for(count)
    print(count / (watch.last - start))
    samples = [msgspec.structs.replace(event(1), event_type=kind) for kind in TYPES]
    times: list[float] = []
    for number in range(paced):
        await service.record(samples[:2])
        await service.record(samples[2:])
        committed = time.perf_counter()
        await watch.wait_for(count + number + 1)
        times.append(watch.last - committed)
        await asyncio.sleep(0.004)
    times.sort()
    print(max(0.0, times[int(len(times) * 0.99)]) * 1000)
    await service.stop(0.1)
    await delivering


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
