"""The table that `config sql-table` prints, made in a real database and filled as it says."""

import json
from pathlib import Path

import msgspec
import pytest

from destinations.adversary import run
from destinations.databases import EPOCH, Place, batch, deliver, destination, outgoing, sqlite_place
from mailvane.cli.config import sql_table
from mailvane.destinations.contract import Database, SqlStatement
from mailvane.events.catalogue import CLASSIC, FIELDS, Event


@pytest.fixture(params=[Database.MYSQL, Database.POSTGRESQL, Database.SQLITE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    database: Database = request.param
    if database is Database.SQLITE:
        return sqlite_place(tmp_path)
    name = "mariadb" if database is Database.MYSQL else "postgresql"
    server, url = request.getfixturevalue(name), request.getfixturevalue(f"{name}_url")
    return Place(database, url, lambda sql: server.query(sql, url=url))


def test_d22_every_field_fits_and_a_repeat_does_no_harm(place: Place):
    table, _, advice = sql_table(place.database).partition(";")
    place.query(table)
    text = "".join(line.removeprefix("-- ") for line in advice.splitlines() if line.startswith("-- "))
    advised = json.loads(text[text.index("{") :])
    spec = SqlStatement(place.database, place.url, advised["sql"], tuple(advised["bind_list"]))
    full = Event(**{name: FIELDS[name].sample for name in CLASSIC})  # type: ignore[arg-type]
    long = msgspec.structs.replace(full, user_agent="x" * 60_000, bounce_text="ü\N{PILE OF POO}")

    async def test() -> None:
        async with destination(spec) as to:
            for _ in range(2):
                outcomes = await deliver(to, [outgoing(1, full), outgoing(2, long), *batch(*range(3, 150))])
                assert all(outcome.delivered for outcome in outcomes.values()), outcomes

    run("uvloop", test)
    rows = place.query(f"SELECT {', '.join(CLASSIC)}, event_unique_id FROM event_queue ORDER BY event_unique_id")
    assert len(rows) == 149
    row = next(row for row in rows if row[-1] == f"-{EPOCH}-1")
    for name, value in zip(CLASSIC, row, strict=False):
        sample = FIELDS[name].sample
        assert value == (json.dumps(sample, separators=(",", ":")) if FIELDS[name].kind == "json" else sample), name
