"""The queue as a command of a moment reads it: its file, and what is kept in it."""

import os
from collections.abc import Generator
from contextlib import contextmanager

from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings
from mailvane.configuration.watch import LegacyFile, Look
from mailvane.operations.inspection import Inspection
from mailvane.processor.plan import Plan
from mailvane.queue.reading import SQLiteReader


@contextmanager
def reading(settings: Settings) -> Generator[SQLiteReader | None, None, None]:
    """A reader of the queue; None as long as nothing was ever recorded. Raises QueueUnavailable."""
    path = places_of(settings).database
    # An empty file, or one without tables, is being made at this moment.
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        yield None
        return
    reader = SQLiteReader(path)
    try:
        yield reader if reader.made else None
    finally:
        reader.close()


def plan_now(settings: Settings, reader: SQLiteReader | None) -> Look:
    """What the legacy file says, or the last good one that is kept with the queue."""
    return LegacyFile(settings.legacy_file, reader.kept("legacy") if reader else None).look()


def inspection(settings: Settings, reader: SQLiteReader) -> Inspection:
    """The queue as people see it when nobody delivers."""
    plan = plan_now(settings, reader).plan or Plan()
    return Inspection(reader, plan, reader.kept("epoch") or "")
