"""Records one event after the other by so many producers for some seconds: record.py HOME PRODUCERS SECONDS.

Prints events a second; each producer waits for the disk before its next event.
"""

import asyncio
import sys
import time

import uvloop
from homes import event

from mailvane import AsyncRecorder


async def main(home: str, producers: int, seconds: float) -> float:
    recorded = 0
    sample = event(1)
    async with AsyncRecorder(home) as recorder:
        await recorder.record(sample)
        start = time.perf_counter()
        end = start + seconds

        async def produce() -> None:
            nonlocal recorded
            while time.perf_counter() < end:
                if await recorder.record(sample) is None:
                    raise SystemExit("the type is off")
                recorded += 1

        await asyncio.gather(*[produce() for _ in range(producers)])
        return recorded / (time.perf_counter() - start)


if __name__ == "__main__":
    print(uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
