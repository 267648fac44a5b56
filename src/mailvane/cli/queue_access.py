"""The queue as a command of a moment reads it, and what is kept in it."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from mailvane.configuration.places import places_of, queue_url
from mailvane.configuration.settings import Settings
from mailvane.configuration.watch import LegacyFile, Look
from mailvane.operations.inspection import Inspection, Rows
from mailvane.operations.plans import kept_plan
from mailvane.processor.plan import Plan
from mailvane.queue.contract import Books
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.sqlite_errors import refuse_emptied


class QueueReader(Rows, Protocol):
    """What commands read of either queue. Each method raises QueueUnavailable."""

    def books(self) -> Books: ...

    def oldest(self) -> int | None: ...

    def deferred(self) -> int: ...

    def last_id(self) -> int: ...

    def studio_rows(self) -> str: ...


@contextmanager
def reading(settings: Settings) -> Generator[QueueReader | None, None, None]:
    """A reader of the queue; None as long as nothing was ever recorded. Raises QueueUnavailable."""
    if settings.queue_url is not None:
        from mailvane.queue.postgresql.rows import PostgreSQLRows  # only now: the driver takes long to load

        with PostgreSQLRows(queue_url(settings.queue_url), "a command that looks at the queue") as rows:
            yield rows
        return
    path = places_of(settings).database
    refuse_emptied(path, os.path.exists(places_of(settings).ballast))
    # An empty file, or one without tables, is being made at this moment.
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        yield None
        return
    reader = SQLiteReader(path)
    try:
        yield reader if reader.made else None
    finally:
        reader.close()


def plan_now(settings: Settings, reader: QueueReader | None) -> Look:
    """What the legacy file says, or the last good one that is kept with the queue."""
    return LegacyFile(settings.legacy_file, reader.kept("legacy") if reader else None).look()


def plan_in_force(settings: Settings, reader: QueueReader | None, delivers: str = "") -> Plan:
    """The plan that events are delivered by. `delivers`: who does, in another process, perhaps with another file: by
    the plan that is kept with the queue."""
    kept = kept_plan(reader.kept("legacy")) if reader and delivers else None
    return kept or plan_now(settings, reader).plan or Plan()


def inspection(settings: Settings, reader: QueueReader, delivers: str = "") -> Inspection:
    """The queue as people see it who do not deliver."""
    return Inspection(reader, plan_in_force(settings, reader, delivers), reader.kept("epoch") or "")


def who_delivers(settings: Settings, reader: QueueReader | None) -> str:
    """Who delivers from a queue in PostgreSQL, in its own words; "" for nobody. (That a queue in SQLite is owned is
    known by its socket.)"""
    if settings.queue_url is None or reader is None:
        return ""
    from mailvane.queue.postgresql.rows import PostgreSQLRows

    return reader.owner() if isinstance(reader, PostgreSQLRows) else ""
