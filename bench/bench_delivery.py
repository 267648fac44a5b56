"""Events a second end to end, by http and https: read, POSTed one by one, 2xx, removed; over wrk's single POSTs."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from drivers.homes import fill, make, point, rule
from measure import HERE, Figure, Sink, Work, compare, core_share, event_body, pinned, plain_sink, tls_sink, wrk

EVENTS = 150_000


def run(work: Work) -> list[Figure]:
    return [
        _figure(work, "http", plain_sink, 0.35, 0.5),
        _figure(work, "https", tls_sink, 0.40, 0.55),
    ]


def _figure(
    work: Work, scheme: str, sink: Callable[[Work], AbstractContextManager[Sink]], must: float, ambitious: float
) -> Figure:
    with sink(work) as endpoint:
        conf = f"tls_ca_file {endpoint.certificate}" if endpoint.certificate else ""
        shares: list[float] = []

        def deliver() -> float:
            home = make(work.folder / f"delivery-{scheme}", conf)
            fill(home, EVENTS)
            point(home, rule(endpoint.url))
            with core_share(endpoint.pid) as share:
                took = _seconds(work, home)
            shares.append(share.value)
            shutil.rmtree(home)
            return EVENTS / took

        def reference() -> float:
            return wrk(work, endpoint.url, event_body()).rate

        result = compare(work, deliver, reference)
    return Figure(
        f"delivery_{scheme}",
        f"events a second end to end, {scheme}, one process on one core, over wrk -t1 -c64",
        "×",
        result.ratios,
        must,
        ambitious,
        beside=result.beside("events/s", "wrk POSTs/s"),
        note=f"the sink used {max(shares):.0%} of its core at most while we delivered, so it was not the bottleneck",
    )


def _seconds(work: Work, home: Path) -> float:
    command = pinned(work.core, sys.executable, HERE / "drivers/deliver.py", home)
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
