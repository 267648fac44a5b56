"""The catalogue: the table that all else is made from."""

import msgspec
import pytest

from mailvane.events.catalogue import CLASSIC, DELIVERY, FIELDS, TYPES, Event
from mailvane.events.clean import admit, parse
from mailvane.events.codecs import legacy_values, modern_json

GUIDE_TYPES = {
    "bounce_all", "bounce_bad_address", "scomp", "engine_open", "engine_click", "engine_unsub", "delivery_attempt",
    "studio_open", "studio_click", "studio_unsub", "studio_subscriber_created", "studio_subscriber_updated",
}  # fmt: skip


def test_the_types_are_greenarrows() -> None:
    assert {t.name for t in TYPES.values() if t.made} == GUIDE_TYPES
    assert {t.name for t in TYPES.values() if not t.made} == {"bounce_lite", "scomp_lite"}
    assert all(name == t.name and t.what_happened for name, t in TYPES.items())
    assert all(t.switch or t.column for t in TYPES.values() if t.made)


def test_the_fields_of_the_struct_and_of_the_table_are_the_same_in_the_same_order() -> None:
    assert tuple(FIELDS) == tuple(f.name for f in msgspec.structs.fields(Event))
    parts = [f.part for f in FIELDS.values()]
    assert parts == sorted(parts, key=("classic", "delivery", "modern").index), "the wire's order goes by part"
    assert CLASSIC[:4] == ("event_type", "event_time", "email", "listid")
    assert CLASSIC[-2:] == ("json_before", "json_after")


@pytest.mark.parametrize("name", list(FIELDS))
def test_every_field_has_a_sample_that_the_door_lets_in(name: str) -> None:
    field = FIELDS[name]
    assert field.description and field.on
    given = {"event_type": "delivery_attempt", "email": "user@example.com", name: field.sample}
    event = parse(msgspec.json.encode(given))
    form = admit(event, "mail1", 1)
    modern = msgspec.json.decode(modern_json(7, "e", form.valued, form.body, form.extra))
    assert modern[name] == field.sample
    assert (name in legacy_values(7, form.body)) == (name in CLASSIC + DELIVERY)
