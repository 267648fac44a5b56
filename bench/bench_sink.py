"""What the other figures are divided by, and how we know that the sinks are not what is measured."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager

from measure import Figure, Sink, Work, core_share, event_body, fdatasyncs_a_second, plain_sink, sample, tls_sink, wrk


def run(work: Work) -> list[Figure]:
    return [
        Figure(
            "fdatasync",
            "fdatasync of 8 KiB overwritten, a second",
            "/s",
            sample(work, lambda: fdatasyncs_a_second(work)),
        ),
        *reserve(work, "http", "sink.c", plain_sink),
        *reserve(work, "https", "nginx", tls_sink),
    ]


def reserve(work: Work, scheme: str, server: str, sink: Callable[[Work], AbstractContextManager[Sink]]) -> list[Figure]:
    """wrk's rate, and how much of its core the sink needed for it.

    wrk is quicker than anything that is divided by it. A sink that is idle part of the time under wrk could take more
    than that, and much more than a slower client gives it. nginx is nearly busy with wrk's TLS: there the sink's share
    while mailvane delivers, which those benchmarks print, says whether it held mailvane up.
    """
    rates, shares = list[float](), list[float]()
    with sink(work) as served:
        for _ in range(work.rounds):
            with core_share(served.pid) as share:
                rates.append(wrk(work, served.url, event_body()).rate)
            shares.append(share.value)
    could = statistics.median(rate / share for rate, share in zip(rates, shares, strict=True))
    return [
        Figure(f"wrk-{scheme}", f"POSTs of 915 bytes by wrk -t1 -c64 to {server}, {scheme}", "/s", tuple(rates)),
        Figure(
            f"sink-{scheme}",
            f"share of its core that {server} uses meanwhile",
            "",
            tuple(shares),
            must=0.95 if scheme == "http" else None,
            better="less",
            beside={f"{server} could take, /s": could},
        ),
    ]
