"""The configuration is edited while events wait, fail and are on their way: none is lost, none goes to two."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from support.endpoint import Answer, Endpoint
from support.filling import Stopwatch, reorder
from support.homes import Home, legacy, posts_to, rule
from support.oracle import Oracle, assert_books_balance, number_of
from support.producers import Producers
from support.sabotage import FORGETS_WHAT_IS_HELD, sabotaged

TYPES = ["bounce_all", "scomp", "unsub", "click"]
BOUND = 10.0
"""Seconds: asked are one for new events and two for a start; a busy machine is no failure."""


def test_what_waits_for_one_endpoint_goes_to_another_while_some_is_in_flight_and_some_has_failed(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], queue: str
) -> None:
    old, new, oracle = make_endpoint(), make_endpoint(), Oracle()
    home = make_home(legacy=posts_to(old.url()), enable=TYPES, queue=queue)
    home.run()
    old.script(500, 500, 500)
    assert home.post_events(oracle.offers(0, 3)).status == 202
    oracle.takes(0, 3)
    old.wait_for_answers(3)
    old.hold()
    assert home.post_events(oracle.offers(3, 197)).status == 202
    oracle.takes(3, 197)
    old.wait_for_requests(3 + 16)
    home.wait_for_status(lambda status: status["destinations"][0]["retries"] == 3)
    held = len(old.requests) - 3

    home.write_legacy(posts_to(new.url()))
    Stopwatch(home, new, oracle, BOUND).after("re-routed")
    new.wait_for_answers(200 - held + 1)  # those that failed are due at once, too
    assert len(new.requests) == 200 - held + 1, "what is in flight ends where it is"

    old.answer = lambda request: 500 if request.number % 2 else 200
    old.release()  # half of them fail under the old plan: they are due at once under the new one
    books = home.wait_until_empty()["books"]
    account = oracle.account(old, new)
    account.assert_right()
    assert_books_balance(books, delivered=201)
    assert len({number_of(e) for e in new.events()}) == 201 - sum(s == 200 for _, s in old.answered)


def flip(home: Home, one: Endpoint, other: Endpoint, producers: Producers, times: int) -> None:
    """A type goes to one endpoint, then to the other, again and again, while events come in."""
    for turn in range(times):
        endpoint = other if turn % 2 else one
        home.write_legacy(posts_to(endpoint.url()))
        before = len(endpoint.requests)
        endpoint.wait_for(lambda e, before=before: len(e.requests) > before + 20)
    assert producers.noted("acknowledged")


def test_a_type_that_is_delivered_goes_to_a_second_endpoint_and_no_event_to_both(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path, queue: str
) -> None:
    slowly = Answer(200, delay=0.02)
    one, other, oracle = make_endpoint(slowly), make_endpoint(slowly), Oracle()
    home = make_home(legacy=posts_to(one.url()), enable=TYPES, queue=queue)
    home.run()
    with Producers(home, tmp_path) as producers:
        producers.start("http", "recorder")
        flip(home, one, other, producers, 12)
        Stopwatch(home, other, oracle, BOUND).after("re-routed under load")
        producers.stop()
        producers.tell(oracle)
    books = home.wait_until_empty()["books"]
    account = oracle.account(one, other)
    account.assert_right()
    assert not account.repeats
    assert_books_balance(books, recorded=account.accepted)


def test_a_build_that_forgets_what_is_held_is_caught(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    slowly = Answer(200, delay=0.02)
    one, other, oracle = make_endpoint(slowly), make_endpoint(slowly), Oracle()
    home = make_home(legacy=posts_to(one.url()), enable=TYPES)
    with sabotaged(tmp_path, FORGETS_WHAT_IS_HELD):
        home.run()
    (tmp_path / "logs").mkdir()
    with Producers(home, tmp_path / "logs") as producers:
        producers.start("http")
        flip(home, one, other, producers, 6)
        producers.stop()
        producers.tell(oracle)
    account = oracle.account(one, other)
    assert account.shared or account.repeats


def test_rules_change_places_over_100_000_events_half_of_which_stay(
    make_home: Callable[..., Home], endpoint: Endpoint, queue: str
) -> None:
    home, oracle = make_home(enable=TYPES, queue=queue), Oracle()
    reorder(home, endpoint, oracle, 100_000, BOUND)
    left = 50_000
    books = home.status()["books"]
    assert_books_balance(books, recorded=100_000 + 3, dropped=left - 500, delivered=500 + 3, waiting=left)
    oracle.acknowledged = {n: i for n, i in oracle.acknowledged.items() if n >= left}  # the rest is left
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats


def test_c1_a_file_that_is_being_written_or_broken_changes_nothing_also_over_a_restart(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], queue: str
) -> None:
    good, bad, oracle = make_endpoint(), make_endpoint(), Oracle()
    home = make_home(legacy=posts_to(good.url()), enable=TYPES, queue=queue)
    process = home.run()
    watch = Stopwatch(home, good, oracle, BOUND)
    watch.after("at first")

    text = json.dumps(posts_to(bad.url()), indent=2)
    home.legacy_file.write_text("")
    watch.after("an empty file")
    for share in range(1, 5):
        home.legacy_file.write_text(text[: len(text) * share // 5])
        watch.after(f"{share} fifths of a file")
    home.wait_for_status(lambda status: status["config"]["state"] == "stale")
    broken = text.replace('"http_post"', '"http_pots"')
    home.write_legacy(broken)
    watch.after("a mistake in a file")
    status = home.wait_for_status(lambda status: "http_pots" in status["config"]["report"])
    assert f"{home.legacy_file}:" in status["config"]["report"]
    assert process.output.count("http_pots") <= process.output.count("configuration"), "once per change"

    home.wait_until_empty()
    process.kill()
    begun = time.monotonic()
    again = home.run()
    took = time.monotonic() - begun
    print(f"ready {took:.2f} s after a start over a broken file")
    assert took < BOUND
    again.wait_for_output("http_pots")
    watch.after("started over a broken file")
    assert home.status()["config"]["state"] == "stale"

    home.write_legacy(posts_to(good.url("/mended")))
    home.wait_for_status(lambda status: status["config"]["state"] == "current")
    watch.after("mended")
    home.wait_until_empty()
    account = oracle.account(good, bad)
    account.assert_right()
    assert not bad.requests and not account.repeats
    assert good.requests[-1].path == "/mended"


def test_c10_each_event_goes_by_one_plan_whole(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path, queue: str
) -> None:
    """Both rules of a plan name the same path: an event that met half of one plan would arrive by the other's."""
    oracle = Oracle()

    def plan(turn: int) -> dict[str, object]:
        first = rule("http_post", {"event_type": ["scomp"]}, url=endpoint.url(f"/{turn}/scomp"))
        return legacy(first, rule("http_post", url=endpoint.url(f"/{turn}/rest")))

    home = make_home(legacy=plan(0), enable=TYPES, queue=queue)
    home.run()
    with Producers(home, tmp_path) as producers:
        producers.start("http", pace=0.002)
        for turn in range(1, 30):
            home.write_legacy(plan(turn))
            endpoint.wait_for(lambda e, turn=turn: any(r.path == f"/{turn}/rest" for r in e.requests[-20:]))
        producers.stop()
        producers.tell(oracle)
    home.wait_until_empty()
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats
    assert all(request.path.endswith("/rest") for request in endpoint.requests)
