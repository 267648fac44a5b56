"""The wire forms: spliced from what is stored, and equal to what was recorded. M1, M2."""

import json
from typing import Any
from urllib.parse import parse_qsl, quote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.errors import EventRejected
from mailvane.events.catalogue import CLASSIC, DELIVERY, FIELDS, TYPES, Event
from mailvane.events.clean import admit, check, parse
from mailvane.events.codecs import (
    LEGACY_JSON,
    StoredForm,
    event_server,
    legacy_form,
    legacy_values,
    modern_json,
    stored_form,
    unique_id,
)  # fmt: skip

NOW = 1_790_000_000
MADE = [t.name for t in TYPES.values() if t.made]
ONE_OF: dict[str, list[str]] = {
    "bounce_type": ["", "h", "s", "o"],
    "channel": ["", "remote", "local"],
    "status": ["", "success", "failure", "failure_toolong", "deferral", "connmaxout"],
}

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
line = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30)
whole = st.none() | st.integers(0, 2**63 - 1)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
FREE = {"bounce_text", "message", "list_name", "list_label", "user_agent", "smtp_timing", "click_url"}


def values_of(name: str) -> st.SearchStrategy[Any]:
    field = FIELDS[name]
    if name == "event_type":
        return st.sampled_from(MADE)
    if name == "email":
        return line.filter(bool)
    if name in ONE_OF:
        return st.sampled_from(ONE_OF[name])
    if name in {"studio_is_unique", "is_retry"}:
        return st.sampled_from([None, 0, 1])
    match field.kind:
        case "string":
            return text if name in FREE else line
        case "integer":
            return whole
        case "number":
            return st.none() | st.floats(0, 2e9)
        case "boolean":
            return st.none() | st.booleans()
        case _:
            if name == "headers":
                return st.none() | st.dictionaries(text, st.lists(text, max_size=2), max_size=2)
            return json_value


some_fields = st.fixed_dictionaries(
    {"event_type": values_of("event_type"), "email": values_of("email")},
    optional={name: values_of(name) for name in FIELDS if name not in {"event_type", "email"}},
)


def legacy_json(event_id: int, body: str) -> bytes:
    return LEGACY_JSON % (b"%d" % event_id, body.encode())


def has_value(name: str, value: object) -> bool:
    return value is not None and (value != "" or FIELDS[name].kind == "json")


def recorded(fields: dict[str, Any]) -> dict[str, Any]:
    """What is known of an event after recording."""
    known = {name: value for name, value in fields.items() if has_value(name, value)}
    for name in ("listid", "sendid"):
        if name in known:
            known[name] = known[name].lower()
    return {"event_time": NOW, "server_id": "mail1", **known}


def row_of(event_type: str) -> tuple[str, ...]:
    return CLASSIC + DELIVERY if event_type == "delivery_attempt" else CLASSIC


def through(event: Event, server_id: str, now: int) -> StoredForm:
    """Through the door, as a program's event comes; written anew it would be the same."""
    checked, wire = check(event)
    form = admit(checked, server_id, now, wire)
    assert form == admit(checked, server_id, now)
    return form


@given(some_fields)
def test_m1_what_was_recorded_comes_back_in_every_form(fields: dict[str, Any]) -> None:
    form = through(Event(**fields), "mail1", NOW)
    known = recorded(fields)
    row = row_of(fields["event_type"])

    legacy = json.loads(legacy_json(7, form.body))
    assert legacy == legacy_values(7, form.body)
    assert legacy == {"id": 7, **{name: known.get(name, FIELDS[name].empty) for name in row}}

    modern = json.loads(modern_json(7, "ep0ch", form.valued, form.body, form.extra))
    name = modern.pop("event_unique_id")
    assert name == unique_id(known["server_id"], "ep0ch", 7) and len(name) <= 64
    assert modern == {"id": 7, **known}
    assert event_server(form.extra) == known["server_id"]

    posted = dict(parse_qsl(legacy_form(7, form.body).decode("ascii"), keep_blank_values=True, strict_parsing=True))
    assert list(posted) == ["id", *row]
    for n in row:
        value = known.get(n)
        if FIELDS[n].kind == "json" and n in known and not isinstance(value, str):
            assert json.loads(posted[n]) == value
        else:
            assert posted[n] == ("" if value is None else str(value))

    assert form.mail_class == (fields.get("mail_class") or fields.get("listid") or "").lower()


@given(some_fields)
def test_m1_what_comes_back_can_be_recorded_again(fields: dict[str, Any]) -> None:
    """The modern object without what the queue gave is the same event: so a queue can be carried to another."""
    form = through(Event(**fields), "mail1", NOW)
    modern = json.loads(modern_json(7, "e", form.valued, form.body, form.extra))
    del modern["id"], modern["event_unique_id"]
    again = admit(parse(json.dumps(modern).encode()), "another", NOW + 5)
    assert (again.event_type, again.mail_class, again.valued) == (form.event_type, form.mail_class, form.valued)
    assert again.body == form.body
    assert json.loads(f"{{{again.extra}}}") == json.loads(f"{{{form.extra}}}")


