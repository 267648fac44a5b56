"""Restarts of PostgreSQL in immediate mode while everything runs on it, and what came of each event."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.endpoint import Answer, Endpoint
from support.homes import Home, posts_to
from support.oracle import Account, Oracle, assert_books_balance
from support.postgresql import PostgreSQL
from support.producers import Producers

SLOWLY = Answer(200, delay=0.03)
"""So that something is on its way at any moment."""
UNDER_WAY = 0.2
"""Seconds of work between the first delivery after a restart and the next restart, at most."""
PATIENCE = 60.0


@dataclass
class Restarting:
    """Restarts the server that `queue_url` is at, each when events were recorded and delivered since the last."""

    server: PostgreSQL
    queue_url: str
    endpoint: Endpoint
    acknowledged: Callable[[], int]
    restarts: int = 0
    may_repeat: Counter[int] = field(default_factory=Counter[int])
    """By id, at how many restarts its row was there: so often it may arrive after the first time."""
    chance: random.Random = field(default_factory=random.Random)

    def go_on(self, count: int, until: float = float("inf")) -> None:
        """So many more, or until it is `until` (monotonic)."""
        end = self.restarts + count
        while self.restarts < end and time.monotonic() < until:
            before, arrived = self.acknowledged(), len(self.endpoint.requests)
            self.endpoint.wait_for(lambda e, arrived=arrived: len(e.requests) > arrived, PATIENCE)
            self._wait_for_more_than(before)
            time.sleep(self.chance.uniform(0, UNDER_WAY))  # any moment may be the one
            known = self.acknowledged()
            self.server.restart(immediate=True)
            self.restarts += 1
            # Whoever delivers has to find the server again first, and then to deliver.
            rows = [event_id for (event_id,) in self.server.query("SELECT id FROM queue", url=self.queue_url)]
            self.may_repeat.update(rows)
            print(
                f"restart {self.restarts}: {known} acknowledged, {len(self.endpoint.requests)} arrived,"
                f" backlog {len(rows)}",
                flush=True,
            )

    def _wait_for_more_than(self, before: int) -> None:
        end = time.monotonic() + PATIENCE
        while self.acknowledged() <= before:
            assert time.monotonic() < end, f"nothing was acknowledged within {PATIENCE} s after a restart"
            time.sleep(0.01)  # logs tell nobody

    def assert_repeats_bounded(self, account: Account) -> None:
        """An event came again only after restarts at which its row was there, no more often than there were such."""
        too_often = {i: n for i, n in account.repeats.items() if n > self.may_repeat[i]}
        assert not too_often, f"repeated though it had been removed (id: times): {too_often}"


def restart_under_load(
    make_home: Callable[..., Home],
    make_endpoint: Callable[..., Endpoint],
    logs: Path,
    count: int,
    until: float = float("inf"),
) -> int:
    """Runs mailvane on a server of its own, with producers of every kind, and restarts the server so many times.

    What was acknowledged has arrived when this returns, as it was, and the books balance. How many restarts there were.
    """
    endpoint, oracle = make_endpoint(SLOWLY), Oracle()
    with PostgreSQL() as server:
        url = server.database()
        home = make_home(queue=url, legacy=posts_to(endpoint.url()), enable=["bounce_all"])
        process = home.run()
        logs.mkdir()
        with Producers(home, logs) as producers:
            producers.start("http", "recorder", pace=0.03)
            producers.start("record", pace=0.5)
            restarting = Restarting(server, url, endpoint, lambda: producers.noted("acknowledged"))
            restarting.go_on(count, until)
            producers.stop()
            producers.tell(oracle)
            refused = producers.refusals()
        books = home.wait_until_empty(120)["books"]
        process.stop()
        account = oracle.account(endpoint)
        print(f"{restarting.restarts} restarts: {account}; refused: {sorted(refused) or 'nothing'}", flush=True)
        account.assert_right()
        restarting.assert_repeats_bounded(account)
        assert_books_balance(books, recorded=account.accepted, waiting=0)
        assert not refused, "a restart takes less time than recording waits"
    return restarting.restarts
