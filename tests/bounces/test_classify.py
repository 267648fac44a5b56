"""Hard, soft or other: the order of the rules, and the file they are in."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.bounces.classify import GAP_AT_MOST, classify, load_rules, parse_rules, readable
from mailvane.bounces.mime import TEXT_AT_MOST
from mailvane.bounces.status import enhanced_status, quoted_reply, reply_code

CODES = {
    "h": {10},
    "s": {20, 21, 22, 23},
    "o": {0, 40, 50, 51, 52, 53, 54},
}


@pytest.mark.parametrize(
    ("diagnostic", "expected"),
    [
        ("550 5.1.1 <user@example.com>: Recipient address rejected: User unknown", ("h", 10)),
        ("550 5.2.1 The email account that you tried to reach is disabled", ("h", 10)),
        ("Host or domain name not found. Name service error for name=example.com type=A", ("h", 10)),
        ("556 5.1.10 Domain example.com does not accept mail (nullMX)", ("h", 10)),
        ("552 5.2.2 mailbox is full", ("s", 22)),
        ("550 sorry, no quota", ("s", 22)),
        ("552 5.3.4 Message size exceeds fixed limit", ("s", 23)),
        ("connect to 192.0.2.1[192.0.2.1]:25: Connection refused", ("s", 20)),
        ("450 4.2.0 Greylisted, please try again later", ("s", 20)),
        ("450 4.7.1 Recipient address rejected: unverified address: host said: 451 try again", ("s", 20)),
        ("554 5.7.1 Message rejected due to content: spam score 9.1", ("o", 52)),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", ("o", 51)),
        ("550 5.7.25 The IP address sending this message does not have a PTR record", ("o", 51)),
        ("554 5.7.1 Relay access denied", ("o", 54)),
        ("552 5.7.0 attachment type not allowed", ("o", 53)),
        ("550 5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy", ("o", 50)),
        ("550 administrative prohibition", ("o", 50)),
        ("501 5.5.4 Syntax error in parameters", ("o", 40)),
        ("", ("o", 0)),
    ],
)
def test_what_servers_say(diagnostic: str, expected: tuple[str, int]) -> None:
    verdict = classify(diagnostic, "", "")
    assert (verdict.bounce_type, verdict.bounce_code) == expected


@pytest.mark.parametrize(
    ("diagnostic", "status", "words", "expected", "rule"),
    [
        ("550 5.7.1 mailbox full", "5.1.1", "user unknown", ("s", 22), "mailbox-full"),
        ("552 5.2.2 sorry", "5.0.0", "user unknown", ("s", 22), "status 5.2.2"),
        ("550 sorry", "5.1.1", "mailbox full", ("h", 10), "status 5.1.1"),
        ("550 sorry", "5.0.0", "mailbox full", ("s", 22), "mailbox-full"),
        ("550 sorry", "5.0.0", "", ("o", 40), "status 5"),
        ("550 sorry", "", "", ("o", 40), "reply 550"),
        ("", "", "it did not work: 452 sorry", ("s", 20), "reply 452"),
        ("", "", "the spam team. mx said: 550 5.1.1 no such user\n\nspam", ("h", 10), "unknown-user"),
    ],
    ids=[
        "text first",
        "status in the text",
        "field status",
        "explanation",
        "class of the status",
        "reply code",
        "reply in the letter",
        "quotation first",
    ],
)
def test_the_order_of_the_rules(diagnostic: str, status: str, words: str, expected: tuple[str, int], rule: str) -> None:
    verdict = classify(diagnostic, status, words)
    assert (verdict.bounce_type, verdict.bounce_code) == expected
    assert verdict.rule == rule


def test_unknown_users_of_a_server_that_will_try_again_are_soft() -> None:
    verdict = classify("450 4.2.0 user unknown", "", "")
    assert (verdict.bounce_type, verdict.rule) == ("s", "unknown-user, but 4.2.0")
    assert classify("450 4.1.1 User unknown in virtual alias table", "", "").bounce_type == "h"


def test_who_chose_the_address_does_not_choose_the_verdict() -> None:
    assert classify("550 <user.unknown.mailbox-full@spam.example> sorry", "", "").rule == "reply 550"


def test_the_sentence_is_what_the_rule_saw() -> None:
    verdict = classify("550 5.1.1 <user@example.com>: User Unknown", "", "")
    assert "user unknown" in verdict.sentence
    assert "user@example.com" not in verdict.sentence


def test_every_rule_can_be_met() -> None:
    """No rule stands so far down that a phrase of its own is always taken by one above it."""
    reached = {classify(" ".join(phrase), "", "").rule for rule in load_rules().text for phrase in rule.phrases}
    assert {rule.name for rule in load_rules().text} <= reached


def test_every_rule_gives_a_code_of_its_type() -> None:
    rules = load_rules()
    given_codes = [(rule.bounce_type, rule.bounce_code) for rule in rules.text]
    given_codes += [*rules.status.values(), *rules.reply.values()]
    assert all(code in CODES[kind] for kind, code in given_codes)


def test_phrases_with_a_gap_bridge_it_and_no_more() -> None:
    rule = '[[rule]]\nname = "n"\ntype = "s"\ncode = 22\nphrases = ["mailbox * full"]\n'
    (only,) = parse_rules(rule).text
    assert only.phrases == (("mailbox", "full"),)
    near, far = "x" * (GAP_AT_MOST - 2), "x" * (GAP_AT_MOST + 2)
    assert classify(f"mailbox {near} full", "", "").bounce_code == 22
    assert classify(f"mailbox {far} fullish", "", "").bounce_code != 22


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[rule]]\nname = "n"\ntype = "x"\ncode = 1\nphrases = ["a"]', "rule n: type"),
        ('[[rule]]\nname = "n"\ntype = "h"\ncode = 1\nphrases = []', "needs a name and phrases"),
        ('[[rule]]\nname = "n"\ntype = "h"\ncode = 1\nphrases = ["User"]', "lower case"),
        ('[[rule]]\nname = "n"\ntype = "h"\ncode = 1\nphrases = ["* a"]', "begins or ends with"),
        ('[[rule]]\nname = "n"\ntype = "h"\ncode = 1\nphrases = "a"', "arrays of strings"),
        ('[status]\n"5.1.1" = { type = "h" }', "status 5.1.1"),
        ("[[rule", "Expected"),
    ],
)
def test_a_rule_that_is_wrong_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_rules(text)


@pytest.mark.parametrize(
    "piece", ["a", " ", "mailbox ", "user ", "ip address ", "account ", "5.1.1", "550 ", "@", "<", "x@y ", "\n", "ip*"]
)
def test_m7_long_repeats_make_no_rule_slow(piece: str) -> None:
    text = piece * (TEXT_AT_MOST // len(piece))
    started = time.process_time()
    classify(text, text, text + "\n")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("550 5.1.1 no", "5.1.1"),
        ("550-5.1.1", "5.1.1"),
        ("smtp; 554 5.0.0 (4.2.2 full)", "4.2.2"),
        ("192.5.1.1", None),
        ("5.1.1.2", None),
        ("v15.20.3", None),
        ("5.0.0.", "5.0.0"),
        ("(#5.1.1)", "5.1.1"),
    ],
)
def test_enhanced_status_in_text(text: str, status: str | None) -> None:
    assert enhanced_status(text) == status


def test_reply_codes_are_told_from_other_numbers() -> None:
    assert reply_code("550 no") == "550"
    assert reply_code("host said: 421-mx try later") == "421"
    assert reply_code("192.0.2.550 and 5500 and 680 x") is None


def test_a_letter_quotes_its_server_with_the_command_before_it() -> None:
    letter = (
        "Sorry.\n\n  user@example.com\n    SMTP error after MAIL FROM:<a@b>:\n    550 5.7.0 use your ISP\n\n--- copy"
    )
    assert quoted_reply(letter).split() == [
        *("user@example.com", "SMTP", "error", "after", "MAIL", "FROM:<a@b>:", "550", "5.7.0", "use", "your", "ISP")
    ]
    assert quoted_reply("no code in here, 17 550ers") == ""


@given(st.text(max_size=300), st.text(max_size=20), st.text(max_size=300))
def test_any_text_is_judged(diagnostic: str, status: str, words: str) -> None:
    verdict = classify(diagnostic, status, words)
    assert verdict.bounce_code in CODES[verdict.bounce_type]


@given(st.text(max_size=300))
def test_readable_text_has_single_spaces_and_no_address(text: str) -> None:
    seen = readable(f"{text} local.part@example.com {text}")
    assert "  " not in seen.strip()
    assert "local.part" not in seen.replace(text.lower(), "")
