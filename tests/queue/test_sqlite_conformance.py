"""The suite of every store, on SQLite."""

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mailvane.queue.ballast import Ballast
from mailvane.queue.local import SQLiteQueue
from support.tools import tool

from .conformance import Conformance

T = TypeVar("T")


class SQLiteStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runner = asyncio.Runner()
        self.queue = self._open()

    def _open(self) -> SQLiteQueue:
        ballast = Ballast(str(self.folder / "ballast"))
        return SQLiteQueue(str(self.folder / "queue.db"), ballast, self._runner.get_loop())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def reopen(self) -> None:
        self.run(self.queue.close())
        self.queue = self._open()

    def by_hand(self, sql: str) -> list[tuple[object, ...]]:
        # By a process of its own: a second SQLite in this one would, closing the file, drop the locks of the first.
        shell = [tool("sqlite3"), "-batch", "-json", str(self.folder / "queue.db"), sql]
        said = subprocess.run(shell, capture_output=True, check=True, text=True).stdout
        return [tuple(row.values()) for row in json.loads(said or "[]")]

    def close(self) -> None:
        self.run(self.queue.close())
        self._runner.close()


class TestSQLite(Conformance):
    @pytest.fixture
    def make_store(self) -> Iterator[Callable[[], SQLiteStore]]:
        memory = Path("/dev/shm")  # no disk is waited for: what a crash leaves is not the matter here
        with tempfile.TemporaryDirectory(prefix="mv-", dir=memory if memory.is_dir() else None) as folder:
            yield lambda: SQLiteStore(Path(tempfile.mkdtemp(dir=folder)))
