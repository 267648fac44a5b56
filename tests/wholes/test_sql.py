"""Events to a database, end to end: recorded, delivered by a statement, removed; on each kind of database."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from destinations.databases import Place, configuration, sqlite_place
from mailvane.clock import SystemClock
from mailvane.destinations.contract import Database
from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.contract import Filter
from processor.house import House, house
from support.homes import LEAVES, Home, bounce

EVENTS = 8_000
KILLS = 5


@pytest.fixture(params=[Database.MYSQL, Database.POSTGRESQL, Database.SQLITE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    database: Database = request.param
    if database is Database.SQLITE:
        return sqlite_place(tmp_path)
    name = "mariadb" if database is Database.MYSQL else "postgresql"
    server, url = request.getfixturevalue(name), request.getfixturevalue(f"{name}_url")
    return Place(database, url, lambda sql: server.query(sql, url=url))


async def record_poison(h: House) -> int:
    (poison,) = await h.service.queue.append(
        [stored_form(Event(event_type="bounce_all", email="x" * 50 + "@a.example"))]
    )
    return poison


def test_d22_a_backlog_goes_into_a_table_and_one_poison_event_waits(place: Place, tmp_path: Path):
    place.make()

    async def test() -> None:
        home = tmp_path / "home"
        home.mkdir()
        async with house(home, None, SystemClock()) as h:
            ids = await h.record(700)
            poison = await record_poison(h)
            ids += await h.record(800)
            h.write(configuration(place.insert()))
            await h.until(lambda: h.waiting() == 1, 60)
            assert place.ids() == ids
            assert h.deferred() == {poison}
            assert h.service.processor
            (route,) = h.service.processor.routes()
            assert route.state == "retrying" and route.last_error.startswith("event_refused: ")
            assert route.destination.startswith(place.database) and "secret" not in route.destination
            ids += await h.record(3)
            await h.until(lambda: h.waiting() == 1, 60)
            assert place.ids() == ids
            (error,) = h.rows("SELECT error FROM deferred")[0]
            assert "test/secret" not in error

    asyncio.run(test())


def test_d22_a_table_that_is_missing_opens_the_circuit_and_nothing_is_lost(place: Place, tmp_path: Path):
    async def test() -> None:
        home = tmp_path / "home"
        home.mkdir()
        async with house(home, configuration(place.insert()), SystemClock()) as h:
            ids = await h.record(20)
            await h.until(lambda: bool(h.service.processor and h.service.processor.routes()[0].state == "circuit_open"))
            await h.until(lambda: len(h.deferred()) == 20)  # on disk, so that all can be made due
            assert h.waiting() == 20
            place.make()
            await h.service.queue.retry(Filter(), 0)
            assert h.service.processor
            h.service.processor.retry()
            await h.until(lambda: h.waiting() == 0, 60)
            assert place.ids() == ids

    asyncio.run(test())


def test_d3_sigkill_between_commit_and_removal_loses_nothing_and_doubles_nothing(
    place: Place, make_home: Callable[..., Home]
):
    place.make()
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record(bounce(n) for n in range(1, EVENTS + 1))
    home.write_legacy(configuration(place.insert()))
    chance = random.Random()
    there = 0
    for _ in range(KILLS):
        process = home.start("run")
        end = time.monotonic() + 60
        while len(place.ids()) == there:
            assert time.monotonic() < end and process.exit_status() is None, process
            time.sleep(0.001)  # the database tells nobody
        time.sleep(chance.uniform(0, 0.02))  # any moment may be the one
        process.kill()
        there = len(place.ids())
        if there == EVENTS:
            break
    home.run()
    books = home.wait_until_empty(60)["books"]
    assert place.ids() == list(range(1, EVENTS + 1))
    assert books["recorded"] == books["delivered"] == EVENTS
