"""A kill in the middle of whatever changes a queue's files leaves all of it or nothing: D4, and D24 for the schema."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailvane.queue.migrate import newest

from .kill_points import ACTS

PROGRAM = Path(__file__).with_name("kill_points.py")
MOST = 40


@dataclass(frozen=True)
class State:
    """What was found in a queue: events, delivered ones that are kept, failed ones, and its books."""

    rows: int
    kept: int
    deferred: int
    books: tuple[tuple[str, int], ...]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that no disk is behind: a kill leaves what was written, synced or not."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="mv-", dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def states_after_kills(folder: Path, act: str) -> list[State]:
    """The state after the act, then those after each kill in the middle of it; each is sound and goes on."""
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), act, str(MOST)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    states: list[State] = []
    for line in ran.stdout.splitlines():
        found = json.loads(line)
        assert found["sound"] == ["ok"], line
        assert found["balanced"], line
        assert found["schema"] == newest(), line
        assert len(found["goes_on"][0]) == 1, line
        states.append(State(found["rows"], found["kept"], found["deferred"], tuple(sorted(found["books"].items()))))
    assert len(states) > MOST // 2
    return states


@pytest.mark.parametrize(
    ("act", "nothing", "all_of_it"),
    [
        ("settle", (260, 40, 20), (81, 199, 20)),
        ("delete", (260, 40, 20), (61, 40, 0)),
        ("replay", (260, 40, 20), (300, 0, 20)),
    ],
)
def test_d4_a_kill_leaves_a_change_done_or_not_begun(
    memory: Path, act: str, nothing: tuple[int, int, int], all_of_it: tuple[int, int, int]
) -> None:
    after, *killed = states_after_kills(memory, act)
    seen = {(state.rows, state.kept, state.deferred) for state in killed}
    assert (after.rows, after.kept, after.deferred) == all_of_it
    assert seen == {nothing, all_of_it}, "some points lie before the commit, some behind it"


def test_d4_a_kill_during_upkeep_and_its_vacuum_loses_no_event(memory: Path) -> None:
    for act in ("upkeep", "vacuum"):
        folder = memory / act
        folder.mkdir()
        after, *killed = states_after_kills(folder, act)
        assert {state.rows for state in killed} <= {260, after.rows}
        assert {state.deferred for state in killed} == {20}


@pytest.mark.parametrize("act", ["make", "migrate"])
def test_d4_d24_a_schema_that_is_half_made_or_half_brought_up_is_finished(memory: Path, act: str) -> None:
    after, *killed = states_after_kills(memory, act)
    assert set(killed) == {after}


def test_every_act_is_killed() -> None:
    assert set(ACTS) == {"settle", "delete", "replay", "upkeep", "vacuum", "make", "migrate"}
