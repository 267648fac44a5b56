"""Mail in, events out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.errors import EventRejected
from mailvane.events import Event
from mailvane.events.clean import admit
from mailvane.sources.mail import MailMeaning, events_of

DATA = Path(__file__).parents[1] / "data"
NOW = 1_790_000_000


def meaning(raw: bytes, recipient: str | None = None, length: int = 1_000) -> MailMeaning:
    return events_of(raw, recipient, length, NOW)


def dsn(
    diagnostic: str = "550 5.1.1 User unknown", address: str = "user@example.com", returned: str = "Subject: x"
) -> bytes:
    return (
        "From: MAILER-DAEMON@mx.example.net\r\nContent-Type: multipart/report; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Final-Recipient: rfc822; {address}\r\nAction: failed\r\n"
        f"Status: 5.0.0\r\nDiagnostic-Code: smtp; {diagnostic}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{returned}\r\n\r\nhello\r\n--b--\r\n"
    ).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("file", "kind", "events"),
    [
        (
            "mta/postfix/pipe-send1-m1-5.1.1.eml",
            "bounce",
            [("bounce_all", "nouser@dest.test", "h"), ("bounce_bad_address", "nouser@dest.test", "h")],
        ),
        ("mta/postfix/pipe-send1-m5-4.2.0.eml", "bounce", [("bounce_all", "grey@dest.test", "s")]),
        ("mta/postfix/pipe-send1-m7-5.7.1.eml", "bounce", [("bounce_all", "spam@dest.test", "o")]),
        ("mta/postfix/pipe-send1-m4-2.0.0.eml", "none", []),
        ("bounces/mails/arf-21.eml", "complaint", [("scomp", "kijitora@example.org", "")]),
        ("bounces/mails/arf-11.eml", "complaint", []),
        ("bounces/mails/rfc3834-01.eml", "auto_reply", []),
        ("bounces/mails/not-a-bounce-01.eml", "none", []),
    ],
)
def test_what_mails_become(file: str, kind: str, events: list[tuple[str, str, str]]) -> None:
    found = meaning((DATA / file).read_bytes())
    assert found.kind == kind
    assert [(event.event_type, event.email, event.bounce_type) for event in found.events] == events
    assert found.reason


def test_a_hard_bounce_carries_everything_known_of_it() -> None:
    returned = (
        "X-GreenArrow-MailClass: Weekly\r\nX-GreenArrow-ListID: A1\r\nX-GreenArrow-SendID: S7\r\n"
        "X-GreenArrow-Click-Tracking-ID: ct-4711"
    )
    found = meaning(dsn(returned=returned))
    came_back, bad_address = found.events
    assert came_back == Event(
        event_type="bounce_all",
        email="user@example.com",
        event_time=NOW,
        listid="a1",
        sendid="s7",
        mail_class="Weekly",
        click_tracking_id="ct-4711",
        bounce_type="h",
        bounce_code=10,
        bounce_text="550 5.1.1 User unknown",
        synchronous=False,
    )
    assert bad_address == Event(
        event_type="bounce_bad_address",
        email="user@example.com",
        event_time=NOW,
        listid="a1",
        sendid="s7",
        mail_class="Weekly",
        click_tracking_id="ct-4711",
        bounce_type="h",
        bounce_code=10,
        bounce_text="550 5.1.1 User unknown",
    )


def test_both_events_of_a_bounce_name_the_message_in_the_mail_servers_queue() -> None:
    found = meaning((DATA / "mta/postfix/pipe-send1-m1-5.1.1.eml").read_bytes())
    assert [event.msguid for event in found.events] == ["4jYdNc1jJszJDb0"] * 2


def test_an_unsubscribe_mail_is_engine_unsub() -> None:
    found = meaning(b"From: a@example.com\r\n\r\n", "unsubscribe-news-s7-reader=example.com@lists.example.net")
    assert found.events == (
        Event(event_type="engine_unsub", email="reader@example.com", event_time=NOW, listid="news", sendid="s7"),
    )


def test_explanations_name_the_rule_and_the_sentence() -> None:
    (explained,) = meaning(dsn()).explanations
    assert (explained.address, explained.found_in, explained.rule) == (
        "user@example.com",
        "Final-Recipient",
        "unknown-user",
    )
    assert "user unknown" in explained.sentence


@pytest.mark.parametrize("length", [0, 1, 10, 1_000])
def test_bounce_text_is_cut_to_its_length(length: int) -> None:
    text = meaning(dsn("550 " + "x" * 2_000), length=length).events[0].bounce_text
    assert len(text) == length


def test_a_bounce_without_recipient_is_a_bounce_without_events() -> None:
    found = meaning(b"From: MAILER-DAEMON@mx.example.net\r\nSubject: failure notice\r\n\r\nit failed")
    assert (found.kind, found.events) == ("bounce", ())
    assert "no usable address" in found.reason


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("user@example.com", "user@example.com"),
        ("dänny@exämple.com", "dänny@exämple.com"),
        ("😺@example.com", "😺@example.com"),
        ('"quo ted"@example.com', '"quo ted"@example.com'),
        ("u" * 64 + "@" + ("d" * 60 + ".") * 4 + "example", "u" * 64 + "@" + ("d" * 60 + ".") * 4 + "example"),
        ("nul\0@example.com", None),
        ("bell\x07@example.com", None),
        ("c1\x85@example.com", None),
        ("lone\ud800@example.com", None),
        ("x" * 70_000 + "@example.com", None),
    ],
)
def test_m1_addresses_come_out_as_they_are_or_not_at_all(address: str, stored: str | None) -> None:
    found = meaning(dsn(address=address))
    assert found.kind == "bounce"
    assert {event.email for event in found.events} == ({stored} if stored else set())
    assert stored or "no usable address" in found.reason
    for event in found.events:
        admit(event, "s1", NOW)


@pytest.mark.parametrize("text", ["nul \0", "esc \x1b[2J", "c1 \x9b31m", "lone \ud800", "שלום", "😺"])
def test_m1_bounce_text_is_stored_cleaned(text: str) -> None:
    found = meaning(dsn(f"550 5.1.1 {text} user unknown"))
    kept = found.events[0].bounce_text
    assert not any(
        ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 or 0xD800 <= ord(letter) < 0xE000 for letter in kept
    )
    if text.isprintable():
        assert text in kept
    admit(found.events[0], "s1", NOW)


@pytest.mark.parametrize(
    "field", ["X-GreenArrow-ListID", "X-GreenArrow-SendID", "X-GreenArrow-MailClass", "X-GreenArrow-Click-Tracking-ID"]
)
@pytest.mark.parametrize("value", ["a\r\n b", "a\x0bb", "a\x85b", "a\u2028b", "a\0b"])
def test_m2_values_from_headers_hold_no_line_break(field: str, value: str) -> None:
    found = meaning(dsn(returned=f"{field}: {value}"))
    for event in found.events:
        form = admit(event, "s1", NOW)
        assert not any(sign in form.body for sign in ("\r", "\n", "\\r", "\\n", "\u2028"))


def test_m2_the_reason_is_one_line_without_control_characters() -> None:
    found = meaning(b"From: user@example.com\r\nAuto-Submitted: auto-replied\x1b[2J\x00\r\n\r\n")
    assert found.kind == "auto_reply"
    assert found.reason.isprintable()


def test_m6_a_mail_of_2000_levels_is_a_bounce_by_its_headers() -> None:
    levels = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(2_000))
    found = meaning(b"From: MAILER-DAEMON@mx.example.net\r\n" + levels, "b-l-s-user=example.com@b.example.net")
    assert [event.email for event in found.events] == ["user@example.com"]
    assert "levels" in found.reason


@given(st.binary(max_size=400), st.none() | st.text(max_size=60), st.integers(0, 50))
def test_whatever_comes_in_is_admitted_or_is_no_event(noise: bytes, recipient: str | None, length: int) -> None:
    whole = (
        dsn()
        .replace(b"user@example.com", noise[:40] + b"@example.com")
        .replace(b"User unknown", noise)
        .replace(b"Subject: x", b"X-GreenArrow-ListID: " + noise)
    )
    for raw in (noise, whole):
        found = events_of(raw, recipient, length, NOW)
        assert not any(ord(letter) < 0x20 for letter in found.reason)
        for event in found.events:
            try:
                admit(event, "s1", NOW)
            except EventRejected as refused:
                pytest.fail(f"the door refused {event!r}: {refused}")


@pytest.mark.parametrize("file", sorted(path.name for path in (DATA / "bounces/mails").glob("*.eml")))
def test_every_event_of_the_collection_is_admitted(file: str) -> None:
    for event in meaning((DATA / "bounces/mails" / file).read_bytes()).events:
        assert admit(event, "s1", NOW)
