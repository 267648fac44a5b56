"""A sample event of any type, made from the catalogue's samples."""

from collections.abc import Sequence

import msgspec

from mailvane.errors import EventRejected
from mailvane.events.catalogue import FIELDS, TYPES, Event, Field
from mailvane.events.clean import convert
from mailvane.events.side import STUDIO_TYPES

_BOUNCES = frozenset({"bounce_all", "bounce_bad_address"})
_UNSUBSCRIPTIONS = frozenset({"engine_unsub", "studio_unsub"})
_NOT_SAMPLED = frozenset({"event_time", "server_id"})
"""Now, and this server: the recorder says."""


def sample_fields(event_type: str) -> dict[str, object]:
    """The fields that an event of this type has, each with the catalogue's sample."""
    sample: dict[str, object] = {"event_type": event_type}
    for field in FIELDS.values():
        if field.name not in sample and field.name not in _NOT_SAMPLED and _stands_on(field, event_type):
            sample[field.name] = field.sample
    return sample


def _stands_on(field: Field, event_type: str) -> bool:
    studio = event_type in STUDIO_TYPES
    if field.name.startswith("studio_") and not studio:
        return False  # it would make the event Studio's
    if field.name == "click_tracking_id" and studio:
        return False
    for on in field.on.split(", "):
        match on:
            case "every type":
                return True
            case "Studio's types" | "Studio":
                found = studio
            case "bounces":
                found = event_type in _BOUNCES
            case "unsubscriptions":
                found = event_type in _UNSUBSCRIPTIONS
            case _:
                found = on == event_type
        if found:
            return True
    return False


def sample_event(event_type: str, assignments: Sequence[str] = ()) -> Event:
    """A sample with `FIELD=VALUE` on top; an empty value takes the field out. Raises EventRejected."""
    name = event_type.lower()
    # A type that is not known is told by the door, with the nearest one.
    fields: dict[str, object] = {"event_type": event_type, "email": "?"}
    if name in TYPES and TYPES[name].made:
        fields = sample_fields(name)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise EventRejected("", f"{assignment!r} is no FIELD=VALUE")
        field = FIELDS.get(key)
        if text == "" and field is not None:
            fields.pop(key, None)
        else:
            fields[key] = text if field is None else _value(field, text)
    return convert(fields)


def _value(field: Field, text: str) -> object:
    try:
        match field.kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
            case "json":
                return msgspec.json.decode(text)
            case "string":
                return text
    except (ValueError, KeyError, RecursionError):
        raise EventRejected(field.name, f"{text[:60]!r} is no {field.kind}") from None
