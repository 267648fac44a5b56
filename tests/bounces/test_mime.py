"""Reading a mail within bounds: whatever the bytes are, it ends, and nothing is raised."""

import io
import time
import tracemalloc
from unicodedata import category

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailvane.bounces import read_head, read_mail
from mailvane.bounces.headers import decode_text, decoded_words, parse_headers
from mailvane.bounces.mime import BYTES_AT_MOST, DEPTH_AT_MOST, PARTS_AT_MOST, parse_mail

SECONDS_AT_MOST = 10
"""Generous: each of these takes two seconds at most where nothing else runs, most a tenth."""

RETURNED = b"From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered Mail Returned to Sender\r\n"
MIXED = RETURNED + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
REPORT = RETURNED + b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n'


def nested(levels: int) -> bytes:
    opening = (b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(levels))
    return RETURNED + b"".join(opening)


def letter(words: bytes) -> bytes:
    """In a form that all of flufl.bounce's detectors look into."""
    return MIXED + b"--b\r\nContent-Type: text/plain\r\n\r\n" + words + b"\r\n--b\r\n\r\nx\r\n--b--\r\n"


# Words of letters after which flufl.bounce looks for addresses with patterns that need ages for some lines.
NETSCAPE = b"This Message was undeliverable due to the following reason:\r\n"
SORRY = b"Sorry, unable to deliver your message to\r\n"

