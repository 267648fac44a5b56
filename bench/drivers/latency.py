"""Records an event every few milliseconds on an idle system: latency.py HOME COUNT.

Prints `ID NANOSECONDS`: when each event's COMMIT had returned (CLOCK_MONOTONIC).
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from homes import event

from mailvane.configuration.settings import load_settings
from mailvane.operations.service import Service
from mailvane.operations.taking_over import take_ownership
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.writer import Answer, Group

committed: list[tuple[int, int]] = []
append = SQLiteWriter.append


def stamped(self: SQLiteWriter, groups: Sequence[Group]) -> list[Answer]:
    answers = append(self, groups)
    now = time.monotonic_ns()
    committed.extend((i, now) for ids in answers if isinstance(ids, list) for i in ids)
    return answers


async def main(home: Path, count: int) -> None:
    settings = load_settings(home)
    service = Service(settings, await take_ownership(settings, "benchmark"))
    await service.start()
    delivering = asyncio.create_task(service.deliver())
    await service.record([event(0)])  # opens the connection
    await asyncio.sleep(0.5)
    SQLiteWriter.append = stamped
    for number in range(1, count + 1):
        await service.record([event(number)])
        await asyncio.sleep(0.003)
    await service.stop(5)
    await delivering
    for event_id, now in committed:
        print(event_id, now)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
