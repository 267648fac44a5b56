"""Builds of mailvane with one promise broken, for the tests of the tests: what they look at must then be seen red.

A folder with a `sitecustomize.py` stands first on PYTHONPATH: every Python that is started with it bends one function
before anything runs. The package itself knows nothing of this.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

ACKNOWLEDGES_BEFORE_THE_COMMIT = """
import time
from mailvane.queue.writer import Writer
commit = Writer._commit

def acknowledge_first(self, taken):
    early, first = [], getattr(self, "_guess", 0) + 1
    for one in taken:
        early.append((one, list(range(first, first + len(one.events)))))
        first += len(one.events)
    self._guess = first - 1
    self._post(lambda: [one.answered(ids) for one, ids in early])
    time.sleep(0.3)
    commit(self, taken)

Writer._commit = acknowledge_first
"""

DOES_NOT_SYNC = """
from mailvane.queue.sqlite import SQLiteWriter
open_it = SQLiteWriter.__init__

def open_without_syncs(self, path):
    open_it(self, path)
    self._db.pragma("synchronous", 1)  # NORMAL: the log is synced at checkpoints alone

SQLiteWriter.__init__ = open_without_syncs
"""

FORGETS_WHAT_IS_HELD = """
from mailvane.processor.held import Held

Held.admits = lambda self, event_id: True
Held.admitted = lambda self, places: list(places)
"""

OPENS_NO_CIRCUIT = """
from mailvane.processor.circuit import Circuit

Circuit.failed = lambda self, *arguments: None
"""

KEEPS_THE_BALLAST = """
from mailvane.queue.ballast import Ballast

Ballast.free = lambda self: False
"""

GOES_ON_WITHOUT_SETTLING = """
from mailvane.processor.settle import Settler

Settler.trouble = property(lambda self: "", lambda self, value: None)
"""


WITHOUT_THE_SAFETY_NET = """
import mailvane.processor.run as run

run.SAFETY_NET = 3600.0  # seconds: nothing is found by looking once a second
"""

WAKES_NOBODY = (
    WITHOUT_THE_SAFETY_NET
    + """
from mailvane.operations.service import Service

Service._committed = lambda self, first, events: None
"""
)


@contextmanager
def sabotaged(folder: Path, build: str) -> Iterator[None]:
    """Every process that is started meanwhile runs this build."""
    place = folder / "sabotage"
    place.mkdir()
    (place / "sitecustomize.py").write_text(build)
    path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH", "")]))
    with patch.dict(os.environ, {"PYTHONPATH": path}):
        yield
