"""What stands in the body of POST /v1/events: one event, an array of them, or one a line (NDJSON). Pure.

Each event goes through the door of `mailvane.events` by itself, from its own bytes: what is wrong with one is told with
its position, and no array of a million zeros becomes a million objects first.
"""

from enum import StrEnum

import msgspec

from mailvane.errors import EventRejected
from mailvane.events.catalogue import Event
from mailvane.events.clean import parse
from mailvane.queue.contract import APPEND_LIMIT

_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any_json = msgspec.json.Decoder(msgspec.Raw).decode
_BLANK_LINES = 4 * APPEND_LIMIT
"""Lines, empty ones with them, beyond which a body is not looked at further."""


class Form(StrEnum):
    """What the content type says of the body."""

    JSON = "json"
    LINES = "lines"
    UNTOLD = "untold"


class NoJson(Exception):
    """The body is no JSON at all; the text says where it stops being so."""


class TooMany(Exception):
    """More events than one request may have."""


def events_in(body: bytes, form: Form) -> list[Event | EventRejected]:
    """The body's events by position, each as it was parsed or with what is wrong. Raises NoJson and TooMany."""
    start = body.lstrip(b" \t\r\n")
    if not start:
        raise NoJson("the body is empty; an event is a JSON object")
    if form is Form.LINES or (form is Form.UNTOLD and _is_lines(start)):
        return [_event(line) for line in _lines(body)]
    if start.startswith(b"["):
        try:
            elements = _elements(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise NoJson(_why(e)) from None
        if len(elements) > APPEND_LIMIT:
            raise TooMany
        return [_event(memoryview(element)) for element in elements]
    event = _event(body)
    if isinstance(event, EventRejected):
        _must_be_json(body)
    return [event]


def _event(line: bytes | memoryview) -> Event | EventRejected:
    try:
        return parse(line)
    except EventRejected as e:
        return e


def _is_lines(body: bytes) -> bool:
    """Whether the first line is a whole object: an object that is spread over lines has none that is."""
    first, newline, rest = body.partition(b"\n")
    if not newline or not rest.strip() or not first.startswith(b"{"):
        return False
    try:
        _any_json(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _lines(body: bytes) -> list[bytes]:
    lines = body.split(b"\n", _BLANK_LINES)
    if len(lines) > _BLANK_LINES:
        raise TooMany
    lines = [line for line in lines if line and not line.isspace()]
    if len(lines) > APPEND_LIMIT:
        raise TooMany
    return lines


def _must_be_json(body: bytes) -> None:
    try:
        body.decode()  # what is only passed over is not looked at so closely
        _any_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise NoJson(_why(e)) from None


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the body is no JSON: byte {error.start + 1} is not UTF-8"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    said = str(error).removeprefix("JSON is malformed: ")
    hint = "; one object a line is application/x-ndjson" if "trailing characters" in said else ""
    return f"the body is no JSON: {said[:200]}{hint}"
