"""What Studio's table says, and what holds where it says nothing that can be meant: C7."""

import json

import pytest

from mailvane.events.catalogue import Event
from mailvane.queue.statements import migrations
from mailvane.queue.studio import COLUMNS, assignments, states_in
from mailvane.recording.gate import Gate, Wanted
from mailvane.recording.studio import StudioSwitches

OFF = dict.fromkeys(COLUMNS.values(), False)


def row(**on: object) -> dict[str, object]:
    return {**OFF, **{COLUMNS[name]: value for name, value in on.items()}}


def taken(*texts: object) -> StudioSwitches:
    switches = StudioSwitches()
    for text in texts:
        switches.take(json.dumps(text) if text != "" else "")
    return switches


@pytest.mark.parametrize("on", [True, 1])
def test_a_column_that_is_true_records_its_type_and_no_other(on: object) -> None:
    for name in COLUMNS:
        switches = taken([row(**{name: on})])
        assert switches.on == {name} and not switches.unknown and not switches.problem


def test_before_the_table_is_made_every_type_is_off() -> None:
    switches = taken("")
    assert not switches.on and not switches.unknown and not switches.problem


STRANGE = {
    "no row": ([], "has no row"),
    "two rows": ([row(scomp=False), row(scomp=False)], "has more than one row"),
    "no table": ("no such table: s_system_configs", "cannot be read: no such table"),
    "NULL": ([row(scomp=None)], "has NULL in event_notification_scomp"),
    "text": ([row(scomp="yes")], "has 'yes' in event_notification_scomp"),
    "a number": ([row(scomp=2)], "has '2' in event_notification_scomp"),
    "no column": ([{c: v for c, v in OFF.items() if c != COLUMNS["scomp"]}], "has no column event_notification_scomp"),
}


@pytest.mark.parametrize(("said", "told"), STRANGE.values(), ids=STRANGE.keys())
def test_c7_what_is_strange_keeps_the_last_known_state_and_is_told(said: object, told: str) -> None:
    for before in (True, False):
        switches = taken([row(scomp=before)], said)
        assert ("scomp" in switches.on) is before and not switches.unknown
        assert switches.problem.startswith("Studio's table s_system_configs ") and told in switches.problem
        assert "last known" in switches.problem
        switches.take(json.dumps([row(scomp=not before)]))
        assert ("scomp" in switches.on) is not before and not switches.problem


@pytest.mark.parametrize(("said", "told"), STRANGE.values(), ids=STRANGE.keys())
def test_c7_what_was_never_known_is_not_off(said: object, told: str) -> None:
    switches = taken(said)
    assert "scomp" in switches.unknown and told in switches.problem and "no such event is taken" in switches.problem
    gate = Gate(studio=switches.on, unknown_of_studio=switches.unknown)
    event = Event(event_type="scomp", email="user@example.com", studio_campaign_id=1)
    assert gate.wants(event) is Wanted.UNKNOWN


def test_c7_a_column_that_is_strange_is_in_the_way_of_no_other() -> None:
    switches = taken([row(scomp=True)], [row(scomp=None, studio_unsub=True)])
    assert switches.on == {"scomp", "studio_unsub"}
    assert "scomp stays on, as last known" in switches.problem


def test_what_people_add_to_the_table_is_no_matter() -> None:
    assert taken([{**row(scomp=True), "note": "ours"}]).on == {"scomp"}


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_the_table_has_the_columns_of_the_catalogue(store: str) -> None:
    script = next(script for _, script in migrations(store) if "CREATE TABLE s_system_configs" in script)
    table = script.partition("CREATE TABLE s_system_configs (")[2].partition(");")[0]
    assert [line.split()[0] for line in table.strip().splitlines()] == sorted(
        COLUMNS.values(), key=list(COLUMNS.values()).index
    )


def test_only_columns_of_the_catalogue_get_into_a_statement() -> None:
    assert assignments({"scomp": True, "studio_open": False}) == (
        "event_notification_scomp = TRUE, event_notification_studio_open = FALSE"
    )
    with pytest.raises(KeyError):
        assignments({"scomp = TRUE; DROP TABLE queue; --": True})


def test_another_queue_takes_over_what_is_clear() -> None:
    assert states_in("") == {} == states_in("[]") == states_in('"gone"') == states_in(json.dumps([OFF, OFF]))
    assert states_in(json.dumps([row(scomp=1, studio_open=None)])) == {
        **{name: False for name in COLUMNS if name != "studio_open"},
        "scomp": True,
    }
