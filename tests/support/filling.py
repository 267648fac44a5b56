"""Fills a queue quickly, and the edit of a configuration over what is in it then."""

import time
from dataclasses import dataclass

from mailvane import Event, Recorder
from support.endpoint import Endpoint
from support.homes import Home, legacy, rule
from support.oracle import Oracle
from support.processes import Process

ADDRESSED = 500
"""Events among all that an endpoint gets after the edit."""


def fill(home: Home, oracle: Oracle, first: int, count: int, event_type: str = "bounce_all") -> None:
    """Records so many minted events by a Recorder, 1,000 at a time. No process may have the home on another disk."""
    with Recorder(home.folder) as recorder:
        for at in range(first, first + count, 1_000):
            number = min(1_000, first + count - at)
            events = oracle.offers(at, number, event_type)
            ids = recorder.record_many([Event(**event) for event in events])
            oracle.takes(at, number, [i or 0 for i in ids])


@dataclass
class Stopwatch:
    """From an edit until an event that is recorded after it arrives; seconds, printed and bounded."""

    home: Home
    endpoint: Endpoint
    oracle: Oracle
    bound: float
    number: int = 900_000_000

    def after(self, what: str, event_type: str = "engine_click") -> None:
        begun = time.monotonic()
        self.number += 1
        answer = self.home.post_events(self.oracle.offers(self.number, 1, event_type))
        assert answer.status == 202
        self.oracle.takes(self.number, 1, [answer.json["results"][0]["id"]])
        told = f"ct-{self.number}".encode()
        seen = 0

        def arrived(endpoint: Endpoint) -> bool:
            nonlocal seen
            new = endpoint.requests[seen:]
            seen += len(new)
            return any(told in request.body for request in new)

        self.endpoint.wait_for(arrived, self.bound)
        print(f"{what}: a new event arrives after {time.monotonic() - begun:.3f} s", flush=True)


LEFT = {"event_type": ["bounce_all", "scomp", "engine_unsub"]}


def reorder(home: Home, endpoint: Endpoint, oracle: Oracle, count: int, bound: float) -> Process:
    """Rules change their places over `count` events, half of which stay left; the process that went through it.

    First all is left. Then `scomp` is dropped and `engine_unsub` delivered by rules that stood below before; then the
    rules go back, over what is left. `engine_click` is delivered throughout.
    """
    leave = rule("leave_in_queue", LEFT)
    drop = rule("drop_from_queue", {"event_type": ["scomp"]})
    post = rule("http_post", {"event_type": ["engine_unsub"]}, url=endpoint.url("/unsub"))
    rest = rule("http_post", url=endpoint.url("/rest"))
    half = count // 2
    home.write_legacy(legacy(leave, drop, post, rest))
    for at in range(0, half, half // 10):  # all sorts mixed
        fill(home, oracle, at, half // 10)
        fill(home, Oracle(), half + at, half // 10 - ADDRESSED // 10, "scomp")  # will be dropped: owed to nobody
        fill(home, oracle, 2 * half + at, ADDRESSED // 10, "engine_unsub")
    begun = time.monotonic()
    process = home.run()
    print(f"ready {time.monotonic() - begun:.2f} s after the start over {count} events", flush=True)
    watch = Stopwatch(home, endpoint, oracle, bound)
    watch.after("all left")

    home.write_legacy(legacy(drop, post, leave, rest))
    watch.after("reordered")
    endpoint.wait_for(lambda e: len(e.answered) >= ADDRESSED + 2, 600)
    home.wait_for_status(lambda s: s["books"]["dropped"] == half - ADDRESSED and s["queue"]["events"] == half, 600)

    home.write_legacy(legacy(leave, drop, post, rest))
    watch.after("back")
    home.wait_for_status(lambda s: s["queue"]["events"] == half, 60)
    return process
