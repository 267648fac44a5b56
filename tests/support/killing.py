"""Kills `mailvane run` in the middle of its work, again and again, and keeps what was in flight each time."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import apsw
import psycopg

from support.endpoint import Endpoint
from support.homes import Home
from support.oracle import Account, ids_in
from support.processes import Process

UNDER_WAY = 0.1
"""Seconds of work between the first delivery of a process and its death, at most."""


@dataclass(frozen=True)
class Kill:
    """One that counts. `acknowledged`: all that producers knew to be recorded by then."""

    number: int
    acknowledged: int
    in_flight: int
    """Events that had arrived at the endpoint and whose rows were still there: what may come again."""
    unanswered: int
    """Of these, those that the endpoint had not answered yet."""
    backlog: int

    def __str__(self) -> str:
        return (
            f"kill {self.number}: {self.acknowledged} acknowledged, {self.in_flight} in flight"
            f" ({self.unanswered} not answered yet), backlog {self.backlog}"
        )


@dataclass
class Killing:
    """Kills until so many count. `endpoint` must be slow enough for something to be in flight."""

    home: Home
    endpoint: Endpoint
    acknowledged: Callable[[], int]
    kills: list[Kill] = field(default_factory=list[Kill])
    idle: int = 0
    """Kills with nothing in flight, which do not count."""
    may_repeat: Counter[int] = field(default_factory=Counter[int])
    """By id, how often it may arrive after the first time."""
    chance: random.Random = field(default_factory=random.Random)

    def go_on(self, count: int, until: float = float("inf")) -> None:
        """Starts with nothing running and ends with nothing running, or when it is `until` (monotonic)."""
        end = len(self.kills) + count
        while len(self.kills) < end and time.monotonic() < until:
            process = self.home.start("run")
            before = len(self.endpoint.requests)
            self.endpoint.wait_for(lambda e, before=before: len(e.requests) > before, 60)
            time.sleep(self.chance.uniform(0, UNDER_WAY))  # any moment may be the one
            self._kill(process, before)
            self.home.processes.remove(process)
            process.close()

    def _kill(self, process: Process, before: int) -> None:
        """`before`: how many requests had arrived when it was started."""
        process.kill()
        answered = len(self.endpoint.answered)  # what is answered from here on, the dead process does not hear
        acknowledged = self.acknowledged()
        # Its connections are gone when the endpoint has seen to everything that it got by them.
        self.endpoint.wait_for(lambda e: e.open_connections == 0)
        rows = rows_of(self.home)
        in_flight = ids_in(self.endpoint.requests[before:]) & rows
        heard = ids_in(request for request, _ in self.endpoint.answered[:answered] if request.number > before)
        if not in_flight:
            self.idle += 1
            return
        self.may_repeat.update(in_flight)
        kill = Kill(len(self.kills) + 1, acknowledged, len(in_flight), len(in_flight - heard), len(rows))
        self.kills.append(kill)
        print(kill, flush=True)

    def assert_repeats_bounded(self, account: Account) -> None:
        """An event came again only after kills at which it was in flight, and no more often than there were such."""
        too_often = {i: n for i, n in account.repeats.items() if n > self.may_repeat[i]}
        assert not too_often, f"repeated without having been in flight at a kill (id: times): {too_often}"


def rows_of(home: Home) -> set[int]:
    """The ids in the queue, while no process of mailvane's needs to run."""
    if home.queue:
        with psycopg.connect(home.queue) as connection:
            return {int(row[0]) for row in connection.execute("SELECT id FROM queue")}
    database = apsw.Connection(str(home.seen / "queue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    database.set_busy_timeout(30_000)
    try:
        return {int(str(row[0])) for row in database.execute("SELECT id FROM queue")}
    finally:
        database.close()
