"""RFC 3464 and RFC 6533 reports, and what real servers make of them."""

from pathlib import Path

import pytest

from mailvane.bounces import read_mail
from mailvane.bounces.dsn import field_blocks, read_dsn
from mailvane.bounces.mime import parse_mail

MTA = Path(__file__).parents[1] / "data" / "mta"


def report(fields: str, *, part: str = "message/delivery-status", extra: str = "", before: str = "") -> bytes:
    return (
        f"From: MAILER-DAEMON@mx.example.net\r\n{extra}"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        f"--b\r\n\r\n{before}\r\n--b\r\nContent-Type: {part}\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n"
        f"{fields}\r\n--b--\r\n"
    ).encode()


FAILED = "Final-Recipient: rfc822; user@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"


def verdict(raw: bytes) -> tuple[str, str, int]:
    (person,) = read_mail(raw).recipients
    assert person.verdict
    return person.address, person.verdict.bounce_type, person.verdict.bounce_code


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("postfix/pipe-send1-m1-5.1.1.eml", ("nouser@dest.test", "h", 10)),
        ("postfix/pipe-send1-m2-5.1.1.eml", ("nouser2@dest.test", "h", 10)),
        ("postfix/pipe-send1-m2-5.2.2.eml", ("full@dest.test", "s", 22)),
        ("postfix/pipe-send1-m5-4.2.0.eml", ("grey@dest.test", "s", 20)),
        ("postfix/pipe-send1-m6-4.4.1.eml", ("x@dead.example.test", "s", 20)),
        ("postfix/pipe-send1-m7-5.7.1.eml", ("spam@dest.test", "o", 52)),
        ("exim/exim-dsn.eml", ("nouser@dest.test", "h", 10)),
        ("haraka/haraka-dsn.eml", ("nouser@dest.test", "h", 10)),
    ],
)
def test_dsns_of_real_servers(file: str, expected: tuple[str, str, int]) -> None:
    assert verdict((MTA / file).read_bytes()) == expected


def test_an_expired_message_is_soft_though_its_action_is_failed() -> None:
    raw = (MTA / "postfix/pipe-send1-m5-4.2.0.eml").read_bytes()
    assert b"Action: failed" in raw and b"Status: 4.2.0" in raw
    assert verdict(raw)[1] == "s"


def test_the_status_in_the_diagnostic_code_goes_before_the_field_status() -> None:
    exim = FAILED.replace("5.1.1", "5.0.0") + "Diagnostic-Code: smtp; 552 5.2.2 sorry\r\n"
    haraka = FAILED.replace("5.1.1", "5.2.0") + "Diagnostic-Code: smtp;450 4.2.0 sorry\r\n"
    assert verdict(report(exim)) == ("user@example.com", "s", 22)
    assert verdict(report(haraka)) == ("user@example.com", "s", 20)


def test_harakas_dsn_has_no_from_to_or_subject_and_is_a_bounce() -> None:
    raw = (MTA / "haraka/haraka-dsn.eml").read_bytes()
    headers = parse_mail(raw).headers
    assert not any(name in headers for name in ("from", "to", "subject", "auto-submitted"))
    assert read_mail(raw).kind == "bounce"


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded", "Delayed (will retry)"])
def test_delays_and_successes_are_no_bounce(action: str) -> None:
    facts = read_mail(report(FAILED.replace("failed", action)), "b-l-s-user=example.com@bounces.example.net")
    assert (facts.kind, facts.recipients) == ("none", ())
    assert "delay" in facts.reason or "success" in facts.reason


def test_postfixs_success_report_is_no_bounce() -> None:
    facts = read_mail((MTA / "postfix/pipe-send1-m4-2.0.0.eml").read_bytes())
    assert facts.kind == "none" and "success" in facts.reason


def test_of_several_recipients_only_those_that_failed_are_bounces() -> None:
    late = "Final-Recipient: rfc822; late@example.com\r\nAction: delayed\r\nStatus: 4.4.1\r\n"
    facts = read_mail(report(f"{late}\r\n{FAILED}"))
    assert [person.address for person in facts.recipients] == ["user@example.com"]


def test_a_dsn_that_calls_itself_an_automatic_reply_is_a_bounce() -> None:
    raw = (MTA / "exim/exim-dsn.eml").read_bytes()
    assert parse_mail(raw).headers.get("auto-submitted") == "auto-replied"
    assert read_mail(raw).kind == "bounce"


