"""What a statement is given of an event."""

import math
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from destinations.databases import EPOCH, outgoing
from mailvane.destinations.contract import Outgoing
from mailvane.destinations.sql_values import BINDABLE, Binding, Kind, Value, kind_of
from mailvane.events.catalogue import FIELDS, Event
from mailvane.events.codecs import legacy_values, stored_form

SAMPLE = Event(**{name: field.sample for name, field in FIELDS.items() if field.part != "modern"})  # type: ignore[arg-type]


def test_every_field_as_the_legacy_object_has_it_with_json_as_text():
    event = outgoing(7, msgspec.structs.replace(SAMPLE, event_type="delivery_attempt"))
    found = dict(zip(BINDABLE, Binding(BINDABLE, EPOCH).values(event), strict=True))
    wanted = legacy_values(7, event.body)
    assert found.pop("event_unique_id") == f"-{EPOCH}-7"
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        given = found[name]
        if name in FIELDS and FIELDS[name].kind == "json":
            assert isinstance(given, str) and msgspec.json.decode(given) == value
        else:
            assert given == value and type(given) is type(value)


def test_what_an_event_does_not_have_is_empty_as_in_its_row():
    event = outgoing(7, Event(event_type="scomp", email="a@example.com"))
    found = dict(zip(BINDABLE, Binding(BINDABLE, EPOCH).values(event), strict=True))
    for name, value in legacy_values(7, event.body).items():
        assert found[name] == value
    assert found["headers"] is None and found["sender"] is None, "they are in the row of delivery attempts alone"


@pytest.mark.parametrize("value", [0, False, [], {}, 1.5, "", "text", '{"a": 1}', {"a": [None, "ü"]}, [1, 2]])
def test_json_is_text_whatever_it_is(value: object):
    event = outgoing(7, Event(event_type="studio_subscriber_updated", email="a@example.com", json_after=value))
    (found,) = Binding(("json_after",), EPOCH).values(event)
    assert isinstance(found, str)
    assert found == value if isinstance(value, str) else msgspec.json.decode(found) == value


@given(st.lists(st.sampled_from(BINDABLE), max_size=12))
def test_any_list_in_any_order(names: list[str]):
    event = outgoing(7, SAMPLE)
    each: dict[str, Value] = {name: Binding((name,), EPOCH).values(event)[0] for name in BINDABLE}
    assert Binding(names, EPOCH).values(event) == tuple(each[name] for name in names)


@given(st.text(max_size=50), st.integers(0, 2**63 - 1))
def test_text_and_numbers_come_as_they_were_recorded(text: str, number: int):
    text = text.encode("utf-8", "ignore").decode().replace("\0", "")
    form = stored_form(Event(event_type="bounce_all", email="a@example.com", bounce_text=text, bounce_code=number))
    event = Outgoing(1, 1, form.body, form.extra, form.valued)
    assert Binding(("bounce_text", "bounce_code", "email"), EPOCH).values(event) == (text, number, "a@example.com")


def test_the_name_of_an_event_has_the_server_in_it():
    event = outgoing(7, Event(event_type="bounce_all", email="a@example.com", server_id="mail 1"))
    assert Binding(("event_unique_id",), EPOCH).values(event) == (f"mail_1-{EPOCH}-7",)


def test_a_body_that_is_no_events_is_told():
    with pytest.raises(msgspec.MsgspecError):
        Binding(("email",), EPOCH).values(Outgoing(1, 1, '"email":7', "", 9))


def test_kinds_are_those_of_the_values():
    values = Binding(BINDABLE, EPOCH).values(outgoing(7, SAMPLE))
    types: dict[Kind, tuple[type, ...]] = {"text": (str,), "integer": (int,), "number": (int, float)}
    assert set(types) == set(get_args(Kind))
    for name, value in zip(BINDABLE, values, strict=True):
        assert value is None or isinstance(value, types[kind_of(name)]), name
    assert not any(isinstance(value, float) and math.isnan(value) for value in values)
