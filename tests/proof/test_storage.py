"""What is on disk after hundreds of kills and failing disks: D1, D2, D4, D5. Each line that is printed is a result."""

import random
import shutil
from pathlib import Path

import pytest

from support.storage import problems_of, recording_home, stored

from ..queue.test_durability import fail_a_sync, kill_while_recording

KILLS = 200
SYNCS = 40


@pytest.mark.parametrize("way", ["recorder", "owner"])
def test_d1_d2_d4_what_was_acknowledged_survives_every_kill(short_folder: Path, way: str) -> None:
    """One queue that is killed again and again, so that each recovery is followed by the next kill."""
    home = recording_home(short_folder)
    chance = random.Random()
    acknowledged: dict[str, int] = {}
    for kill in range(KILLS):
        fresh = kill_while_recording(home, chance, f"k{kill}", way)
        acknowledged |= fresh
        there = stored(home)
        missing = {name for name, event_id in acknowledged.items() if there.get(name) != event_id}
        assert not missing, f"kill {kill}: {len(missing)} acknowledged events are missing"
        print(f"{way}, kill {kill}: {len(fresh)} acknowledged, {len(there)} there")
    assert problems_of(home) == []
    unacknowledged = len(stored(home)) - len(acknowledged)
    print(f"{way}: {len(acknowledged)} acknowledged over {KILLS} kills, {unacknowledged} more are there")
    # What was on disk when its answer was cut off: at most what each thread had handed in.
    assert unacknowledged <= 6 * KILLS


@pytest.mark.parametrize("way", ["recorder", "async", "owner"])
@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_d5_whichever_sync_fails_nothing_is_acknowledged_after(short_folder: Path, call: str, way: str) -> None:
    for when in range(1, SYNCS + 1):
        home = recording_home(short_folder / str(when))
        said = fail_a_sync(home, call, when, way)
        print(f"{way}, {call} {when}: {len(said.acknowledged)} acknowledged, {len(said.refused)} refused")
        shutil.rmtree(short_folder / str(when))
