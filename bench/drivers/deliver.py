"""Delivers what waits in a home, and ends: deliver.py HOME. Prints the seconds that it took, start of Python aside."""

import gc
import sys
import time
from pathlib import Path

import uvloop

from mailvane.configuration.settings import load_settings
from mailvane.operations.service import Service
from mailvane.operations.taking_over import take_ownership


async def main(home: Path) -> float:
    settings = load_settings(home)
    service = Service(settings, await take_ownership(settings, "benchmark"))
    await service.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    start = time.perf_counter()
    await service.deliver(once=True)
    took = time.perf_counter() - start
    left = (await service.status()).queue.events
    await service.stop(1)
    if left:
        raise SystemExit(f"{left} events are left")
    return took


if __name__ == "__main__":
    print(uvloop.run(main(Path(sys.argv[1]))))
