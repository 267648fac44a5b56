"""`mailvane run` is killed while others record and a database is delivered to: all arrives, and nothing twice."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from destinations.databases import Place, configuration
from mailvane.destinations.contract import Database
from support.homes import Home
from support.killing import rows_of
from support.oracle import Oracle, assert_books_balance, mint
from support.producers import Producers

KILLS = 5
"""That count: with events which the table had, and the queue too."""


@pytest.fixture(params=[Database.MYSQL, Database.POSTGRESQL])
def database(request: pytest.FixtureRequest) -> Database:
    return request.param


@pytest.fixture
def queue(database: Database, request: pytest.FixtureRequest) -> str:
    """In SQLite before a table in MariaDB; before one in PostgreSQL in the same database."""
    return "" if database is Database.MYSQL else request.getfixturevalue("postgresql_url")


@pytest.fixture
def place(database: Database, request: pytest.FixtureRequest) -> Place:
    name = "mariadb" if database is Database.MYSQL else "postgresql"
    server, url = request.getfixturevalue(name), request.getfixturevalue(f"{name}_url")
    return Place(database, url, lambda sql: server.query(sql, url=url)).make()


def number_in(email: str) -> int:
    """The number of the minted event with this address."""
    found = re.fullmatch(r"user(\d+)@example\.com", email)
    assert found and mint(int(found[1]))["email"] == email
    return int(found[1])


def assert_table_right(place: Place, oracle: Oracle) -> int:
    """Every acknowledged event is there, once, under its id, and nothing else; how many are there."""
    rows = place.query("SELECT id, name, email, code FROM t")
    numbers = {number_in(email): i for i, _, email, _ in rows}
    assert len(numbers) == len(rows) == len({i for i, *_ in rows}), "none twice"
    assert all(name.endswith(f"-{i}") and code == 10 for i, name, _, code in rows)
    assert oracle.acknowledged.keys() <= numbers.keys() <= oracle.offered
    assert {n: i for n, i in oracle.acknowledged.items() if i}.items() <= numbers.items()
    return len(rows)


def test_d3_every_acknowledged_event_is_in_the_table_once_after_kills_under_load(
    place: Place, make_home: Callable[..., Home], tmp_path: Path, queue: str
) -> None:
    oracle, chance = Oracle(), random.Random()
    home = make_home(legacy=configuration(place.insert()), enable=["bounce_all"], queue=queue)
    in_both: list[int] = []
    with Producers(home, tmp_path) as producers:
        producers.start("http", "recorder")
        for _ in range(10 * KILLS):
            process = home.start("run")
            before, end = len(place.ids()), time.monotonic() + 60
            while len(place.ids()) == before:
                assert time.monotonic() < end and process.exit_status() is None, process
                time.sleep(0.002)  # the database tells nobody
            time.sleep(chance.uniform(0, 0.05))  # any moment may be the one
            process.kill()
            home.processes.remove(process)
            process.close()
            if both := len(rows_of(home) & set(place.ids())):
                in_both.append(both)
            if len(in_both) == KILLS:
                break
        home.run()
        producers.stop()
        producers.tell(oracle)
        books = home.wait_until_empty(60)["books"]
        refusals = producers.refusals()
    print(f"kills with events in both: {in_both}; {len(oracle.acknowledged)} acknowledged")
    assert assert_table_right(place, oracle) == books["delivered"]
    assert not refusals
    assert_books_balance(books, recorded=books["delivered"], waiting=0)
    assert len(in_both) == KILLS, "a kill between the commit there and the removal here is what this is about"
