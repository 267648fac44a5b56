"""Feedback reports: which are complaints, about whom."""

from pathlib import Path

import pytest

from mailvane.bounces import read_mail

MAILS = Path(__file__).parents[1] / "data" / "bounces" / "mails"


def report(fields: str, returned: str = "To: user@example.com\r\n", more: str = "") -> bytes:
    return (
        "From: fbl@isp.example\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
        f"--b\r\n\r\nan abuse report\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n{fields}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{returned}\r\nhello\r\n{more}--b--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("file", "addresses"),
    [
        ("arf-01.eml", ["redacted@example.net"]),
        ("arf-11.eml", []),
        ("arf-15.eml", []),
        ("arf-17.eml", ["kijitora@example.com", "sabatora@example.net"]),
        ("arf-21.eml", ["kijitora@example.org"]),
        ("arf-23.eml", ["kijitora@example.com"]),
        ("arf-25.eml", ["hashed@example.com"]),
    ],
)
def test_complaints_of_real_feedback_loops(file: str, addresses: list[str]) -> None:
    facts = read_mail((MAILS / file).read_bytes())
    assert facts.kind == "complaint"
    assert [person.address for person in facts.recipients] == addresses
    assert bool(addresses) is ("does not tell who" not in facts.reason)


def test_a_dmarc_failure_report_is_no_complaint() -> None:
    facts = read_mail((MAILS / "arf-19.eml").read_bytes())
    assert (facts.kind, facts.recipients) == ("none", ())
    assert "auth-failure" in facts.reason


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure", "Auth-Failure"])
def test_types_that_are_no_complaint(kind: str) -> None:
    assert read_mail(report(f"Feedback-Type: {kind}\r\n")).kind == "none"


@pytest.mark.parametrize("kind", ["abuse", "fraud", "virus", "other", "something-new"])
def test_types_that_are_complaints(kind: str) -> None:
    assert [person.address for person in read_mail(report(f"Feedback-Type: {kind}\r\n")).recipients] == [
        "user@example.com"
    ]


def test_our_return_path_tells_who_complained_where_the_report_hides_it() -> None:
    returned = (
        "Return-Path: <b-news-s7-user=example.com@bounces.example.net>\r\nTo: redacted@isp.example\r\n"
        "X-GreenArrow-MailClass: weekly\r\n"
    )
    facts = read_mail(report("Feedback-Type: abuse\r\nOriginal-Rcpt-To: 5f2a9c@isp.example\r\n", returned))
    (person,) = facts.recipients
    assert (person.address, person.found_in) == ("user@example.com", "return path")
    assert facts.attribution.listid == "news"
    assert facts.attribution.mail_class == "weekly"


def test_several_reports_in_one_mail_each_have_their_own_recipient_and_list() -> None:
    second = (
        "--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n--b\r\n"
        "Content-Type: message/rfc822\r\n\r\nTo: other@example.com\r\nX-GreenArrow-ListID: L2\r\n\r\n"
    )
    facts = read_mail(report("Feedback-Type: abuse\r\n", "To: user@example.com\r\nX-GreenArrow-ListID: L1\r\n", second))
    told = [(p.address, p.attribution.listid if p.attribution else "") for p in facts.recipients]
    assert told == [("user@example.com", "l1"), ("other@example.com", "l2")]


def test_a_report_quoted_in_a_returned_message_is_not_ours() -> None:
    inner = report("Feedback-Type: abuse\r\n").decode()
    raw = (
        "From: a@example.net\r\nContent-Type: multipart/related; boundary=o\r\n\r\n--o\r\n"
        f"Content-Type: message/rfc822\r\n\r\n{inner}\r\n--o--\r\n"
    )
    assert read_mail(raw.encode()).kind == "none"


def test_reports_collected_in_one_digest_are_read() -> None:
    inner = report("Feedback-Type: abuse\r\n").decode()
    raw = (
        "From: fbl@isp.example\r\nContent-Type: multipart/digest; boundary=o\r\n\r\n--o\r\n"
        f"Content-Type: message/rfc822\r\n\r\n{inner}\r\n--o--\r\n"
    )
    assert [person.address for person in read_mail(raw.encode()).recipients] == ["user@example.com"]
