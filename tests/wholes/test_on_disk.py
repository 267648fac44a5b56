"""Acknowledged means on disk: seen in the system calls of `mailvane run`; and what a failing disk does to it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.endpoint import Endpoint
from support.failing_syncs import fail_a_sync
from support.homes import LEAVES, Home
from support.oracle import mint
from support.sabotage import ACKNOWLEDGES_BEFORE_THE_COMMIT, DOES_NOT_SYNC, sabotaged
from support.syscalls import BY_PROGRAM, TRACED, acknowledged_before_on_disk
from support.tools import tool

REQUESTS = 5
PROGRAM = """
import sys
from mailvane import Event, Recorder
with Recorder(sys.argv[1]) as recorder:
    for line in sys.stdin:
        print("recorded", recorder.record(Event(event_type="bounce_all", email="user@example.com")))
"""


def traced(home: Home, log: Path, by_socket: bool = False) -> tuple[int, int]:
    """How many of five requests were answered 202, and how many of these too early."""
    strace = [tool("strace"), "-f", "-y", "-s", "64", "-e", TRACED, "-o", str(log)]
    home.run().stop()  # what is written beside events, switches and plan, is in: nothing but them is written now
    process = home.run(prefix=strace)
    for number in range(REQUESTS):
        assert home.post("/v1/events", mint(number), by_socket=by_socket).status == 202
    process.stop(20)
    answered, early = acknowledged_before_on_disk(log)
    return answered, len(early)


@pytest.mark.parametrize("by_socket", [False, True])
def test_the_log_is_synced_between_a_request_and_its_202(
    make_home: Callable[..., Home], tmp_path: Path, by_socket: bool
) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    assert traced(home, tmp_path / "log", by_socket) == (REQUESTS, 0)


@pytest.mark.parametrize(("build", "early"), [("", 0), (DOES_NOT_SYNC, REQUESTS)])
def test_a_program_is_told_after_the_sync(
    make_home: Callable[..., Home], tmp_path: Path, build: str, early: int
) -> None:
    home, log = make_home(legacy=LEAVES, enable=["bounce_all"]), tmp_path / "log"
    strace = [tool("strace"), "-f", "-y", "-s", "64", "-e", TRACED, "-o", str(log)]
    home.record([mint(0)])  # tables and switches are in: nothing but events is written now
    with sabotaged(tmp_path, build):
        command = [*strace, sys.executable, "-u", "-c", PROGRAM, str(home.folder)]
        subprocess.run(command, input="record\n" * REQUESTS, check=True, capture_output=True, text=True)
    answered, too_early = acknowledged_before_on_disk(log, BY_PROGRAM)
    assert (answered, len(too_early)) == (REQUESTS, early)


@pytest.mark.parametrize("build", [DOES_NOT_SYNC, ACKNOWLEDGES_BEFORE_THE_COMMIT])
def test_a_202_before_the_sync_is_caught(make_home: Callable[..., Home], tmp_path: Path, build: str) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    with sabotaged(tmp_path, build):
        answered, early = traced(home, tmp_path / "log")
    assert answered == REQUESTS and early


@pytest.mark.parametrize("when", [2, 5, 9])
def test_d5_a_sync_that_fails_acknowledges_nothing_and_ends_the_process(
    make_home: Callable[..., Home], endpoint: Endpoint, when: int
) -> None:
    fail_a_sync(make_home(legacy=LEAVES, enable=["bounce_all"]), endpoint, when)
