import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.errors import EventRejected
from mailvane.events.catalogue import Event
from mailvane.web.bodies import Form, NoJson, TooMany, events_in

ONE = b'{"event_type":"bounce_all","email":"a@example.com"}'
WRONG = b'{"event_type":"bounce_all","email":7}'


def emails(body: bytes, form: Form) -> list[str]:
    return [e.email if isinstance(e, Event) else e.field for e in events_in(body, form)]


@pytest.mark.parametrize("form", [Form.JSON, Form.UNTOLD])
def test_an_object_an_array_and_an_empty_array_are_json(form: Form):
    assert emails(ONE, form) == ["a@example.com"]
    assert emails(b" \r\n[%b,\n%b]\n" % (ONE, WRONG), form) == ["a@example.com", "email"]
    assert emails(b"[]", form) == []
    assert emails(json.dumps(json.loads(ONE), indent=2).encode(), form) == ["a@example.com"]


@pytest.mark.parametrize("form", [Form.LINES, Form.UNTOLD])
def test_one_object_a_line_with_empty_lines_and_line_ends_of_windows(form: Form):
    assert emails(ONE + b"\r\n\r\n" + WRONG + b"\n" + ONE + b"\n\n", form) == [
        "a@example.com",
        "email",
        "a@example.com",
    ]


def test_a_line_that_is_no_json_is_told_with_its_position_and_spares_the_others():
    found = events_in(ONE + b"\n{\n" + ONE, Form.LINES)
    assert [isinstance(e, EventRejected) for e in found] == [False, True, False]


def test_an_array_among_lines_is_no_event():
    (found,) = events_in(b"[" + ONE + b"]", Form.LINES)
    assert isinstance(found, EventRejected)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"event_type=bounce_all&email=a", "no JSON"),
        (b'{"event_type":"bounce_all"', "no JSON"),
        (b"[1,", "no JSON"),
        (ONE + b"\n" + ONE, "application/x-ndjson"),
        (b'"\xff"', "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"json_after":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_told_so(body: bytes, said: str):
    with pytest.raises(NoJson, match=said):
        events_in(body, Form.JSON)


def test_json_that_is_no_event_is_rejected_and_not_called_no_json():
    for body in (b"7", b"null", b'"x"', b"{}", b"[[]]", b"[7]"):
        (found,) = events_in(body, Form.JSON)
        assert isinstance(found, EventRejected), body


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"[" + b",".join([ONE] * 1_001) + b"]", Form.JSON),
        (b"\n".join([ONE] * 1_001), Form.LINES),
        (b"\n" * 500_000, Form.LINES),
        (b"[" + b"0," * 400_000 + b"0]", Form.JSON),
    ],
)
def test_more_than_a_thousand_are_too_many(body: bytes, form: Form):
    if not body.strip():
        body = ONE + body
    with pytest.raises(TooMany):
        events_in(body, form)


def test_a_thousand_are_not():
    assert len(events_in(b"\n".join([ONE] * 1_000), Form.LINES)) == 1_000
    assert len(events_in(b"[" + b",".join([ONE] * 1_000) + b"]", Form.JSON)) == 1_000


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(_texts, min_size=2, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_arrays_and_lines_mean_the_same_events(texts: list[str], escaped: bool, indent: int | None):
    events = [{"event_type": "bounce_all", "email": f"{n}@example.com", "bounce_text": t} for n, t in enumerate(texts)]
    wanted = msgspec.convert(events, list[Event])
    array = json.dumps(events, ensure_ascii=escaped, indent=indent).encode()
    lines = "\n".join(json.dumps(event, ensure_ascii=escaped) for event in events).encode()
    assert events_in(array, Form.JSON) == events_in(array, Form.UNTOLD) == wanted
    assert events_in(lines, Form.LINES) == events_in(lines, Form.UNTOLD) == wanted


@given(st.binary(max_size=200), st.sampled_from(Form))
def test_no_bytes_do_anything_else(body: bytes, form: Form):
    try:
        assert all(isinstance(e, Event | EventRejected) for e in events_in(body, form))
    except (NoJson, TooMany):
        pass
