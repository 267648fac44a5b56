"""On disk before acknowledged, and what a kill, a failing disk or two programs at once leave behind: D1, D2, D5."""

import random
import subprocess
from pathlib import Path

import pytest

from mailvane import Event, Recorder
from support.processes import Process
from support.storage import (
    TRACE,
    WEAKEN,
    Said,
    command,
    environment,
    problems_of,
    recording_home,
    stored,
    syncs_of_the_log,
    unsynced_acknowledgements,
)  # fmt: skip
from support.tools import tool

KILLS = 10


def traced(home: Path, trace: Path, *options: str, **more: str) -> str:
    """Runs a recording program to its end under strace; its trace."""
    strace = [tool("strace"), "-f", "-y", "-qq", "-s", "64", "-e", TRACE, "-o", str(trace)]
    done = subprocess.run(
        [*strace, *command(home, *options)], env=environment(**more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return trace.read_text()


@pytest.mark.parametrize("way", ["recorder", "async", "owner"])
def test_an_event_is_on_disk_before_it_is_acknowledged(short_folder: Path, way: str) -> None:
    home = recording_home(short_folder)
    with Recorder(home) as recorder:  # so that the switches are kept already: that writes, too, at any moment
        recorder.record(Event(event_type="bounce_all", email="user@example.com"))
    trace = traced(home, short_folder / "trace", "--as", way, "--count", "20")
    acknowledged, wrong = unsynced_acknowledgements(trace)
    assert acknowledged == 20
    assert wrong == []


@pytest.mark.parametrize("way", ["recorder", "owner"])
def test_the_check_sees_a_queue_that_does_not_sync(short_folder: Path, way: str) -> None:
    home = recording_home(short_folder)
    weak = {WEAKEN: "PRAGMA synchronous = NORMAL"}
    trace = traced(home, short_folder / "trace", "--as", way, "--count", "20", **weak)
    acknowledged, wrong = unsynced_acknowledgements(trace)
    assert acknowledged == 20
    assert len(wrong) >= 19


@pytest.mark.parametrize("way", ["recorder", "async", "owner"])
def test_producers_of_the_same_moment_share_a_commit(short_folder: Path, way: str) -> None:
    home = recording_home(short_folder)
    trace = traced(home, short_folder / "trace", "--as", way, "--threads", "16", "--count", "20")
    assert len(stored(home)) == 320
    # How many come at one moment is the scheduler's; who shares nothing needs 320.
    assert 0 < syncs_of_the_log(trace) < 280


def fail_a_sync(home: Path, call: str, when: int, way: str) -> Said:
    """D5: the N-th sync fails, every later one succeeds. What the program said, and that what it said is so."""
    inject = f"inject={call}:error=EIO:when={when}"
    strace = [tool("strace"), "-f", "-qq", "-e", f"trace={call}", "-e", inject, "-o", "/dev/null"]
    done = subprocess.run(
        [*strace, *command(home, "--as", way, "--count", "12", "--name", f"when{when}")],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = Said.in_text(done.stdout)
    assert "Traceback" not in done.stderr or "Broken" in done.stderr, done.stderr
    only_the_ballast = any("ballast" in reason for reason in said.refused.values())  # which holds nothing
    if said.refused and not only_the_ballast:
        assert "acked" not in said.order[said.order.index("refused") :], f"acknowledged after {call} {when} failed"
    if (home / "queue.db").exists() and (home / "queue.db").stat().st_size and said.acknowledged:
        there = stored(home)
        assert {name: there.get(name) for name in said.acknowledged} == said.acknowledged
        assert problems_of(home) == []
    return said


@pytest.mark.parametrize("way", ["recorder", "owner"])
@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_d5_nothing_is_acknowledged_once_a_sync_has_failed(short_folder: Path, call: str, way: str) -> None:
    outcomes: list[str] = []
    for when in range(1, 9):
        home = recording_home(short_folder / f"{call}{when}")
        said = fail_a_sync(home, call, when, way)
        outcomes.append("refused" if said.refused else "ended" if len(said.acknowledged) < 12 else "unharmed")
    assert {"refused", "ended"} & set(outcomes), "no failure was noticed: the injection does not work"


@pytest.mark.parametrize("way", ["recorder", "owner"])
def test_d5_after_a_failed_commit_the_next_process_goes_on(short_folder: Path, way: str) -> None:
    home = recording_home(short_folder)
    subprocess.run(command(home, "--name", "before"), check=True, capture_output=True)
    tries = (fail_a_sync(home, "fdatasync", when, way) for when in range(3, 12))
    said = next(said for said in tries if said.refused and said.acknowledged)
    assert all("look at the system's log" in reason for reason in said.refused.values())
    subprocess.run(command(home, "--name", "after"), check=True, capture_output=True)
    there = stored(home)
    assert {f"before-0-{n}" for n in range(10)} | {f"after-0-{n}" for n in range(10)} <= set(there)


def kill_while_recording(home: Path, chance: random.Random, name: str, way: str = "recorder") -> dict[str, int]:
    """D1, D2: SIGKILL at some moment; every event that was acknowledged, with its id."""
    target = chance.randint(1, 120)
    with Process(
        command(home, "--as", way, "--threads", "6", "--count", "100000", "--name", name), environment()
    ) as process:
        process.wait_for_output(rf"^acked \d+ {name}-\d+-{target}$")
        process.kill()
        process.wait()
        return dict(Said.in_text(process.output).acknowledged)


@pytest.mark.parametrize("way", ["recorder", "owner"])
def test_d1_d2_what_was_acknowledged_survives_a_kill(short_folder: Path, way: str) -> None:
    home = recording_home(short_folder)
    chance = random.Random(4711)
    acknowledged: dict[str, int] = {}
    for kill in range(KILLS // 2):
        acknowledged |= kill_while_recording(home, chance, f"k{kill}", way)
        there = stored(home)
        assert {n: there.get(n) for n in acknowledged} == acknowledged
        assert problems_of(home) == []
    assert len(set(acknowledged.values())) == len(acknowledged) > KILLS