HOSTILE = {
    "nested parts, 10,000": nested(10_000),
    "nested parts, 2,000": nested(2_000),
    "nested messages, 10,000": MIXED + b"--b\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 10_000,
    "nested parts of one boundary": RETURNED + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n' * 10_000,
    "parts, 100,000": MIXED + b"--b\r\n\r\nx\r\n" * 100_000,
    "delimiters that are none": MIXED + (b"\r\n--b" + b" " * 60 + b"x") * 15_000,
    "one header line of 1 MB": b"Subject: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "encoded words, 70,000": b"Subject: " + b"=?utf-8?q?a?= " * 70_000 + b"\r\n\r\n",
    "a header folded 250,000 times": b"X: " + b"a\r\n " * 250_000 + b"\r\n\r\n",
    "headers, 170,000": b"A: b\r\n" * 170_000 + b"\r\n",
    "unclosed quotes in Content-Type": b"Content-Type: multipart/mixed" + b'; a="\\' * 200_000 + b"\r\n\r\n",
    "nothing but CR": b"\r" * BYTES_AT_MOST,
    "nothing but NUL": b"\0" * BYTES_AT_MOST,
    "nothing but FF": b"\xff" * BYTES_AT_MOST,
    "nothing but <": RETURNED + b"\r\n" + b"<" * BYTES_AT_MOST,
    "nothing but @": RETURNED + b"\r\n" + b"a@" * 500_000,
    "beginnings of rules' phrases": RETURNED + b"\r\n" + b"mailbox user account sender ip address " * 25_000,
    "reply codes": RETURNED + b"\r\n" + b"550 5.1. " * 110_000,
    "tags": RETURNED + b"Content-Type: text/html\r\n\r\n" + b"<a" * 500_000,
    "base64": RETURNED + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"A" * BYTES_AT_MOST,
    "a report of 17,000 recipients without address": REPORT
    + b"\r\n"
    + b"mailbox user account sender ip\r\n" * 2_000
    + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    + b"Final-Recipient: rfc822;\r\nAction: failed\r\n\r\n" * 17_000,
    "X-Failed-Recipients of 60,000": RETURNED
    + b"X-Failed-Recipients: "
    + b",".join(b"a%d@example.net" % n for n in range(60_000))
    + b"\r\n\r\n"
    + b"mailbox user\r\n" * 5_000,
    "a letter with a line of <": letter(NETSCAPE + b"<" * 60_000),
    "a letter with lines of <": letter(NETSCAPE + (b"<" * 990 + b"\r\n") * 60),
    "a letter with lines of < and one >": letter(NETSCAPE + (b"<" * 990 + b">\r\n") * 60),
    "a letter with a line of one word": letter(SORRY + b"a" * 60_000),
    "a letter with a line of spaces": letter(SORRY + b" " * 60_000 + b"x"),
    "a letter with lines of commas and @": letter((b"," * 330 + b"a@" * 330 + b"\r\n") * 60),
    "feedback reports, 10,000": MIXED
    + b"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n" * 10_000,
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_m6_hostile_mail_is_read_in_bounded_time(raw: bytes) -> None:
    started = time.process_time()
    facts = read_mail(raw, "b-list-send-user=example.com@bounces.example.net")
    assert time.process_time() - started < SECONDS_AT_MOST
    assert facts.reason


def test_m6_nested_parts_are_split_to_the_depth_and_no_further() -> None:
    mail = parse_mail(nested(10_000))
    assert max(part.depth for part in mail.parts) == DEPTH_AT_MOST
    assert "levels" in mail.cut


def test_m6_parts_are_counted_and_the_rest_is_left() -> None:
    mail = parse_mail(MIXED + b"--b\r\n\r\nx\r\n" * 100_000)
    assert len(mail.parts) == PARTS_AT_MOST
    assert "parts" in mail.cut


class Endless(io.RawIOBase):
    """A mail of *size* bytes that is never in memory as a whole."""

    def __init__(self, head: bytes, size: int) -> None:
        self._head, self._left = head, size - len(head)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        piece = b"x" * min(size, self._left)
        self._left -= len(piece)
        return piece

    @property
    def left(self) -> int:
        return self._left


def test_m6_a_mail_of_100_mb_is_read_to_its_end_in_bounded_memory() -> None:
    head = RETURNED + b"X-Failed-Recipients: user@example.net\r\n\r\n550 5.1.1 User unknown\r\n"
    stream = Endless(head, 100_000_000)
    tracemalloc.start()
    try:
        raw = read_head(stream)  # pyright: ignore[reportArgumentType]  a RawIOBase reads as a BinaryIO does
        facts = read_mail(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(raw) == BYTES_AT_MOST + 1
    assert stream.left == 0, "a mail server takes a pipe that is closed early for a failure"
    assert peak < 40_000_000
    assert [person.address for person in facts.recipients] == ["user@example.net"]
    assert f"only its first {BYTES_AT_MOST} bytes" in facts.reason


def test_m6_a_dsn_of_50_mb_is_still_a_bounce_of_its_return_path() -> None:
    raw = REPORT + b"\r\n" + b"x" * 50_000_000 + b"\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    facts = read_mail(raw, "b-list-send-user=example.com@bounces.example.net")
    assert facts.kind == "bounce"
    assert [person.address for person in facts.recipients] == ["user@example.com"]


def test_a_small_mail_is_read_whole() -> None:
    assert read_head(io.BytesIO(b"Subject: x\r\n\r\ny")) == b"Subject: x\r\n\r\ny"
    assert read_head(io.BytesIO(b"")) == b""


@pytest.mark.parametrize("raw", [b"", b"\r\n", b" \t\r\n\r\n"])
def test_an_empty_file_is_no_event(raw: bytes) -> None:
    facts = read_mail(raw)
    assert (facts.kind, facts.recipients, facts.reason) == ("none", (), "the mail is empty")


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r", b"\r\r\n"], ids=["CRLF", "LF", "CR", "CRCRLF"])
def test_line_ends_of_every_kind_are_read(line_end: bytes) -> None:
    lines = [b"Subject: s", b'Content-Type: multipart/mixed; boundary="b"', b"", b"--b", b"", b"one", b"--b--", b""]
    mail = parse_mail(line_end.join(lines))
    assert mail.headers.get("subject") == "s"
    assert [part.body for part in mail.parts[1:]] == [b"one"]


def test_a_part_ends_at_its_own_boundary_and_not_at_one_that_begins_alike() -> None:
    mail = parse_mail(
        b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\none\n--bb\nstill one\n--b \t\n\ntwo\n--b--\nend'
    )
    assert [part.body for part in mail.parts[1:]] == [b"one\n--bb\nstill one", b"two"]


def test_a_returned_message_is_told_from_the_mail_that_brings_it() -> None:
    mail = parse_mail(
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nwhy\n"
        b"--b\nContent-Type: message/rfc822\n\nTo: u@example.net\n\nhello\n--b--\n"
    )
    assert [part.attached for part in mail.parts] == [False, False, False, True]
    assert mail.parts[3].headers.get("to") == "u@example.net"


@pytest.mark.parametrize("charset", ["utf-8", "x-no-such", "idna", "punycode", "hex", "\0", "utf-7", "rot13", ""])
def test_text_in_a_broken_or_mad_charset_survives(charset: str) -> None:
    text = decode_text(b"a\0\xff\xfe+2AAA- b", charset)
    assert "\0" not in text
    text.encode("utf-8")


def test_encoded_words_that_lie_are_left_as_they_are() -> None:
    assert decoded_words("=?utf-8?b?4Z?= x")
    assert decoded_words("=?utf-8?q?Gr=C3=BC=C3=9Fe?=") == "Grüße"
    assert "\ud800" not in decoded_words("=?utf-16?b?2AA=?=")


def test_the_mails_headers_survive_stray_lines() -> None:
    headers = parse_headers(b"Subject: a\nthis is no field\n b\nTo: c")
    assert headers.get("subject") == "a b"
    assert headers.get("to") == "c"


@given(st.binary(max_size=2_000))
@example(b'Content-Type: multipart/mixed; boundary=""\n\n--\n')
@example(b"Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\n")
def test_any_bytes_are_read(raw: bytes) -> None:
    mail = parse_mail(raw)
    assert mail.parts
    assert read_mail(raw, "x").kind in ("bounce", "complaint", "unsubscribe", "auto_reply", "none")


PIECES = st.sampled_from(
    [
        b"From: MAILER-DAEMON@x.example\r\n",
        b"Return-Path: <>\r\n",
        b"X-Failed-Recipients: a@b.example, \xff@c\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"--b",
        b"--b\r\n",
        b"--b--\r\n",
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n',
        b"Content-Type: message/delivery-status\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: message/feedback-report\r\n",
        b"Content-Type: text/rfc822-headers\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Final-Recipient: rfc822; u@example.net\r\n",
        b"Original-Recipient: rfc822;\0@x\r\n",
        b"Action: failed\r\n",
        b"Action: delayed\r\n",
        b"Status: 5.1.1\r\n",
        b"Diagnostic-Code: smtp; 550 \xed\xa0\x80\r\n",
        b"Feedback-Type: abuse\r\n",
        b"Original-Rcpt-To: <u@example.net>\r\n",
        b"Subject: =?utf-8?b?/////w==?=\r\n",
        b"Subject: unsubscribe\r\n",
        b"To: b-l-s-u=example.net@b.example\r\n",
        b"<u@example.net>: 550 no such user\r\n",
        b"Auto-Submitted: auto-replied\r\n",
    ]
)


@given(st.lists(PIECES | st.binary(max_size=12), max_size=40).map(b"".join))
def test_any_mixture_of_what_reports_are_made_of_is_read(raw: bytes) -> None:
    facts = read_mail(raw)
    for person in facts.recipients:
        assert person.address.rpartition("@")[0]
        assert not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in person.address)
        person.address.encode("utf-8")
