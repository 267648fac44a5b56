import http.client
import ssl
import threading
from collections.abc import Callable

import pytest

from support.certificates import Authority, Certificate
from support.endpoint import Answer, Endpoint, Raw, Reset


def post(endpoint: Endpoint, body: bytes = b'{"id": 7}') -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    connection.request("POST", "/hook", body, {"webhook-id": "e-7", "mailvane-attempt": "2"})
    return connection.getresponse()


def test_keeps_what_arrived(endpoint: Endpoint) -> None:
    with post(endpoint) as answer:
        assert (answer.status, answer.read()) == (200, b"ok")
    (request,) = endpoint.wait_for_requests(1)
    assert (request.webhook_id, request.attempt, request.events) == ("e-7", 2, [{"id": 7}])


def test_answers_as_scripted_and_then_as_always(endpoint: Endpoint) -> None:
    endpoint.script(503, Answer(429, headers={"retry-after": "7"}))
    answers = [post(endpoint) for _ in range(3)]
    assert [answer.status for answer in answers] == [503, 429, 200]
    assert answers[1].headers["retry-after"] == "7"
    assert endpoint.events() == [{"id": 7}]
    for answer in answers:
        answer.close()


def test_resets_in_the_middle_of_an_answer(endpoint: Endpoint) -> None:
    endpoint.script(Reset(b"HTTP/1.1 200 O"), Raw([b"not HTTP at all\r\n\r\n"]))
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        post(endpoint)
    with pytest.raises(http.client.BadStatusLine):
        post(endpoint)


def test_holds_answers_until_released(endpoint: Endpoint) -> None:
    endpoint.hold()
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(post(endpoint).status))
    client.start()
    endpoint.wait_for_requests(1)
    assert not endpoint.answered
    endpoint.release()
    client.join(10)
    assert answers == [200]


def test_goes_down_and_comes_back_on_the_same_port(endpoint: Endpoint) -> None:
    endpoint.stop()
    with pytest.raises(ConnectionRefusedError):
        post(endpoint)
    endpoint.start()
    with post(endpoint) as answer:
        assert answer.status == 200


def test_counts_connections_that_it_does_not_read(make_endpoint: Callable[..., Endpoint]) -> None:
    endpoint = make_endpoint(reads=False)
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    connection.connect()
    endpoint.wait_for(lambda e: e.open_connections == 1)
    connection.close()
    assert not endpoint.requests


@pytest.mark.parametrize(
    ("issue", "complaint"),
    [
        (Authority.good, None),
        (Authority.expired, "expired"),
        (Authority.not_yet_valid, "not yet valid"),
        (Authority.wrong_host, "mismatch"),
        (Authority.self_signed, "self-signed"),
    ],
)
def test_certificates_are_wrong_in_one_way_each(
    authority: Authority,
    make_endpoint: Callable[..., Endpoint],
    issue: Callable[[Authority], Certificate],
    complaint: str | None,
) -> None:
    endpoint = make_endpoint(certificate=issue(authority))
    trusting = ssl.create_default_context(cafile=authority.file)
    connection = http.client.HTTPSConnection("localhost", endpoint.port, timeout=10, context=trusting)
    if complaint:
        with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
            connection.connect()
    else:
        connection.request("POST", "/", b"{}")
        assert connection.getresponse().status == 200
    connection.close()