def test_global_delivery_status_is_split_into_its_recipients() -> None:
    fields = (
        "Final-Recipient: utf-8; dänny@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        "Final-Recipient: utf-8; \\x{8449}@example.com\r\nAction: failed\r\nStatus: 5.2.2\r\n"
    )
    raw = report(fields, part="message/global-delivery-status")
    found = read_dsn(parse_mail(raw))
    assert found and len(found.recipients) == 2
    facts = read_mail(raw)
    assert [person.address for person in facts.recipients] == ["dänny@example.com", "葉@example.com"]
    assert [person.verdict and person.verdict.bounce_type for person in facts.recipients] == ["h", "s"]


def test_a_dsn_with_bare_cr_line_ends_is_read() -> None:
    raw = report(FAILED).replace(b"\r\n", b"\r")
    assert verdict(raw) == ("user@example.com", "h", 10)


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("rfc822;user@example.com", "user@example.com"),
        ("RFC822; <user@example.com>", "user@example.com"),
        ("rfc822; user@example.com (user)", "user@example.com"),
        ("user@example.com", "user@example.com"),
        ('rfc822; "a b"@example.com', '"a b"@example.com'),
        ("rfc822; " + "u" * 254 + "@" + "d" * 61 + ".example", "u" * 254 + "@" + "d" * 61 + ".example"),
        ("x400; /S=user/C=DE/", None),
        ("rfc822; user", None),
        ("rfc822; us\x07er@example.com", None),
        ("rfc822; us\0er@example.com", None),
        ("rfc822; " + "u" * 70_000 + "@example.com", None),
    ],
)
def test_final_recipient_in_the_forms_that_servers_write(field: str, address: str | None) -> None:
    found = read_dsn(parse_mail(report(f"Final-Recipient: {field}\r\nAction: failed\r\nStatus: 5.1.1\r\n")))
    assert found and [recipient.final_recipient for recipient in found.recipients] == [address]


def test_an_address_that_no_mail_can_go_to_comes_out_not_at_all_and_says_so() -> None:
    facts = read_mail(report("Final-Recipient: rfc822; a\x01b@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"))
    assert (facts.kind, facts.recipients) == ("bounce", ())
    assert "no usable address" in facts.reason


def test_a_bounce_belongs_to_the_address_that_was_sent_to_not_to_where_it_was_forwarded() -> None:
    forwarded = (
        "Final-Recipient: rfc822; elsewhere@example.org\r\nOriginal-Recipient: rfc822; user@example.com\r\n"
        "Action: failed\r\nStatus: 5.1.1\r\n"
    )
    (person,) = read_mail(report(forwarded)).recipients
    assert (person.address, person.found_in) == ("user@example.com", "Original-Recipient")
    (person,) = read_mail(report(forwarded), "b-l-s-reader=example.com@bounces.example.net").recipients
    assert (person.address, person.found_in) == ("reader@example.com", "return path")


def test_an_address_forwarded_to_several_is_as_bad_as_the_mildest_of_its_failures() -> None:
    full = "Final-Recipient: rfc822; second@example.org\r\nAction: failed\r\nStatus: 5.2.2\r\n"
    raw = report(f"{FAILED}\r\n{full}", extra="To: b-l-s-user=example.com@bounces.example.net\r\n")
    assert verdict(raw) == ("user@example.com", "s", 22)


def test_each_recipient_is_judged_by_its_own_paragraph() -> None:
    fields = (
        "Final-Recipient: rfc822; a@example.com\r\nAction: failed\r\nStatus: 5.0.0\r\n\r\n"
        "Final-Recipient: rfc822; b@example.com\r\nAction: failed\r\nStatus: 5.0.0\r\n"
    )
    words = "<a@example.com>: 550 no such user\r\n\r\n<b@example.com>: 552 mailbox full\r\n"
    people = read_mail(report(fields, before=words)).recipients
    assert [(p.address, p.verdict and p.verdict.bounce_code) for p in people] == [
        ("a@example.com", 10),
        ("b@example.com", 22),
    ]


def test_a_dsn_inside_the_returned_message_is_not_ours() -> None:
    inner = report(FAILED).decode()
    raw = (
        "From: a@example.net\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\n"
        f"look at this\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--o--\r\n"
    )
    assert read_mail(raw.encode()).kind == "none"


def test_a_report_whose_fields_stand_in_a_text_part_is_read() -> None:
    raw = report(FAILED, part="text/plain")
    assert verdict(raw) == ("user@example.com", "h", 10)


def test_field_blocks_are_parted_by_blank_lines_or_by_a_field_that_comes_again() -> None:
    blocks = field_blocks(b"Final-Recipient: a\nAction: failed\nFinal-Recipient: b\nAction: failed\n\nStatus: 5.0.0\n")
    assert [block.fields[0] for block in blocks] == [
        ("final-recipient", "a"),
        ("final-recipient", "b"),
        ("status", "5.0.0"),
    ]
