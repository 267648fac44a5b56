"""The door: what is let in, what is stopped, and in which words."""

import json
import sqlite3
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.errors import EventRejected
from mailvane.events.catalogue import FIELD_LENGTH, Event
from mailvane.events.clean import EVENT_LENGTH, NESTING, admit, check, convert, parse

BASE: dict[str, Any] = {"event_type": "bounce_all", "email": "user@example.com"}


def rejected(**fields: Any) -> EventRejected:
    with pytest.raises(EventRejected) as raised:
        admit(parse(json.dumps({**BASE, **fields}).encode()), "mail1", 1)
    return raised.value


def test_the_least_that_an_event_needs() -> None:
    form = admit(parse(b'{"event_type": "scomp", "email": "user@example.com"}'), "mail1", 17)
    assert json.loads("{" + form.body + "}")["event_time"] == 17
    assert form.extra == '"server_id":"mail1"'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"not json", "is no JSON"),
        (b'{"event_type": "scomp", "email": "a@b"} x', "is no JSON"),
        (b'{"event_type": "scomp", "email": "a@b",}', "is no JSON"),
        (b'{"event_type": "scomp", "email": NaN}', "is no JSON"),
        (b"[]", "is no JSON object"),
        (b"7", "is no JSON object"),
        (b"null", "is no JSON object"),
        (b'{"event_type": "scomp", "email": "a\xff@b"}', "is not UTF-8"),
        (b'{"event_type": "scomp", "email": "a\xed\xa0\x80@b"}', "is not UTF-8"),
        (b'{"event_type": "scomp", "email": "a@b", "bounce_text": "\\ud800"}', "is no JSON"),
        (b'{"event_type": "scomp", "email": "a@b", "bounce_text": "\\ud800\\u0041"}', "is no JSON"),
        (b'{"event_type": "scomp", "email": "a@b", "json_before": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"event_type": "scomp"}', "email: is missing"),
        (b'{"email": "a@b"}', "event_type: is missing"),
        (b" " * (EVENT_LENGTH + 1), "1,048,576"),
    ],
)
def test_what_is_no_event_is_told_why(line: bytes, reason: str) -> None:
    with pytest.raises(EventRejected, match=reason) as raised:
        parse(line)
    assert len(str(raised.value)) < 400 and str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"event_type": "bounce_al"}, "event_type", "did you mean bounce_all"),
        ({"event_type": "bounce_lite"}, "event_type", "nothing records it"),
        ({"event_type": ""}, "event_type", "unknown type"),
        ({"event_type": "x" * 5000}, "event_type", "unknown type"),
        ({"emial": "x"}, "emial", "did you mean email"),
        ({"id": 7}, "id", "given by the queue"),
        ({"event_unique_id": "x"}, "event_unique_id", "given by the queue"),
        ({"email": ""}, "email", "is empty"),
        ({"email": 7}, "email", "Expected `str`"),
        ({"email": None}, "email", "Expected `str`"),
        ({"event_time": "1790000000"}, "event_time", "Expected `int"),
        ({"event_time": 1.5}, "event_time", "Expected `int"),
        ({"event_time": -1}, "event_time", ">= 0"),
        ({"event_time": 2**63}, "event_time", ""),
        ({"bounce_type": "hard"}, "bounce_type", "hard"),
        ({"studio_is_unique": 2}, "studio_is_unique", "<= 1"),
        ({"headers": {"X": "not a list"}}, "headers[...]", "array"),
        ({"bounce_text": "x" * (FIELD_LENGTH + 1)}, "bounce_text", str(FIELD_LENGTH)),
        ({"bounce_text": "a\x00b"}, "bounce_text", "NUL"),
        ({"json_before": {"a": ["\x00"]}}, "json_before", "NUL"),
        ({"json_after": {"\x00": 1}}, "json_after", "NUL"),
        ({"headers": {"X": ["\x00"]}}, "headers", "NUL"),
        ({"json_before": {"a": "\\\x00"}}, "json_before", "NUL"),
        ({"email": "a\nBcc: b@example.com"}, "email", "U+000A"),
        ({"email": "a\rb"}, "email", "U+000D"),
        ({"email": "a\x7fb@example.com"}, "email", "U+007F"),
        ({"listid": "a\x85"}, "listid", "U+0085"),
        ({"sendid": "a\u2028"}, "sendid", "U+2028"),
        ({"sender": "a\x7f@example.com"}, "sender", "U+007F"),
        ({"mail_class": "a\x9f"}, "mail_class", "U+009F"),
        ({"server_id": "a\r\nX-Header: 1"}, "server_id", "U+000D"),
        ({"click_tracking_id": "a\tb"}, "click_tracking_id", "U+0009"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str, reason: str) -> None:
    error = rejected(**fields)
    assert error.field == field
    assert reason in error.reason
    assert str(error).isprintable() and len(str(error)) < 500


