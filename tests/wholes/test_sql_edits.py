"""The configuration leads from an endpoint to a database and back: nothing is lost, no event goes to both or twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from destinations.matrix.far_ends import Arrival, FarEnd, far_end
from support.endpoint import Answer, Endpoint
from support.homes import Home, posts_to
from support.oracle import Oracle, assert_books_balance, mint
from support.producers import Producers


@pytest.fixture(params=["mysql: MariaDB", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def queue(kind: str, request: pytest.FixtureRequest) -> str:
    """In SQLite before a table in MariaDB; before one in PostgreSQL in the same database."""
    return request.getfixturevalue("postgresql_url") if kind == "postgresql" else ""


@pytest.fixture
def table(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FarEnd]:
    """A table with no key, so that what comes twice is seen twice."""
    with far_end(kind, request, tmp_path) as made:
        yield made


def number_in(arrival: Arrival) -> int:
    """The number of the minted event that arrived in a table, as it was minted."""
    number = int(arrival.email.removeprefix("user").removesuffix("@example.com"))
    minted = mint(number)
    assert (arrival.email, arrival.text) == (minted["email"], minted["bounce_text"])
    return number


def assert_each_went_to_one(oracle: Oracle, table: FarEnd, endpoint: Endpoint) -> None:
    """Every acknowledged event is in the table, once, or was answered 2xx, once, and not both."""
    there = oracle.account(endpoint)
    assert not (there.corrupted or there.spurious or there.confused), there
    in_table = Counter(number_in(arrival) for arrival in table.arrived())
    posted = Counter(int(event["click_tracking_id"][3:]) for event in endpoint.events())
    print(f"{len(in_table)} in the table, {len(posted)} at the endpoint")
    assert oracle.acknowledged.keys() <= in_table.keys() | posted.keys() <= oracle.offered
    assert not [number for number, times in (in_table + posted).items() if times > 1]
    assert in_table and posted


def post(home: Home, oracle: Oracle, first: int, count: int) -> None:
    assert home.post_events(oracle.offers(first, count)).status == 202
    oracle.takes(first, count)


def flying(home: Home) -> int:
    """How many events are on their way, also by a plan that is no longer in force."""
    return sum(event["state"] == "in_flight" for event in home.waiting())


def test_what_is_in_flight_ends_where_it_is_and_the_rest_goes_to_the_other(
    table: FarEnd, make_home: Callable[..., Home], endpoint: Endpoint, queue: str
) -> None:
    oracle = Oracle()
    home = make_home(legacy=table.document(), enable=["bounce_all"], queue=queue)
    home.run()
    table.stall()
    post(home, oracle, 1, 100)
    held = home.wait_for_status(lambda status: (status["queue"]["in_flight"] or 0) > 0)["queue"]["in_flight"]
    post(home, oracle, 101, 100)  # waits behind what is in flight: a second batch goes along only when it is full

    home.write_legacy(posts_to(endpoint.url()))
    endpoint.wait_for_answers(200 - held)
    home.wait_for_status(lambda status: status["queue"]["events"] == held)
    assert flying(home) == held, "what is in flight at the database ends there"

    endpoint.hold()
    post(home, oracle, 201, 100)
    endpoint.wait_for_requests(200 - held + 16)
    home.write_legacy(table.document())
    post(home, oracle, 301, 100)  # goes by the new plan
    home.wait_for_status(lambda status: (status["queue"]["in_flight"] or 0) > 0)
    assert flying(home) > held + 16, "all three are under way at once"
    table.mend()
    home.wait_for_status(lambda status: status["queue"]["events"] == len(endpoint.requests) - (200 - held))
    arrived = len(endpoint.requests)
    endpoint.answer = lambda request: 500 if request.number % 2 else 200
    endpoint.release()  # half of them fail under the old plan: they are due at once under the new one
    books = home.wait_until_empty()["books"]
    assert_each_went_to_one(oracle, table, endpoint)
    assert_books_balance(books, recorded=400, delivered=400)
    assert len(endpoint.requests) == arrived


def test_a_type_changes_between_an_endpoint_and_a_table_under_load_and_no_event_goes_to_both(
    table: FarEnd, make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path, queue: str
) -> None:
    endpoint, oracle = make_endpoint(Answer(200, delay=0.02)), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"], queue=queue)
    home.run()
    logs = tmp_path / "logs"
    logs.mkdir()
    with Producers(home, logs) as producers:
        producers.start("http", "recorder")
        for _ in range(6):
            before = table.count()
            home.write_legacy(table.document())
            home.wait_for_status(lambda _, before=before: table.count() > before + 20)
            posted = len(endpoint.requests)
            home.write_legacy(posts_to(endpoint.url()))
            endpoint.wait_for(lambda e, posted=posted: len(e.requests) > posted + 20)
        producers.stop()
        producers.tell(oracle)
    books = home.wait_until_empty()["books"]
    assert_each_went_to_one(oracle, table, endpoint)
    assert_books_balance(books, delivered=books["recorded"])
