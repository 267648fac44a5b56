"""Whose message came back: return paths and headers of GreenArrow's messages."""

from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.bounces import Attribution, read_mail
from mailvane.bounces.addresses import address_in
from mailvane.bounces.attribution import read_return_path

MTA = Path(__file__).parents[1] / "data" / "mta"


@pytest.mark.parametrize(
    ("address", "recipient", "listid", "sendid"),
    [
        ("bounce-news-s7-user=example.com@b.example.net", "user@example.com", "news", "s7"),
        ("<b-a1-s20261124-john-q-doe=example.co.uk@b.example.net>", "john-q-doe@example.co.uk", "a1", "s20261124"),
        ("b-a_1+x-7-a=b=example.com@b.example.net", "a=b@example.com", "a_1+x", "7"),
        ("b-l-s-user+tag=example.com@b.example.net", "user+tag@example.com", "l", "s"),
        ("b+user=example.com@b.example.net", "user@example.com", "", ""),
        ("b+send1.123.nouser=dest.test@bounces.example.test", "nouser@dest.test", "", ""),
        ("b+john.doe=example.com@b.example.net", "john.doe@example.com", "", ""),
    ],
)
def test_return_paths_that_say_whom_we_wrote_to(address: str, recipient: str, listid: str, sendid: str) -> None:
    path = read_return_path(address)
    assert path
    assert (path.recipient(), path.listid, path.sendid) == (recipient, listid, sendid)


@pytest.mark.parametrize(
    "address",
    [
        "user@example.com",
        "bounces@b.example.net",
        "b-l-s-user@b.example.net",
        "b-l-s-user=@b.example.net",
        "b-l-s-=example.com@b.example.net",
        "SRS0=HHH=TT=example.com=user@forward.example",
        "prvs=0123abcd=user@example.com",
        "b-" + "l" * 21 + "-s-user=example.com@b.example.net",
        "010001725d8ad4fc-9fe8fb1f-0292-430b-a634-1eba65166dbb-000000@amazonses.com",
        "",
        "@",
        "b-l-s-us\0er=example.com@b",
    ],
)
def test_addresses_that_are_no_return_path_of_ours(address: str) -> None:
    assert read_return_path(address) is None


def test_a_return_path_with_a_job_before_the_recipient_is_settled_by_the_report() -> None:
    path = read_return_path("b+john.7.doe=example.com@b.example.net")
    assert path and not path.sure
    assert path.recipient() == "doe@example.com"
    assert path.recipient(("John.7.Doe@example.com",)) == "john.7.doe@example.com"


def bounce(returned: str, own: str = "") -> bytes:
    return (
        f"From: MAILER-DAEMON@mx.example.net\r\n{own}Content-Type: multipart/report; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Final-Recipient: rfc822; user@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{returned}\r\nhello\r\n--b--\r\n"
    ).encode()


HEADERS = (
    "X-GreenArrow-MailClass: Weekly\r\nX-GreenArrow-ListID: A1\r\nX-GreenArrow-SendID: S7\r\n"
    "X-GreenArrow-Click-Tracking-ID: ct-4711\r\n"
)


def test_list_send_class_and_tracking_id_come_from_the_returned_message() -> None:
    facts = read_mail(bounce(HEADERS))
    assert facts.attribution == Attribution("a1", "s7", "Weekly", "ct-4711")


def test_the_return_path_gives_what_the_headers_do_not() -> None:
    facts = read_mail(bounce("Subject: x\r\n"), "b-News-S9-user=example.com@b.example.net")
    assert facts.attribution == Attribution("news", "s9")
    facts = read_mail(bounce("Return-Path: <b-News-S9-user=example.com@b.example.net>\r\nX-GreenArrow-ListID: A1\r\n"))
    assert facts.attribution == Attribution("a1", "s9")


@pytest.mark.parametrize(
    ("reported", "received", "queue_id"),
    [
        ("4jYdNc1jJszJDb0", "by mx.example.net (Postfix) with ESMTP id ANOTHER1", "4jYdNc1jJszJDb0"),
        ("", "from a\r\n\tby mx.example.net (Postfix) with ESMTP id 3F4A2B1C9D\r\n\tfor <u@x.example>", "3F4A2B1C9D"),
        ("", "from a by mx.example.net with esmtp (Exim 4.96)\r\n\tid 1rAbCd-0001Ef-2G", "1rAbCd-0001Ef-2G"),
        ("", "from a by mx.example.net; Tue, 24 Nov 2026 09:50:56 +0000", ""),
        ("two words", "", ""),
        ("esc\x1b[2J", "", ""),
        ("x" * 65, "", ""),
        ("", "id " + "x" * 2_000, ""),
    ],
)  # fmt: skip
def test_the_queue_id_is_the_reports_or_that_of_the_last_received(reported: str, received: str, queue_id: str) -> None:
    returned = (f"Received: {received}\r\n" if received else "") + "Received: by first.example.net id FIRST01\r\n"
    if not received:
        returned = "Subject: x\r\n"
    raw = bounce(returned).replace(
        b"Final-Recipient", f"X-Postfix-Queue-ID: {reported}\r\n\r\nFinal-Recipient".encode()
    )
    assert read_mail(raw).attribution.queue_id == queue_id


@pytest.mark.parametrize("name", ["To", "Delivered-To", "X-Original-To", "Envelope-To"])
def test_the_return_path_is_found_where_mail_servers_write_it(name: str) -> None:
    facts = read_mail(bounce("Subject: x\r\n", f"{name}: <b-l-s-reader=example.org@b.example.net>\r\n"))
    assert [person.address for person in facts.recipients] == ["reader@example.org"]


def test_headers_of_a_message_quoted_in_text_count_too() -> None:
    letter = (
        "From: MAILER-DAEMON@x.example\r\nX-Failed-Recipients: u@example.com\r\n\r\n"
        f"550 no such user\r\n\r\nFrom: a@example.net\r\n{HEADERS}\r\nhello"
    )
    assert read_mail(letter.encode()).attribution == Attribution("a1", "s7", "Weekly", "ct-4711")


def test_control_characters_in_headers_do_not_get_through() -> None:
    facts = read_mail(bounce("X-GreenArrow-ListID: a\x001\x1b[2J\r\nX-GreenArrow-SendID: s\xff\r\n"))
    assert facts.attribution.listid == "a1[2j"
    assert facts.attribution.sendid.isprintable()


def test_postfixs_tracking_ids_are_found() -> None:
    facts = read_mail((MTA / "postfix/lmtp-send1-m3.eml").read_bytes())
    assert facts.attribution.click_tracking_id == "send1-m3"


@given(
    st.emails(),
    st.from_regex(r"[A-Za-z0-9_+]{1,20}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True),
)
def test_what_is_put_into_a_return_path_comes_out_of_it(address: str, listid: str, sendid: str) -> None:
    local, _, domain = address.rpartition("@")
    path = read_return_path(f"b-{listid}-{sendid}-{local}={domain}@bounces.example.net")
    assert path and (path.recipient(), path.listid, path.sendid) == (address, listid, sendid)


@given(st.text(max_size=100) | st.text("a@<>\"'. \x00\x1b\x85\u2028\ud800\ufffd", max_size=12))
def test_an_address_is_clean_or_none(text: str) -> None:
    address = address_in(text)
    if address is not None:
        assert "@" in address
        assert not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in address)
