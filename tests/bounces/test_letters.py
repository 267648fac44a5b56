"""Bounces that are no DSN, automatic replies, and mails to unsubscribe addresses."""

import pytest

from mailvane.bounces import MailFacts, read_mail
from mailvane.bounces.explanation import Explanation


def letter(headers: str, body: str = "") -> bytes:
    return f"{headers}\n\n{body}".encode()


QMAIL = (
    "Hi. This is the qmail-send program at mx.example.net.\n"
    "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    "This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
    "<user@example.com>:\n192.0.2.7 does not like recipient.\n"
    "Remote host said: 550 5.1.1 no mailbox by that name\nGiving up on 192.0.2.7.\n\n"
    "--- Below this line is a copy of the message.\n\n"
    "Return-Path: <a@example.net>\nTo: user@example.com\nSubject: spam\n"
)


def told(facts: MailFacts) -> tuple[str, str, int]:
    (person,) = facts.recipients
    assert person.verdict
    return person.address, person.verdict.bounce_type, person.verdict.bounce_code


def test_qmails_letter_is_a_bounce() -> None:
    facts = read_mail(letter("From: MAILER-DAEMON@mx.example.net\nSubject: failure notice", QMAIL))
    assert (facts.kind, facts.form) == ("bounce", "flufl.bounce")
    assert told(facts) == ("user@example.com", "h", 10)
    assert "550 5.1.1 no mailbox by that name" in facts.recipients[0].text


def test_the_same_words_from_a_person_are_no_bounce() -> None:
    assert read_mail(letter("From: a@example.net\nSubject: what does this mean?", QMAIL)).kind == "none"


def test_people_who_write_of_things_not_delivered_are_no_mail_server() -> None:
    raw = letter(
        "From: shop@example.net\nSubject: your parcel could not be delivered",
        "The address does not exist. Write to help@example.net",
    )
    assert read_mail(raw, "b-l-s-user=example.com@b.example.net").kind == "none"
    raw = letter("From: user@example.com\nSubject: Re: returned mail", QMAIL)
    assert read_mail(raw, "b-l-s-user=example.com@b.example.net").kind == "none"


def test_exims_failed_recipients_are_bounces() -> None:
    headers = "From: x@example.net\nX-Failed-Recipients: a@example.com,\n b@example.com\nAuto-Submitted: auto-replied"
    facts = read_mail(letter(headers, "  a@example.com\n    550 no such user\n  b@example.com\n    mailbox is full\n"))
    assert [(p.address, p.verdict and p.verdict.bounce_type) for p in facts.recipients] == [
        ("a@example.com", "h"),
        ("b@example.com", "s"),
    ]


def test_a_bounce_that_names_no_address_says_so() -> None:
    facts = read_mail(letter("From: MAILER-DAEMON@mx.example.net\nSubject: failure notice", "it failed"))
    assert (facts.kind, facts.recipients) == ("bounce", ())
    assert "no usable address" in facts.reason


def test_the_return_path_is_enough_to_know_the_recipient() -> None:
    raw = letter("From: MAILER-DAEMON@mx.example.net\nSubject: failure notice", "the user is unknown: user unknown")
    assert told(read_mail(raw, "b-l-s-user=example.com@b.example.net")) == ("user@example.com", "h", 10)


def test_a_letter_about_a_delay_is_no_bounce() -> None:
    body = "A message that you sent has not yet been delivered to u@example.com. Delivery attempts will continue."
    headers = (
        "From: Mailer-Daemon@mx.example.net\nSubject: Warning: message delayed 24 hours\nAuto-Submitted: auto-replied"
    )
    facts = read_mail(letter(headers, body), "b-l-s-user=example.com@b.example.net")
    assert facts.kind == "none" and "delay" in facts.reason


