"""`mailvane run` is killed while others record: what was acknowledged arrives."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.endpoint import Answer, Endpoint
from support.homes import Home, posts_to
from support.killing import Killing
from support.oracle import Oracle, assert_books_balance
from support.producers import Producers
from support.sabotage import ACKNOWLEDGES_BEFORE_THE_COMMIT, sabotaged
from support.tools import tool

KILLS = 20
SLOWLY = Answer(200, delay=0.03)


def test_d3_every_acknowledged_event_survives_kills_under_load(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path, queue: str
) -> None:
    endpoint, oracle = make_endpoint(SLOWLY), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=queue)
    with Producers(home, tmp_path) as producers:
        killing = Killing(home, endpoint, lambda: producers.noted("acknowledged"))
        producers.start("http", "record", "recorder")
        killing.go_on(KILLS)
        home.run()
        producers.stop()
        producers.tell(oracle)
        books = home.wait_until_empty(60)["books"]
        refusals = producers.refusals()
    account = oracle.account(endpoint)
    print(f"{len(killing.kills)} kills ({killing.idle} more with nothing in flight): {account}")
    account.assert_right()
    killing.assert_repeats_bounded(account)
    assert not refusals, "nothing that was offered was wrong, and a kill is no refusal"
    assert len(killing.kills) == KILLS
    assert all(kill.in_flight for kill in killing.kills) and any(kill.unanswered for kill in killing.kills)
    assert account.acknowledged > 20 * KILLS
    assert_books_balance(books, recorded=account.accepted, waiting=0)


def test_an_acknowledgement_before_the_commit_is_caught(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint, oracle = make_endpoint(), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    with sabotaged(tmp_path, ACKNOWLEDGES_BEFORE_THE_COMMIT):
        process = home.run()
        assert home.post_events(oracle.offers(1, 3)).status == 202
        oracle.takes(1, 3)
        process.kill()
    home.run()
    home.wait_until_empty()
    assert oracle.account(endpoint).missing == {1, 2, 3}


def test_d2_a_kill_right_after_the_acknowledgement_loses_nothing(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], queue: str
) -> None:
    endpoint, oracle = make_endpoint(), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=queue)
    for first in range(1, 16, 3):
        process = home.run()
        answer = home.post_events(oracle.offers(first, 3))
        process.kill()
        assert answer.status == 202
        oracle.takes(first, 3, [result["id"] for result in answer.json["results"]])
    home.run()
    home.wait_until_empty()
    oracle.account(endpoint).assert_right()


@pytest.mark.parametrize("owned", [False, True])
def test_d1_programs_that_are_killed_while_they_record_leave_nothing_half_written(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path, owned: bool
) -> None:
    home, oracle = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"]), Oracle()
    if owned:
        home.run()
    with Producers(home, tmp_path) as producers:
        for _ in range(4):
            producers.start("recorder", "record", pace=0)
            producers.wait_for("acknowledged", 50)
            producers.kill()
        producers.tell(oracle)
    if not owned:
        shell = [tool("sqlite3"), "-cmd", ".timeout 30000", str(home.folder / "queue.db"), "PRAGMA integrity_check"]
        assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == "ok\n"
        home.run()
    books = home.wait_until_empty()["books"]
    account = oracle.account(endpoint)
    print(account)
    account.assert_right()
    assert not account.repeats
    assert_books_balance(books, recorded=account.accepted)
