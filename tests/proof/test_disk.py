"""The disk is full, again and again, and each of its syncs fails: nothing is lost, nothing is sent twice."""

import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from support.endpoint import Endpoint
from support.failing_syncs import fail_a_sync
from support.full_disk import Full, small_disk
from support.homes import LEAVES, Home
from support.oracle import assert_books_balance, ids_in

ROUNDS = 300
SECONDS = 20 * 60
AT_LEAST = 60


def start(full: Full) -> bool:
    """Whether it starts: with neither room nor ballast nothing can be written, and it says so and ends."""
    process = full.home.start("run")
    told = process.wait_for_output(r"ready:|no room|cannot be written")
    if "ready:" in told.string:
        return True
    assert process.wait() == 1 and not full.ballast.exists()
    full.home.processes.pop()
    return False


def test_d6_d7_full_disks_without_end(short_folder: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    until = time.monotonic() + SECONDS
    may_repeat: list[int] = []
    number = 0
    with small_disk(short_folder, tmp_path / "logs", endpoint) as full:
        for number, kind in zip(range(1, ROUNDS + 1), cycle(["full", "no ballast either", "killed"]), strict=False):
            if time.monotonic() > until:
                break
            started = True
            endpoint.hold()
            endpoint.wait_for(lambda e: len(e.requests) > len(e.answered))
            full.fill_until_refused()
            if kind == "no ballast either" and full.ballast.exists():
                full.ballast.unlink()
                full.fill()
            if kind == "killed":
                full.home.processes.pop().close()
                endpoint.release()
                endpoint.wait_for(lambda e: e.open_connections == 0)
                may_repeat += ids_in(endpoint.requests[-256:])
                full.fill()
                started = start(full)
            endpoint.release()
            if started:
                full.wait_for_refusals(300)
            full.make_room()
            if not started:
                assert start(full)
            full.wait_until_taken()
            print(f"{number}, {kind}: {full.producers.noted('acknowledged')} acknowledged", flush=True)
        full.fill()
        account, books = full.end()
    print(account, flush=True)
    account.assert_right()
    assert account.repeats.keys() <= set(may_repeat), "only what was in flight at a kill may be repeated"
    assert_books_balance(books, recorded=account.accepted, waiting=0)
    assert number >= AT_LEAST


@pytest.mark.parametrize("when", range(1, 41))
def test_d5_each_sync_fails(make_home: Callable[..., Home], endpoint: Endpoint, when: int) -> None:
    fail_a_sync(make_home(legacy=LEAVES, enable=["bounce_all"]), endpoint, when)
