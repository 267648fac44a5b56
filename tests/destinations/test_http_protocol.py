"""Answers as bytes: what they mean, in one piece or in many."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.destinations.contract import Failure
from mailvane.destinations.http_head import Heads
from mailvane.destinations.http_protocol import BODY_LIMIT, HEAD_LIMIT, AnswerReader, Verdict, failure_of

RESET = "the connection was closed before the answer was whole"


def read(data: bytes, *, form: bool = False, pieces: list[int] | None = None, end: str = "closed") -> Verdict:
    """The verdict on these bytes, cut into pieces of these sizes, after which the connection ends or time is up."""
    reader = AnswerReader(form, Heads())
    at = 0
    for size in pieces or [len(data)]:
        verdict = reader.feed(data[at : at + size]) if data[at : at + size] else None
        at += size
        if verdict is not None:
            return verdict
    if data[at:]:
        verdict = reader.feed(data[at:])
        if verdict is not None:
            return verdict
    return reader.ended() if end == "closed" else reader.cut(Failure.TIMEOUT, "no whole answer within 1 s")


def answer(status: str = "200 OK", body: bytes = b"ok", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status.encode(), len(body), headers, body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + end


STATUS_TABLE = {
    **dict.fromkeys([200, 201, 202, 204, 205, 206, 226], None),
    **dict.fromkeys([300, 301, 302, 303, 304, 307, 308], Failure.REDIRECT),
    **dict.fromkeys([400, 401, 403, 404, 405, 406, 413, 415, 418, 422, 451, 499], Failure.REFUSED),
    **dict.fromkeys([408, 425, 502, 504], Failure.BUSY),
    **dict.fromkeys([429, 503], Failure.THROTTLED),
    **dict.fromkeys([500, 501, 505, 507, 511, 599], Failure.SERVER),
    410: Failure.GONE,
}


@pytest.mark.parametrize(("status", "failure"), STATUS_TABLE.items())
def test_h13_h15_h17_h19_each_status_has_its_class(status: int, failure: Failure | None) -> None:
    assert failure_of(status) is failure
    verdict = read(b"HTTP/1.1 %d Said So\r\nContent-Length: 0\r\n\r\n" % status)
    assert (verdict.failure, verdict.status, verdict.reusable) == (failure, status, True)
    assert verdict.text.startswith(f"{status} Said So")


def test_h19_informational_answers_alone_are_a_protocol_error() -> None:
    assert read(b"HTTP/1.1 100 Continue\r\n\r\n").failure is Failure.PROTOCOL
    assert read(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").failure is Failure.PROTOCOL


def test_h5_eight_informational_answers_are_borne_a_ninth_is_not() -> None:
    one = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    assert read(one * 8 + answer()).failure is None
    assert read(one * 9 + answer()).failure is Failure.PROTOCOL
    assert read(one * 9, end="late").failure is Failure.PROTOCOL


def test_h5_a_change_of_protocol_is_none() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert read(head + answer()).failure is Failure.PROTOCOL


def test_h4_a_head_may_have_64_kib_and_100_headers() -> None:
    fits = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Long: "
    fits += b"a" * (HEAD_LIMIT - len(fits) - 4) + b"\r\n\r\n"
    assert len(fits) == HEAD_LIMIT
    assert read(fits).failure is None
    assert read(fits.replace(b"aa", b"aaa", 1)).failure is Failure.PROTOCOL
    assert read(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1_000_000, end="late").failure is Failure.PROTOCOL
    lines = b"X: y\r\n" * 99
    assert read(answer(headers=lines)).failure is None
    assert read(answer(headers=lines + b"Z: y\r\n")).failure is Failure.PROTOCOL
    assert read(answer(headers=b"X: y\r\n" * 10_000)).failure is Failure.PROTOCOL


@pytest.mark.parametrize(
    "garbage",
    [
        b"ok",
        b"<html>hello</html>",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
    ],
)
def test_h9_what_is_no_http_1_is_a_protocol_error(garbage: bytes) -> None:
    for form in (False, True):
        verdict = read(garbage, form=form)
        assert (verdict.failure, verdict.status, verdict.reusable) == (Failure.PROTOCOL, 0, False)
        assert verdict.text.isprintable()


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 2\r\nContent-Length: 44\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
def test_h10_dubious_framing_counts_by_status_and_ends_the_connection(framing: bytes) -> None:
    for status, failure in ((b"200 OK", None), (b"500 Oops", Failure.SERVER)):
        for body in (b"", b"ok", b"2\r\nok\r\n0\r\n\r\n"):
            verdict = read(b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, framing, body), end="late")
            assert (verdict.failure, verdict.reusable) == (failure, False)
    said_ok = read(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n{ok}", form=True, end="late")
    assert (said_ok.failure, said_ok.reusable) == (None, False)


def test_h10_a_body_longer_or_shorter_than_it_says_counts_by_status_and_ends_the_connection() -> None:
    longer = read(answer(body=b"ok") + b"more")
    assert (longer.failure, longer.reusable) == (None, False)
    shorter = read(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nok")
    assert (shorter.failure, shorter.reusable) == (None, False)
    nothing = read(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok")
    assert (nothing.failure, nothing.reusable) == (None, False)
    old = read(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (old.failure, old.reusable) == (None, False)


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive, Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
    ],
)
def test_a_connection_is_kept_when_both_sides_say_so(head: bytes, reusable: bool) -> None:
    assert read(head + b"ok").reusable is reusable


def test_h6_a_body_without_end_is_read_to_the_limit() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * BODY_LIMIT)
    in_chunks = chunked(*[b"x" * 1000] * 200, end=b"")
    in_tiny_chunks = chunked(*[b"x"] * 60_000, end=b"")
    announced = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * BODY_LIMIT
    for body in (endless, in_chunks, in_tiny_chunks, announced):
        for form, failure in ((False, None), (True, Failure.NOT_OK)):
            reader = AnswerReader(form, Heads())
            verdict = reader.feed(body)
            assert verdict is not None and (verdict.failure, verdict.reusable) == (failure, False)


def test_h6_tiny_chunks_take_no_time() -> None:
    tiny = chunked(*[b"x"] * 60_000, end=b"")
    began = time.process_time()
    read(tiny, pieces=[16_384] * (len(tiny) // 16_384 + 1))
    assert time.process_time() - began < 5


def test_a_chunked_body_is_whole_after_its_trailer() -> None:
    assert read(chunked(b"o", b"k"), form=True) == Verdict(None, 200, "200 OK", reusable=True)
    trailed = chunked(b"ok", end=b"0;x=y\r\nChecksum: 1\r\nOther: 2\r\n\r\n")
    assert read(trailed, form=True).reusable
    assert not read(chunked(b"ok") + b"HTTP/1.1 200 OK\r\n", form=True).reusable


@pytest.mark.parametrize(
    "broken", [b"zz\r\nok", b"2\nok", b"2\r\nokay\r\n", b"-2\r\nok\r\n", b"fffffffff\r\n", b"2" + b" " * 2000 + b"\r\n"]
)
def test_h10_broken_chunks_count_by_status_or_miss_the_ok(broken: bytes) -> None:
    json, form = read(chunked(end=broken), end="late"), read(chunked(end=broken), form=True, end="late")
    assert (json.failure, json.reusable) == (None, False)
    assert (form.failure, form.reusable) == (Failure.PROTOCOL, False)


@pytest.mark.parametrize("end", ["closed", "late"])
def test_h8_before_its_head_is_whole_an_answer_fails_after_it_the_status_counts(end: str) -> None:
    whole = answer(body=b"a body of some length")
    head = whole.index(b"\r\n\r\n") + 4
    for length in range(len(whole)):
        verdict = read(whole[:length], end=end)
        if length < head:
            assert verdict.failure is (Failure.RESET if end == "closed" else Failure.TIMEOUT)
        else:
            assert (verdict.failure, verdict.status, verdict.reusable) == (None, 200, False)


def test_h3_a_form_whose_body_does_not_end_fails_unless_it_has_said_ok() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    for said, failure in (
        (b"", Failure.TIMEOUT),
        (b"ok", Failure.TIMEOUT),
        (b"ok\n", None),
        (b"not yet", Failure.TIMEOUT),
    ):
        assert read(head + said, form=True, end="late").failure is failure


@pytest.mark.parametrize(
    "body", [b"ok", b"OK", b"Ok\n", b'{"status":"ok"}', b"all is ok.", b"<b>ok</b>", b"x" * 60_000 + b" oK"]
)
def test_h18_a_form_needs_the_word_ok_in_either_case(body: bytes) -> None:
    assert read(answer(body=body), form=True).failure is None


@pytest.mark.parametrize(
    "body", [b"", b"error", b"token", b"okay", b"book", b"no_ok", b"ok1", "ök".encode(), "oké".encode(), b"o k"]
)
def test_h18_without_the_word_ok_a_form_fails_and_json_does_not(body: bytes) -> None:
    assert read(answer(body=body), form=True).failure is Failure.NOT_OK
    assert read(answer(body=body)).failure is None
    assert read(answer("500 Oops", body=b"ok"), form=True).failure is Failure.SERVER


def test_h7_an_encoded_body_is_never_decoded() -> None:
    bomb = b"\x1f\x8b\x08\x00 ok " + b"\x00" * 1000
    headers = b"Content-Encoding: gzip\r\n"
    assert read(answer(body=bomb, headers=headers)).failure is None
    form = read(answer(body=bomb, headers=headers), form=True)
    assert form.failure is Failure.NOT_OK and bomb[:16].hex() in form.text
    failed = read(answer("500 Oops", body=bomb, headers=headers))
    assert failed.failure is Failure.SERVER and bomb[:16].hex() in failed.text


def test_what_the_server_said_is_told_printable_and_short() -> None:
    told = read(answer("404 Not\tFound", body=b"<h1>gone \x1b[31m\r\n\xe2\x80\xae</h1>" + b"x" * 5000)).text
    assert told.startswith("404 Not\\tFound: <h1>gone \\x1b[31m\\r\\n\\u202e</h1>xxx")
    assert told.isprintable() and len(told) <= 1000
    assert read(answer("500 Oops", body=b"\x00\x01\x02")).text == "500 Oops: 3 bytes that are no text, hex 000102"


def test_h12_a_redirect_is_told_without_what_may_be_secret() -> None:
    location = b"Location: http://user:secret@169.254.169.254:81/latest?token=secret#x\r\n"
    verdict = read(answer("302 Found", body=b"", headers=location))
    assert verdict.failure is Failure.REDIRECT
    assert verdict.text == "302 Found to http://169.254.169.254:81/…"
    assert "secret" not in read(answer("308 Moved", body=b"", headers=b"Location: /secret\r\n")).text
    assert "secret" not in read(answer("308 Moved", body=b"", headers=b"Location: http://[secret\r\n")).text


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (b"", ""),
        (b"Retry-After: 120\r\n", "120"),
        (b"retry-after:  Wed, 21 Oct 2026 07:28:00 GMT \r\n", "Wed, 21 Oct 2026 07:28:00 GMT"),
        (b"Retry-After: 1\r\nRetry-After: 2\r\n", "1, 2"),
    ],
)
def test_h16_retry_after_is_handed_on_as_it_is(headers: bytes, value: str) -> None:
    assert read(answer("503 Busy", headers=headers)).retry_after == value


def test_a_head_seen_before_means_the_same() -> None:
    heads = Heads()
    for number in range(600):
        reader = AnswerReader(False, heads)
        varied = answer(body=b"%d" % number, headers=b"X-Request-Id: %d\r\n" % (number // 2))
        assert reader.feed(varied) == Verdict(None, 200, "200 OK", reusable=True)


VERBATIM = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 503 Busy\r\n",
        b"HTTP/1.1 ",
        b"200",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"Content-Length: 2\r\n",
        b"Content-Length: 70000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Content-Encoding: br\r\n",
        b"ok",
        b"2\r\nok\r\n",
        b"0\r\n\r\n",
        b"x" * 33_000,
        b" " * 700,
    ]
)
ANSWERS = st.lists(VERBATIM | st.binary(max_size=12), max_size=14).map(b"".join)


@given(
    data=ANSWERS | ANSWERS.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest),
    pieces=st.lists(st.integers(1, 40) | st.integers(1, 40_000), max_size=30),
    form=st.booleans(),
    end=st.sampled_from(["closed", "late"]),
)
def test_any_bytes_in_any_pieces_give_the_same_verdict_and_no_exception(
    data: bytes, pieces: list[int], form: bool, end: str
) -> None:
    whole, cut = read(data, form=form, end=end), read(data, form=form, pieces=pieces, end=end)
    # Whether something follows the answer cannot be known before it comes.
    assert (whole.failure, whole.status, whole.text, whole.retry_after) == (
        cut.failure,
        cut.status,
        cut.text,
        cut.retry_after,
    )
    assert whole.text.isprintable() and len(whole.text) <= 1000
    assert not (whole.reusable and not cut.reusable)


@given(data=ANSWERS.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest), form=st.booleans())
def test_byte_by_byte_gives_the_same_verdict(data: bytes, form: bool) -> None:
    data = data[:3000]
    whole, cut = read(data, form=form), read(data, form=form, pieces=[1] * len(data))
    assert (whole.failure, whole.status, whole.text) == (cut.failure, cut.status, cut.text)
