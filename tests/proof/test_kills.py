"""2,000 kills of `mailvane run` under load, or as many as half an hour takes; run again, it does as many more."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.endpoint import Answer, Endpoint
from support.homes import Home, posts_to
from support.killing import Killing
from support.oracle import Oracle, assert_books_balance
from support.producers import Producers

KILLS = 2_000
ROUND = 50
"""Kills of one home, after which everything must have arrived."""
BESIDE = 2
"""Homes that are killed side by side."""
SECONDS = 27 * 60
AT_LEAST = 1_000
SLOWLY = Answer(200, delay=0.03)


def one_round(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], logs: Path, count: int, until: float
) -> int:
    """How many kills one home went through."""
    endpoint, oracle = make_endpoint(SLOWLY), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    logs.mkdir()
    with Producers(home, logs) as producers:
        killing = Killing(home, endpoint, lambda: producers.noted("acknowledged"))
        producers.start("http", "recorder", pace=0.03)
        producers.start("record", pace=0.5)
        killing.go_on(count, until)
        process = home.run()
        producers.stop()
        producers.tell(oracle)
        books = home.wait_until_empty(120)["books"]
        process.stop()
        assert not producers.refusals()
    account = oracle.account(endpoint)
    endpoint.close()
    print(f"{len(killing.kills)} kills ({killing.idle} more with nothing in flight): {account}", flush=True)
    account.assert_right()
    killing.assert_repeats_bounded(account)
    assert_books_balance(books, recorded=account.accepted, waiting=0)
    return len(killing.kills)


def test_every_acknowledged_event_survives_kills_under_load(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    until = time.monotonic() + SECONDS
    done, begun, lock = 0, 0, threading.Lock()

    def keep_killing(_: int) -> None:
        nonlocal done, begun
        while done < KILLS and time.monotonic() < until:
            with lock:
                begun += 1
                logs = tmp_path / str(begun)
            kills = one_round(make_home, make_endpoint, logs, ROUND, until)
            with lock:
                done += kills

    with ThreadPoolExecutor(BESIDE) as pool:
        list(pool.map(keep_killing, range(BESIDE)))
    print(f"{done} kills in all", flush=True)
    assert done >= AT_LEAST
