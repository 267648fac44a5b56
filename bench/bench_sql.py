"""Events a second through a statement into MariaDB and PostgreSQL, end to end, over a bare INSERT by the same driver.

End to end: read from the queue, bound, inserted into the table of `mailvane config sql-table` under its unique key, in
transactions of 500, committed, removed. What it is divided by: one prepared INSERT of 500 rows a transaction into the
same table, its values ready in memory. Both databases commit to disk, as they do out of the box, and speak plain text.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drivers.homes import fill, make
from measure import HERE, Figure, Work, compare, pinned

sys.path.append(str(HERE.parent / "tests"))

from mailvane.cli.config import sql_table
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL

EVENTS = 100_000
DURABLE: Mapping[str, tuple[Callable[[dict[str, str]], Any], dict[str, str], str]] = {
    "mysql": (MariaDB, {"innodb-flush-log-at-trx-commit": "1"}, "?ssl-mode=DISABLED"),
    "postgresql": (PostgreSQL, {"fsync": "on"}, "?sslmode=disable"),
}


def run(work: Work) -> list[Figure]:
    return [_figure(work, database) for database in DURABLE]


def _figure(work: Work, database: str) -> Figure:
    kind, settings, plain = DURABLE[database]
    with kind(settings) as server:
        url = server.database()
        table, _, advice = sql_table(database).partition(";")
        server.query(table, url=url)

        def end_to_end() -> float:
            home = make(work.folder / f"sql-{database}")
            fill(home, EVENTS)
            _statement(home, advice, url + plain)
            took = _seconds(work, "deliver.py", home)
            if (there := _empty(server, url)) != EVENTS:
                raise SystemExit(f"{there} rows of {EVENTS} events")
            shutil.rmtree(home)
            return EVENTS / took

        def bare() -> float:
            took = _seconds(work, "sql_insert.py", url, EVENTS)
            _empty(server, url)
            return EVENTS / took

        result = compare(work, end_to_end, bare)
        version = server.version()
    return Figure(
        f"sql_{database}",
        f"events a second end to end into {database}, over a bare INSERT of 500 rows a transaction by the same driver",
        "×",
        result.ratios,
        0.5,
        beside=result.beside("events/s", "rows/s"),
        note=version,
    )


def _statement(home: Path, advice: str, url: str) -> None:
    """Writes the legacy configuration that `config sql-table` advises, for this database."""
    lines = [line.removeprefix("-- ") for line in advice.splitlines() if line.startswith("--")]
    text = "".join(lines)
    destination = json.loads(text[text.index("{") :])
    destination |= {"db_dsn": url}
    destination = {key: value for key, value in destination.items() if key not in {"db_username", "db_password"}}
    document = {"event_destinations": [{"matches": {"all": True}, "destination": destination}]}
    (home / "control" / "event_processor.json").write_text(json.dumps(document))


def _empty(server: Any, url: str) -> int:
    """Empties the table; how many rows there were."""
    ((there,),) = server.query("SELECT count(*) FROM event_queue", url=url)
    server.query("TRUNCATE TABLE event_queue", url=url)
    return int(there)


def _seconds(work: Work, driver: str, *arguments: Path | str | int) -> float:
    command = pinned(work.core, sys.executable, HERE / "drivers" / driver, *map(str, arguments))
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