@pytest.mark.parametrize(
    "fields",
    [
        {"bounce_text": "two\nlines\tand a tab"},
        {"bounce_text": "\\u0000 as six characters"},
        {"json_before": {"a": "\\u0000"}},
        {"user_agent": "\x85"},
        {"email": '"odd name"@example.com'},
        {"email": "ünï@exämple.com"},
        {"email": "x" * 320},
        {"email": "=cmd|' /C calc'!A0@example.com"},
        {"listid": "A1", "sendid": "S1"},
        {"bounce_text": "ü" * FIELD_LENGTH},
        {"click_url": "javascript:alert(1)"},
        {"json_before": None, "json_after": 7},
    ],
)
def test_what_is_only_unusual_is_let_in(fields: dict[str, Any]) -> None:
    form = admit(parse(json.dumps({**BASE, **fields}).encode()), "", 1)
    stored = json.loads("{" + form.body + "}")
    for name, value in fields.items():
        wanted = value.lower() if name in {"listid", "sendid"} else "" if value is None else value
        assert stored[name] == wanted


def test_an_event_has_a_size_in_all() -> None:
    texts = dict.fromkeys(("bounce_text", "list_name", "list_label", "user_agent", "message"), "ü" * FIELD_LENGTH)
    assert admit(convert({**BASE, **texts}), "", 1)  # 640 KiB in UTF-8
    more = {**texts, **dict.fromkeys(("click_url", "smtp_timing", "msguid", "sender"), "ü" * FIELD_LENGTH)}
    with pytest.raises(EventRejected, match="larger than"):
        admit(convert({**BASE, **more}), "", 1)


@pytest.mark.parametrize("limit", [1_000, 20_000])
@pytest.mark.parametrize("field", ["json_before", "json_after"])
def test_json_may_be_nested_only_as_deeply_as_everybody_can_read(field: str, limit: int) -> None:
    """SQLite gives up at 1,000 levels, and with it every SELECT on the view, for the whole queue."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        for depth in (NESTING + 1, 600, 950, 3_000):
            for opening, closing in (("[", "]"), ('{"a":', "}")):
                value = opening * depth + "1" + closing * depth
                line = f'{{"event_type":"scomp","email":"a@example.com","{field}":{value}}}'.encode()
                with pytest.raises(EventRejected, match="nested too deeply"):
                    admit(parse(line), "", 1)
        deepest = "[" * NESTING + "]" * NESTING
        form = admit(parse(f'{{"event_type":"scomp","email":"a@example.com","{field}":{deepest}}}'.encode()), "", 1)
    finally:
        sys.setrecursionlimit(before)
    row = sqlite3.connect(":memory:").execute("SELECT json_extract(?, '$.email')", ("{" + form.body + "}",)).fetchone()
    assert row == ("a@example.com",)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Event(event_type="scomp", email="a\ud800@b"), "email"),
        (Event(event_type="scomp", email="a@b", bounce_text="\udfff"), "bounce_text"),
        (Event(event_type="scomp", email=7), "email"),  # type: ignore[arg-type]
        (Event(event_type="scomp", email="a@b", event_time="1"), "event_time"),  # type: ignore[arg-type]
        (Event(event_type="scomp", email="a@b", event_time=True), "event_time"),
        (Event(event_type="scomp", email="a@b", json_before={1, 2, object()}), ""),
        (Event(event_type="scomp", email="a@b", json_before={"a": [1.0, float("nan")]}), "json_before"),
        (Event(event_type="scomp", email="a@b", json_after=float("-inf")), "json_after"),
        (Event(event_type="delivery_attempt", email="a@b", timestamp=float("inf")), "timestamp"),
        (Event(event_type="scomp", email="a@b", headers={"X": "y"}), "headers[...]"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_a_program_gives_is_looked_at_as_json_is(event: Event, field: str) -> None:
    with pytest.raises(EventRejected) as raised:
        check(event)
    assert raised.value.field == field


def test_a_value_that_holds_itself_is_refused() -> None:
    cycle: list[object] = [None]
    cycle.append(cycle)
    with pytest.raises(EventRejected, match="nested too deeply"):
        check(Event(event_type="scomp", email="a@b", json_before=cycle))


@given(st.text())
def test_m1_any_text_in_any_field_is_refused_or_stored_in_bytes_that_databases_take(value: str) -> None:
    for name in ("email", "bounce_text", "sendid", "json_before"):
        try:
            form = admit(check(Event(**{**BASE, name: value}))[0], "", 1)
        except EventRejected as e:
            assert str(e).isprintable()
            continue
        assert "\x00" not in form.body
        assert form.body.encode()
        stored = json.loads("{" + form.body + "}")
        assert stored[name] == (value.lower() if name == "sendid" else value)


@given(st.binary(max_size=200))
def test_m1_any_bytes_are_an_event_or_are_refused(line: bytes) -> None:
    with pytest.raises(EventRejected):
        parse(line)


def test_convert_takes_values_that_were_parsed_already() -> None:
    assert convert({**BASE, "bounce_code": 10}) == Event(**BASE, bounce_code=10)
    with pytest.raises(EventRejected, match="bounce_code"):
        convert({**BASE, "bounce_code": "10"})