@pytest.mark.parametrize(
    "sign",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-replied (vacation)",
        "X-Autoreply: yes",
        "Precedence: auto_reply",
        "Subject: Out of Office: your newsletter",
        "Subject: Automatic reply: news",
        "Subject: =?utf-8?q?R=C3=A9ponse_automatique?=",
        "Return-Path: <>\nAuto-Submitted: auto-replied",
    ],
)
def test_automatic_replies_are_no_bounce(sign: str) -> None:
    raw = letter(
        f"From: user@example.com\n{sign}", "I am away until May 5. My mailbox is full of joy. Ask boss@example.com"
    )
    facts = read_mail(raw, "b-l-s-user=example.com@b.example.net")
    assert (facts.kind, facts.recipients) == ("auto_reply", ())
    assert "automatic reply" in facts.reason


@pytest.mark.parametrize("sign", ["Auto-Submitted: no", "Auto-Submitted: auto-generated", "Subject: Re: my vacations"])
def test_ordinary_mail_is_none(sign: str) -> None:
    assert read_mail(letter(f"From: user@example.com\n{sign}", "hello")).kind == "none"


@pytest.mark.parametrize(
    ("headers", "recipient", "address"),
    [
        ("From: Reader <reader@example.com>\nTo: unsubscribe@lists.example.net", None, "reader@example.com"),
        ("From: reader@example.com\nTo: x@lists.example.net", "unsubscribe@lists.example.net", "reader@example.com"),
        (
            "From: other@example.com\nTo: unsubscribe-l-s-reader=example.com@lists.example.net",
            None,
            "reader@example.com",
        ),
        ("From: reader@example.com\nTo: unsubscribe+4711@lists.example.net", None, "reader@example.com"),
        ("From: reader@example.com\nTo: news@lists.example.net\nSubject: Unsubscribe", None, "reader@example.com"),
        (
            "From: reader@example.com\nTo: news@lists.example.net\nSubject: unsubscribe:4711-x",
            None,
            "reader@example.com",
        ),
    ],
)
def test_mail_to_an_unsubscribe_address_unsubscribes(headers: str, recipient: str | None, address: str) -> None:
    facts = read_mail(letter(headers), recipient)
    assert facts.kind == "unsubscribe"
    assert [person.address for person in facts.recipients] == [address]


def test_the_unsubscribe_address_tells_list_and_send() -> None:
    facts = read_mail(letter("From: a@example.com"), "unsubscribe-News-S7-reader=example.com@lists.example.net")
    assert (facts.attribution.listid, facts.attribution.sendid) == ("news", "s7")


@pytest.mark.parametrize(
    "headers",
    [
        "From: a@example.com\nTo: news@example.net\nSubject: Re: unsubscribe",
        "From: a@example.com\nTo: news@example.net\nSubject: how do I unsubscribe my grandmother?",
        "From: a@example.com\nTo: unsubscribers@example.net\nSubject: hello",
        "From: a@example.com\nTo: remove-me-not@example.net\nSubject: hello",
    ],
)
def test_talk_about_unsubscribing_unsubscribes_nobody(headers: str) -> None:
    assert read_mail(letter(headers, "please unsubscribe me")).kind == "none"


def test_a_bounce_of_our_answer_to_an_unsubscribe_address_unsubscribes_nobody() -> None:
    facts = read_mail(
        letter("From: MAILER-DAEMON@mx.example.net\nTo: unsubscribe@example.net\nSubject: failure notice", QMAIL)
    )
    assert facts.kind == "bounce"


def test_what_is_said_of_one_address_ends_where_another_begins() -> None:
    words = "Sorry.\n<a@example.com>: host mx said: no\n  such user\n\n<b@example.com>: full\n"
    explanation = Explanation(words)
    assert " ".join(explanation.about(("A@example.com",)).split()) == "<a@example.com>: host mx said: no such user"
    assert explanation.about(("c@example.com", "b@example.com")).strip() == "<b@example.com>: full"
    assert explanation.about(("c@example.com",)) == words
