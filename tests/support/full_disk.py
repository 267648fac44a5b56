"""A home on a small disk that is filled to the last page, with producers at work and events on their way."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.endpoint import Answer, Endpoint
from support.homes import Home, Json, posts_to
from support.oracle import Account, Oracle
from support.producers import Producers
from support.tmpfs import Tmpfs

SIZE = "32m"
WAITING = 1_000
SLOWLY = Answer(200, delay=0.01)


def fill(file: Path) -> None:
    """Fills a file's disk to the last page."""
    with file.open("ab", buffering=0) as junk:
        for size in (2**16, 2**12):
            try:
                while junk.write(b"\0" * size):
                    pass
            except OSError as e:
                assert e.errno == errno.ENOSPC


@dataclass
class Full:
    """A home on a small disk, its endpoint held with events in flight, and producers at work in other processes."""

    home: Home
    endpoint: Endpoint
    producers: Producers
    oracle: Oracle
    posted: int = 0

    @property
    def ballast(self) -> Path:
        return self.home.seen / "ballast"

    @property
    def junk(self) -> Path:
        return self.home.seen.parent / "junk"

    def fill(self) -> None:
        fill(self.junk)

    def post(self, count: int = 1) -> int:
        first = 10_000 + 100 * self.posted
        self.posted += 1
        answer = self.home.post_events(self.oracle.offers(first, count))
        if answer.status == 202:
            self.oracle.takes(first, count, [result["id"] for result in answer.json["results"]])
        else:
            assert answer.status == 503 and answer.headers["retry-after"].isdigit(), answer
        return answer.status

    def fill_until_refused(self) -> None:
        """The log may have some room of its own left."""
        for _ in range(500):
            self.fill()
            if self.post(50) == 503:
                return
        raise AssertionError("25,000 events were taken on a full disk")

    def wait_for_refusals(self, count: int) -> None:
        """Until the producers in other processes have been refused so often from now on."""
        self.producers.wait_for("refused", count)

    def account(self) -> Account:
        self.producers.tell(self.oracle)
        return self.oracle.account(self.endpoint)

    def make_room(self) -> None:
        self.junk.unlink()

    def wait_until_taken(self) -> None:
        """Until others record again."""
        self.home.wait_for_status(lambda _: self.home.get("/readyz").status == 200)
        self.producers.wait_for("acknowledged", 10)

    def end(self) -> tuple[Account, Json]:
        """Makes room, and waits until everything is recorded and delivered; the account and the books."""
        self.make_room()
        self.wait_until_taken()
        assert self.post() == 202
        self.producers.stop()
        status = self.home.wait_until_empty()
        assert not status["trouble"] and self.ballast.exists()
        return self.account(), status["books"]


@contextlib.contextmanager
def small_disk(folder: Path, logs: Path, endpoint: Endpoint) -> Iterator[Full]:
    """`mailvane run` on a disk of its own; the endpoint is held with events in flight, and others record."""
    endpoint.answer = SLOWLY
    endpoint.hold()
    oracle = Oracle()
    logs.mkdir()
    with Tmpfs(folder / "t", size=SIZE) as small:
        switches = ["bounce_all", "scomp"]
        plan = posts_to(endpoint.url())
        with Home(small.folder, legacy=plan, enable=switches, prefix=small.prefix, seen=small.seen) as home:
            home.run()
            assert home.post_events(oracle.offers(1, WAITING)).status == 202
            oracle.takes(1, WAITING)
            with Producers(home, logs) as producers:
                producers.start("socket", "recorder", pace=0.02)
                endpoint.wait_for_requests(16)
                yield Full(home, endpoint, producers, oracle)
