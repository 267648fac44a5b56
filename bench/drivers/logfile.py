"""Hands so many events to a log file destination in batches of 1,000: logfile.py FILE EVENTS. Prints the seconds."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from homes import event

from mailvane.clock import SystemClock
from mailvane.destinations.contract import LogFile, Outcome, Outgoing
from mailvane.destinations.logfile import LogFileDestination
from mailvane.events.codecs import stored_form

OUTSTANDING = 4


async def main(path: Path, count: int) -> float:
    destination = LogFileDestination(LogFile(str(path)), clock=SystemClock(), reveal=str)
    forms = [stored_form(event(number)) for number in range(1_000)]
    ended = asyncio.Event()
    sent = answered = 0

    def send() -> None:
        nonlocal sent
        batch = [Outgoing(sent + n, 1, form.body, form.extra, form.valued) for n, form in enumerate(forms)]
        sent += len(batch)
        destination.send(batch, done)

    def done(batch: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        nonlocal answered
        if not all(outcome.delivered for outcome in outcomes):
            raise SystemExit(outcomes[0].text)
        answered += len(batch)
        if sent < count:
            send()
        elif answered == sent:
            ended.set()

    start = time.perf_counter()
    for _ in range(OUTSTANDING):
        send()
    await ended.wait()
    took = time.perf_counter() - start
    await destination.close()
    path.unlink()
    return took


if __name__ == "__main__":
    print(uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]))))
