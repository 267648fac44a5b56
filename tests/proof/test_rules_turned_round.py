"""Rules turned round over 100,000 events (or EDIT_EVENTS of them) in one process, some in flight, half of them left."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from processor.rig import Rig, rig
from processor.test_edits import reorder

EVENTS = int(os.environ.get("EDIT_EVENTS", "100000"))


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Rig]]:
    def make(*arguments: Any, **options: Any) -> AbstractAsyncContextManager[Rig]:
        return rig(tmp_path, *arguments, **options)

    return make


def test_rules_turned_round_over_very_many_events_half_of_which_are_left(
    make_rig: Callable[..., AbstractAsyncContextManager[Rig]],
):
    asyncio.run(reorder(make_rig, EVENTS, patience=60.0 + EVENTS / 1_000))
