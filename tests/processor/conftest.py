"""Fixtures of the processor's tests; what they are made of is in rig.py."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from processor.rig import Rig, rig


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Rig]]:
    """Makes a processor on a queue in a folder of its own (arguments as `rig`, without its folder)."""

    def make(*arguments: Any, **options: Any) -> AbstractAsyncContextManager[Rig]:
        return rig(tmp_path, *arguments, **options)

    return make
