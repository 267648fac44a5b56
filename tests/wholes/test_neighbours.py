"""Sick endpoints beside a healthy one, from outside: nothing waits for them, nothing grows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw

from support.endpoint import Endpoint
from support.filling import fill
from support.homes import Home, legacy, rule
from support.oracle import Oracle, assert_books_balance
from support.processes import Process
from support.sabotage import OPENS_NO_CIRCUIT, sabotaged

BACKLOG = 3_000
"""Events that wait for each of the sick ones."""
ROUNDS = 30


@dataclass(frozen=True)
class Size:
    """What must stay flat."""

    deferred: int
    memory_kib: int
    pages: int
    """Of the database, in use."""


def sizes(home: Home, process: Process) -> Size:
    database = apsw.Connection(str(home.seen / "queue.db"), flags=apsw.SQLITE_OPEN_READONLY)
    pages = int(database.pragma("page_count")) - int(database.pragma("freelist_count"))
    database.close()
    return Size(home.status()["destinations"][0]["retries"], process.peak_memory_kib(), pages)


def test_h23_a_healthy_endpoint_gets_everything_while_others_are_sick(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint]
) -> None:
    silent, wrong, healthy = make_endpoint(reads=False), make_endpoint(404), make_endpoint()
    owed, oracle = Oracle(), Oracle()
    plan = legacy(
        rule("http_post", {"event_type": ["bounce_all"]}, url=silent.url()),
        rule("http_post", {"event_type": ["scomp"]}, url=wrong.url()),
        rule("http_post", url=healthy.url()),
    )
    home = make_home(legacy=plan, enable=["bounce_all", "scomp", "unsub"])
    for at in range(0, BACKLOG, 1_000):
        fill(home, owed, at, 1_000)
        fill(home, owed, BACKLOG + at, 1_000, "scomp")
    process = home.run()
    silent.wait_for(lambda e: e.open_connections >= 16)
    home.wait_for_status(lambda s: s["destinations"][0]["routes"][1]["state"] == "circuit_open")

    before = after = sizes(home, process)
    for turn in range(ROUNDS):
        first = 100_000 + 100 * turn
        assert home.post_events(oracle.offers(first, 100, "engine_unsub")).status == 202
        oracle.takes(first, 100)
        sick = owed.offers(2 * BACKLOG + 2 * turn, 1) + owed.offers(2 * BACKLOG + 2 * turn + 1, 1, "scomp")
        assert home.post_events(sick).status == 202
        healthy.wait_for_answers(100 * (turn + 1))  # before anything else comes
        if turn == ROUNDS // 3:
            before = sizes(home, process)
    after = sizes(home, process)
    print(f"{before} after a third, {after} at the end")
    account = oracle.account(healthy)
    account.assert_right()
    assert not account.repeats
    assert silent.open_connections <= 256 and len(wrong.requests) < 100
    assert after.deferred <= before.deferred + 10 < 100
    assert after.memory_kib < before.memory_kib + 16 * 1024
    assert after.pages < before.pages + 100
    routes = {route["destination"]: route["state"] for route in home.status()["destinations"][0]["routes"]}
    assert routes[f"http_post {healthy.url()}"] == "ok"

    wrong.answer = 200  # and all that waited for it goes out
    home.mailvane("events", "retry", "--all")
    wrong.wait_for(lambda e: sum(status == 200 for _, status in e.answered) >= BACKLOG + ROUNDS)
    status = home.wait_for_status(lambda s: s["queue"]["events"] == BACKLOG + ROUNDS)
    assert_books_balance(status["books"], delivered=100 * ROUNDS + BACKLOG + ROUNDS)


def test_a_build_without_circuits_is_caught(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    wrong = make_endpoint(404)
    home = make_home(legacy=legacy(rule("http_post", url=wrong.url())), enable=["scomp"])
    fill(home, Oracle(), 0, BACKLOG, "scomp")
    with sabotaged(tmp_path, OPENS_NO_CIRCUIT):
        home.run()
        wrong.wait_for_requests(200)
        home.wait_for_status(lambda status: status["destinations"][0]["retries"] > 100)
