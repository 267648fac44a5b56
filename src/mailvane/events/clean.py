"""The door of mailvane.events: everything that becomes an event comes through here, and bad bytes stop.

Stopped are: unknown fields and types, values of a wrong type or length, NUL and lone surrogates, raw or escaped (one
such body makes every SELECT on the column fail in PostgreSQL), JSON nested so deeply that a parser gives up (one such
body makes every SELECT on the view fail in SQLite), numbers that JSON has no words for, control characters in anything
that ends up in a header, a log line or an address, and ids: the queue gives them.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import cast

import msgspec

from mailvane.errors import EventRejected
from mailvane.events.catalogue import FIELDS, GIVEN_BY_THE_QUEUE, TYPES, Event
from mailvane.events.codecs import StoredForm, stored_form

EVENT_LENGTH = 1024 * 1024
"""Bytes that one event may have, as it comes and as it is stored."""

NESTING = 100
"""Levels that the JSON of one field may have: SQLite reads 1,000, Python no more than its stack has room for."""

_decode = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode
_FREE_TEXT = frozenset({"bounce_text", "message", "list_name", "list_label", "user_agent", "smtp_timing", "click_url"})
_ONE_LINE = tuple(n for n, f in FIELDS.items() if f.kind == "string" and n not in _FREE_TEXT)
_MADE = frozenset(t.name for t in TYPES.values() if t.made)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# A backslash that is escaped itself starts nothing.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)


def parse(line: bytes | bytearray | memoryview) -> Event:
    """An event from one JSON object. Raises EventRejected."""
    if len(line) > EVENT_LENGTH:
        raise EventRejected("", f"{len(line):,} bytes; an event may have {EVENT_LENGTH:,}")
    try:
        return _decode(line)
    except UnicodeDecodeError as e:
        raise EventRejected("", f"byte {e.start + 1} is not UTF-8") from None
    except RecursionError:
        raise EventRejected("", "nested too deeply") from None
    except msgspec.ValidationError as e:
        raise _rejected(str(e)) from None
    except msgspec.DecodeError as e:
        raise EventRejected("", _no_json(str(e))) from None


def convert(value: object) -> Event:
    """An event from a value that was parsed already. Raises EventRejected."""
    try:
        return msgspec.convert(value, Event)
    except msgspec.ValidationError as e:
        raise _rejected(str(e)) from None


def admit(event: Event, server_id: str, now: int, wire: bytes = b"") -> StoredForm:
    """The stored form of an event, once everything about it has been looked at.

    `now` (seconds since the Unix epoch) becomes its time and `server_id` its server where it has none. `wire`: what
    `check` gave with the event, which saves writing it anew. Raises EventRejected.
    """
    time, listid, sendid = event.event_time, event.listid, event.sendid
    low_listid, low_sendid = listid.lower(), sendid.lower()
    if time is None or listid != low_listid or sendid != low_sendid:
        time = now if time is None else time
        event, wire = msgspec.structs.replace(event, event_time=time, listid=low_listid, sendid=low_sendid), b""
    if event.event_type not in _MADE:
        raise _no_type(event.event_type)
    email = event.email
    if not email:
        raise EventRejected("email", "is empty; an event belongs to the address that the message was sent to")
    if not email.isprintable() or not listid.isprintable():
        _look_closely(event)
    try:
        form = stored_form(event, server_id, wire)
    except UnicodeEncodeError:
        raise EventRejected(_surrogate_field(event), "has a lone surrogate, which is no character") from None
    stored = form.body + form.extra
    # JSON escapes every control character, so what is stored without a backslash has none.
    # (Those that it does not escape are DEL and beyond ASCII.)
    if not stored.isascii() or "\x7f" in stored:
        _look_closely(event)
    if "\\" in stored:
        _look_closely(event)
        if _ESCAPED_NUL.search(stored.encode()):
            _look_for_nul(event)
    if event.json_before is not None or event.json_after is not None:
        for name in ("json_before", "json_after"):
            if _depth(getattr(event, name)) > NESTING:
                raise EventRejected(name, f"is nested too deeply; it may have {NESTING} levels")
    if len(stored) > EVENT_LENGTH // 4 and len(stored.encode()) > EVENT_LENGTH:
        raise EventRejected("", f"is larger than {EVENT_LENGTH:,} bytes")
    return form


def check(event: Event) -> tuple[Event, bytes]:
    """An event that a program made, its types looked at as a JSON event's are; and that JSON, for `admit`.

    Raises EventRejected.
    """
    try:
        wire = _encode(event)
        if event.timestamp is not None or event.json_before is not None or event.json_after is not None:
            _look_for_nan(event)
        try:
            if len(wire) <= EVENT_LENGTH:
                return _decode(wire), wire
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        return parse(wire), wire  # says what is wrong, in our words
    except UnicodeEncodeError:
        raise EventRejected(_surrogate_field(event), "has a lone surrogate, which is no character") from None
    except (TypeError, ValueError, OverflowError) as e:
        raise EventRejected("", f"cannot be written as JSON: {e}") from None
    except RecursionError:
        raise EventRejected("", "nested too deeply") from None


def _depth(value: object) -> int:
    """Levels of a JSON value: 0 for a string, 1 for a list of strings."""
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > NESTING:
            break
    return depth


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast(dict[object, object], value).values() or ("",)
    if isinstance(value, list | tuple):
        return cast(Sequence[object], value) or ("",)
    return ()


def _look_for_nan(event: Event) -> None:
    for name in ("timestamp", "json_before", "json_after"):
        stack: list[object] = [getattr(event, name)]
        while stack:
            value = stack.pop()
            if isinstance(value, float) and not isfinite(value):
                raise EventRejected(name, f"has {value}, which is no JSON")
            stack.extend(_inside(value))


def _look_closely(event: Event) -> None:
    for name in _ONE_LINE:
        value: str = getattr(event, name)
        if found := _CONTROL.search(value):
            raise EventRejected(
                name, f"has a control character (U+{ord(found[0]):04X}) at position {found.start() + 1}"
            )


def _look_for_nul(event: Event) -> None:
    for name in FIELDS:
        if _ESCAPED_NUL.search(_encode(getattr(event, name))):
            raise EventRejected(name, "has a NUL (U+0000)")


def _no_type(name: str) -> EventRejected:
    if name in TYPES:
        return EventRejected("event_type", f"{name} is a name to filter for; nothing records it")
    return EventRejected("event_type", f"unknown type {_shown(name)}{_nearest(name, list(TYPES))}")


def _surrogate_field(event: Event) -> str:
    for name, field in FIELDS.items():
        if field.kind == "string":
            try:
                str(getattr(event, name)).encode()
            except UnicodeEncodeError:
                return name
    return ""


def _rejected(message: str) -> EventRejected:
    """msgspec's sentence with our words, and what would be right."""
    if found := _UNKNOWN.match(message):
        name = found[1]
        if name in GIVEN_BY_THE_QUEUE:
            return EventRejected(name, "is given by the queue; leave it out")
        return EventRejected(name[:100], f"unknown field{_nearest(name, list(FIELDS))}")
    if found := _WHERE.search(message):
        return EventRejected(found[1], message[: found.start()][:300])
    if found := re.match(r"^Object missing required field `(.*)`$", message):
        return EventRejected(found[1], "is missing")
    if message.startswith("Expected `object`"):
        return EventRejected("", f"is no JSON object ({message[9:]} found)".replace("`object`, got ", ""))
    return EventRejected("", message[:300])


def _no_json(message: str) -> str:
    return f"is no JSON: {message.removeprefix('JSON is malformed: ')}"[:300]


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: str) -> str:
    return (
        ascii(value if len(value) <= 60 else value[:60] + "…")
        if not value.isascii() or not value.isprintable()
        else f"{value[:60]!r}"
    )
