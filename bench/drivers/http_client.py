"""Drives HttpDestination alone, with nothing before or behind it, and wrk in turn: what the client itself can do.

usage: http_client.py URL [--rounds N] [--seconds S] [--ca FILE] [--core N] [--plain-loop] [--profile]
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence

import uvloop

from mailvane.clock import SystemClock
from mailvane.destinations.addresses import Policy, SystemResolver
from mailvane.destinations.contract import HttpPost, Outcome, Outgoing
from mailvane.destinations.http import HttpDestination

CONCURRENCY = 64
BODY = '"event_type":"bounce_all","email":"user@example.com","bounce_text":"' + "x" * 830 + '"'


async def client(url: str, seconds: float, ca: str) -> tuple[int, float]:
    """Events delivered a second, and CPU seconds each."""
    destination = HttpDestination(
        HttpPost(url),
        epoch="k3v9",
        policy=Policy(),
        resolver=SystemResolver(),
        clock=SystemClock(),
        reveal=lambda value: value,
        tls_ca_file=ca,
    )
    destination.allow(CONCURRENCY)
    number = delivered = 0
    going = True
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    outstanding = 0

    def done(batch: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        nonlocal delivered, outstanding
        outcome = outcomes[0]
        if outcome.failure is not None:
            raise SystemExit(f"failed: {outcome}")
        delivered += 1
        outstanding -= 1
        if going:
            send()
        elif not outstanding:
            ended.set_result(None)

    def send() -> None:
        nonlocal number, outstanding
        number += 1
        outstanding += 1
        destination.send((Outgoing(number, 1, BODY, "", len(BODY)),), done)

    for _ in range(CONCURRENCY):
        send()
    await asyncio.sleep(0.3)
    began, cpu, before = time.perf_counter(), time.process_time(), delivered
    await asyncio.sleep(seconds)
    count, took = delivered - before, time.perf_counter() - began
    cpu = time.process_time() - cpu
    going = False
    await ended
    await destination.close()
    return int(count / took), cpu / count


def wrk(url: str, seconds: float, core: int) -> tuple[float, float]:
    """Requests a second that wrk makes with the same body, and CPU seconds each."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = '{"id":1000000,' + BODY + "}"
        script.write(f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [[{body}]]\n')
        script.flush()
        command = f"taskset -c {core} wrk -t1 -c{CONCURRENCY} -d{seconds}s -s {script.name} {url}".split()
        before = os.times()
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        after = os.times()
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"(\d+) requests in", said)
    assert rate and count, said
    if "Non-2xx" in said or "Socket errors" in said:
        print(said)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return float(rate[1]), cpu / int(count[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--ca", default="")
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--plain-loop", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    factory = asyncio.new_event_loop if options.plain_loop else uvloop.new_event_loop
    if options.profile:
        profile = cProfile.Profile()
        with asyncio.Runner(loop_factory=factory) as runner, profile:
            runner.run(client(options.url, options.seconds, options.ca))
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    ratios: list[float] = []
    efforts: list[float] = []
    for _ in range(options.rounds):
        before, cpu_before = wrk(options.url, options.seconds, options.core)
        with asyncio.Runner(loop_factory=factory) as runner:
            rate, cpu = runner.run(client(options.url, options.seconds, options.ca))
        after, cpu_after = wrk(options.url, options.seconds, options.core)
        ratios.append(rate / ((before + after) / 2))
        efforts.append((cpu_before + cpu_after) / 2 / cpu)
        print(
            f"a second: wrk {before:.0f} {after:.0f}, client {rate} ({ratios[-1]:.3f});"
            f" CPU us each: wrk {cpu_before * 1e6:.1f} {cpu_after * 1e6:.1f}, client {cpu * 1e6:.1f}"
            f" ({efforts[-1]:.3f})",
            flush=True,
        )
    print(f"median of rates {statistics.median(ratios):.3f}, of CPU {statistics.median(efforts):.3f}")


if __name__ == "__main__":
    main()