@given(st.dictionaries(st.sampled_from(list(FIELDS)), st.text(max_size=20) | json_value | whole, max_size=8))
def test_m1_any_object_is_either_refused_or_comes_back(fields: dict[str, Any]) -> None:
    try:
        event = parse(json.dumps({"event_type": "scomp", "email": "user@example.com", **fields}).encode())
        form = admit(event, "", NOW)
    except EventRejected as e:
        assert str(e) and str(e).isprintable()
        return
    assert json.loads(legacy_json(1, form.body))["email"] == event.email
    legacy_form(1, form.body).decode("ascii")


@pytest.mark.parametrize(
    "awkward",
    ["\"\\/\b\f\n\r\t", "\\u0000", "\\\\u0000", "😀\u202e\u200d", "=cmd|' /C calc'!A0", "'); DROP TABLE events; --",
     "<img src=x onerror=alert(1)>", "a&b=c;d%41+e f", "ÿ" * 1000,
     "\x85\x7f\u2028\ufeff\uffff"],
)  # fmt: skip
def test_m1_m2_awkward_text_stays_as_it_is(awkward: str) -> None:
    form = admit(Event(event_type="bounce_all", email="user@example.com", bounce_text=awkward), "", NOW)
    assert json.loads(legacy_json(1, form.body))["bounce_text"] == awkward
    wire = legacy_form(1, form.body)
    assert dict(parse_qsl(wire.decode("ascii")))["bounce_text"] == awkward
    # One line, whatever was in it: what is written to logs and headers has no line break of its own.
    assert not set(legacy_json(1, form.body)) & set(b"\r\n\x00")
    assert not set(wire) & set(b"\r\n \x00")


@pytest.mark.parametrize("value", [1e16, 1e300, -0.5, 1_790_000_000.25])
def test_a_number_with_a_plus_sign_is_no_number_with_a_blank(value: float) -> None:
    form = through(Event(event_type="scomp", email="user@example.com", json_after=value), "", NOW)
    assert json.loads(dict(parse_qsl(legacy_form(1, form.body).decode()))["json_after"]) == value


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_the_form_is_encoded_as_the_standard_library_does(value: str) -> None:
    form = admit(Event(event_type="bounce_all", email="user@example.com", bounce_text=value), "", NOW)
    (wanted,) = [p for p in legacy_form(1, form.body).decode().split("&") if p.startswith("bounce_text=")]
    assert wanted == "bounce_text=" + quote_plus(value, safe="").replace("~", "%7E")


def test_the_legacy_object_has_its_keys_in_both_rows() -> None:
    bounce = stored_form(Event(event_type="bounce_all", email="user@example.com"))
    attempt = stored_form(Event(event_type="delivery_attempt", email="user@example.com", status="success"))
    assert list(legacy_values(1, bounce.body)) == ["id", *CLASSIC]
    assert list(legacy_values(1, attempt.body)) == ["id", *CLASSIC, *DELIVERY]
    assert legacy_values(1, bounce.body)["bounce_code"] is None
    assert legacy_values(1, bounce.body)["bounce_text"] == ""
    assert legacy_values(1, bounce.body)["json_before"] == ""


def test_a_field_of_another_type_goes_where_it_is_known() -> None:
    """A click's user agent on a bounce is of the row; an attempt's status on a bounce only the modern object has."""
    form = stored_form(Event(event_type="bounce_all", email="u@example.com", user_agent="x", status="failure"))
    assert "status" not in json.loads(legacy_json(1, form.body))
    assert json.loads(legacy_json(1, form.body))["user_agent"] == "x"
    assert json.loads(modern_json(1, "e", form.valued, form.body, form.extra))["status"] == "failure"


@pytest.mark.parametrize(
    ("server", "name"),
    [("mail1", "mail1-e-7"), ("", "-e-7"), ("a b/ü\n", "a_b___-e-7"), ("x" * 100, "x" * 60 + "-e-7")],
)
def test_the_unique_name_fits_a_header(server: str, name: str) -> None:
    assert unique_id(server, "e", 7) == name
    assert len(unique_id(server, "abcdefgh", 2**63 - 1)) <= 64


def test_the_stored_form_needs_no_more_than_its_own_bytes() -> None:
    form = StoredForm("scomp", "", 0, '"event_type":"scomp"', "")
    assert msgspec.json.decode(legacy_json(1, form.body)) == {"id": 1, "event_type": "scomp"}
