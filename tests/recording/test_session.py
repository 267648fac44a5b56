"""Groups that one append takes, and ids by position."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm, stored_form
from mailvane.queue.contract import APPEND_LIMIT
from mailvane.queue.reading import kept_value
from mailvane.queue.remote import POST_BYTES
from mailvane.recording.session import APPEND_BYTES, Session, Where, groups, with_gaps
from support.storage import places, recording_home

forms = st.builds(
    lambda n: stored_form(Event(event_type="scomp", email="u@example.com", bounce_text="ü" * n)), st.integers(0, 9)
)


@given(st.lists(st.none() | forms, max_size=60))
def test_groups_have_all_that_is_wanted_in_order(wanted: list[StoredForm | None]) -> None:
    parts = groups(wanted)
    assert [form for part in parts for form in part] == [form for form in wanted if form is not None]
    assert all(parts)


def test_a_group_has_its_bounds_in_count_and_bytes() -> None:
    small = stored_form(Event(event_type="scomp", email="u@example.com"))
    assert [len(part) for part in groups([small] * (2 * APPEND_LIMIT + 1))] == [APPEND_LIMIT, APPEND_LIMIT, 1]
    large = stored_form(Event(event_type="scomp", email="u@example.com", bounce_text="ü" * 60_000))
    parts = groups([large] * 20)
    assert [form for part in parts for form in part] == [large] * 20
    assert all(sum(len(f.body.encode()) for f in part) <= APPEND_BYTES < POST_BYTES for part in parts)
    assert len(parts) == 3


@given(st.lists(st.none() | forms, max_size=20), st.data())
def test_ids_stand_where_their_events_stood(wanted: list[StoredForm | None], data: st.DataObject) -> None:
    count = sum(form is not None for form in wanted)
    ids = data.draw(st.lists(st.integers(0, 99), min_size=count, max_size=count))
    found = with_gaps(wanted, ids)
    assert len(found) == len(wanted)
    # An id of 0: the owner's switch was off by the time it came.
    assert [i for i, form in zip(found, wanted, strict=True) if form is not None] == [i or None for i in ids]
    assert all(i is None for i, form in zip(found, wanted, strict=True) if form is None)


def test_switches_outlive_the_program(short_folder: Path) -> None:
    """A control file that has become unreadable goes on as it was, also for a program that is started then."""
    home = recording_home(short_folder)
    where = Where(places(home), home / "control", "mail1")
    session = Session(where, lambda call: call())
    assert session.intake.form(Event(event_type="bounce_all", email="u@example.com"))
    session.end()
    assert '"bounce_all"' in (kept_value(where.places.database, "switches") or "")
    (home / "control" / "record_events.simplemh.bounce_all").write_bytes(b"\xff\x00")
    again = Session(where, lambda call: call())
    assert again.intake.form(Event(event_type="bounce_all", email="u@example.com"))
    again.end()


def test_a_queue_that_is_being_made_has_nothing_to_tell(short_folder: Path) -> None:
    home = recording_home(short_folder)
    database = places(home).database
    assert kept_value(database, "switches") is None
    Path(database).touch()
    assert kept_value(database, "switches") is None
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert kept_value(database, "switches") is None
    Path(database).write_bytes(b"rubbish" * 1000)
    with pytest.raises(QueueUnavailable, match=r"queue\.db"):
        kept_value(database, "switches")
