"""100 immediate restarts of PostgreSQL under load, and nothing is lost: D9. Each line that is printed is a result."""

import time
from collections.abc import Callable
from pathlib import Path

from support.endpoint import Endpoint
from support.homes import Home
from support.restarting import restart_under_load

RESTARTS = 100
ROUND = 25
"""Restarts of one server, after which everything must have arrived."""
SECONDS = 27 * 60


def test_d9_every_acknowledged_event_survives_restarts_of_the_server(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    until = time.monotonic() + SECONDS
    done = 0
    while done < RESTARTS and time.monotonic() < until:
        logs = tmp_path / str(done)
        done += restart_under_load(make_home, make_endpoint, logs, min(ROUND, RESTARTS - done), until)
    print(f"{done} restarts in all", flush=True)
    assert done == RESTARTS
