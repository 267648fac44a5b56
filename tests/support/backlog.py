"""A start over many waiting events: what it takes, and that all that is delivered is right."""

import time

from support.endpoint import Endpoint
from support.filling import fill
from support.homes import Home, posts_to
from support.oracle import Oracle, assert_books_balance

FIRST_WITHIN = 5.0
MEMORY_KIB = 200 * 1024


def start_over(home: Home, endpoint: Endpoint, count: int, delivered: int) -> None:
    """Fills, starts, waits for so many deliveries, ends; and asserts what `faults.md` D16 promises."""
    oracle = Oracle()
    fill(home, oracle, 0, count)
    home.write_legacy(posts_to(endpoint.url()))
    begun = time.monotonic()
    process = home.run()
    ready = time.monotonic() - begun
    first = endpoint.wait_for_requests(1, 60)[0].arrived - begun
    status = home.json("events", "status")
    endpoint.wait_for_answers(delivered, 600)
    endpoint.hold()
    memory = process.peak_memory_kib()
    print(
        f"{count} events: ready after {ready:.2f} s, first delivery after {first:.2f} s; VmHWM {memory / 1024:.0f} MiB"
        f" after {len(endpoint.answered)} deliveries",
        flush=True,
    )
    assert status["books"]["recorded"] == count
    assert first < FIRST_WITHIN and memory < MEMORY_KIB
    endpoint.release()
    assert process.stop() == 0
    account = oracle.account(endpoint)
    print(account, flush=True)
    assert not (account.corrupted or account.spurious or account.confused or account.repeats)
    assert_books_balance(home.json("events", "status")["books"], recorded=count, delivered=account.accepted)
