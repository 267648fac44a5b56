"""The HTTP destination with endpoints that behave: what goes out, which connections carry it, how it ends."""

import asyncio
import base64
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest

from destinations.adversary import (
    OK,
    PATIENT,
    Adversary,
    Names,
    Peer,
    adversary,
    attempt,
    destination,
    event,
    run,
    says,
    until,
)
from mailvane.destinations.contract import Failure, Outcome, Outgoing
from mailvane.destinations.dial import Limits
from mailvane.destinations.http import HttpDestination
from mailvane.destinations.http_request import endpoint
from mailvane.errors import MailvaneError


def test_a_json_request_is_the_legacy_object_with_our_headers(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url(path="/a%20b?c=100%25")) as to:
            assert (await attempt(to, event(9001, 3, "naïve \N{SNOWMAN}"))).delivered
        _, head, body = server.requests[0]
        assert json.loads(body) == {
            "id": 9001,
            "event_type": "bounce_all",
            "email": "user@example.com",
            "bounce_text": "naïve \N{SNOWMAN}",
        }
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /a%20b?c=100%25 HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        assert headers["Host"] == f"127.0.0.1:{server.port}"
        assert headers["Content-Type"] == "application/json"
        assert headers["webhook-id"] == "k3v9-9001"
        assert headers["mailvane-attempt"] == "3"
        assert re.fullmatch(r"mailvane/\d+\.\d+\.\d+\S*", headers["User-Agent"])
        assert re.fullmatch(r"\d{10}", headers["webhook-timestamp"])

    run(loop, test)


def test_a_form_request_has_the_legacy_fields(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url(), json=False) as to:
            assert (await attempt(to, event(12, text="a&b = ü"))).delivered
        _, head, body = server.requests[0]
        assert b"Content-Type: application/x-www-form-urlencoded\r\n" in head
        fields = parse_qs(body.decode(), keep_blank_values=True)
        assert fields["id"] == ["12"] and fields["bounce_text"] == ["a&b = ü"]

    run(loop, test)


def test_the_callback_sends_the_next_request_on_the_connection_that_became_free(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url()) as to:
            count = 0
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def done(batch: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
                nonlocal count
                assert outcomes[0].delivered and batch[0].id == count
                count += 1
                if count == 500:
                    ended.set_result(None)
                else:
                    to.send((event(count),), done)

            to.send((event(0),), done)
            await ended
            assert server.connections == 1 and server.posts == 500

    run(loop, test)


def test_connections_are_opened_a_few_at_a_time_and_kept(loop: str) -> None:
    release = asyncio.Event()

    async def held(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(OK)

    async def test() -> None:
        async with adversary(held) as server, destination(server.url(), limits=PATIENT) as to:
            waiting = [attempt(to, event(number)) for number in range(40)]
            assert len(to._connections._openings) == 4
            await until(lambda: server.posts == 40)
            release.set()
            assert all(outcome.delivered for outcome in await asyncio.gather(*waiting))
            again = [attempt(to, event(number)) for number in range(40)]
            assert all(outcome.delivered for outcome in await asyncio.gather(*again))
            assert server.connections == 40

    run(loop, test)


@pytest.mark.parametrize("keep_alive", [0, 1, 2, None])
def test_keep_alive_says_how_many_connections_are_used_again(loop: str, keep_alive: int | None) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url(), keep_alive=keep_alive) as to:
            for _ in range(3):
                sent = [attempt(to) for _ in range(4)]
                assert all(outcome.delivered for outcome in await asyncio.gather(*sent))
            assert server.posts == 12
            carried = Counter(number for number, _, _ in server.requests)
            used_again = [number for number, requests in carried.items() if requests > 1]
            assert len(used_again) == keep_alive if keep_alive is not None else len(carried) <= 4
            assert (b"Connection: close" in server.requests[0][1]) is (keep_alive == 0)

    run(loop, test)


def test_connections_beyond_what_is_allowed_are_closed(loop: str) -> None:
    release = asyncio.Event()

    async def held(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(OK)

    async def test() -> None:
        async with adversary(held) as server, destination(server.url(), limits=PATIENT) as to:
            sent = [attempt(to) for _ in range(8)]
            await until(lambda: server.posts == 8)
            release.set()
            await asyncio.gather(*sent[:4])
            to.allow(1)
            await asyncio.gather(*sent)
            await until(lambda: server.open == 1)
            assert (await attempt(to)).delivered
            assert server.open == 1 and server.connections == 8

    run(loop, test)


@dataclass
class Gate:
    """A server that answers at once while the gate is open, and what comes meanwhile when it opens again."""

    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await self.open.wait()
            await peer.send(OK)


async def settled(server: Adversary, to: HttpDestination, gate: Gate, connections: int) -> None:
    """So many connections that have carried several requests, and are all on with another one."""
    for round in range(1, 5):
        gate.open.clear()
        sent = [attempt(to) for _ in range(connections)]
        await until(lambda round=round: server.posts == round * connections)
        if round < 4:
            gate.open.set()
            assert all(outcome.delivered for outcome in await asyncio.gather(*sent))
    assert server.connections == connections


def test_a_busy_connection_is_not_used_again_when_its_url_changed_meanwhile(loop: str) -> None:
    async def test() -> None:
        gate, path = Gate(), ["/hook"]
        async with adversary(gate) as server:

            def reveal(value: str) -> str:
                return server.url(path=path[0]) if value == "@env:HOOK" else value

            async with destination("@env:HOOK", limits=PATIENT, reveal=reveal) as to:
                await settled(server, to, gate, 1)
                path[0] = "/other"
                beside = attempt(to)
                await until(lambda: server.connections == 2 and server.posts == 5)
                gate.open.set()
                assert (await beside).delivered
                await until(lambda: server.open == 1)
                assert (await attempt(to)).delivered
                paths = [(number, head.split()[1]) for number, head, _ in server.requests]
                assert paths == [(1, b"/hook")] * 4 + [(2, b"/other")] * 2

    run(loop, test)


def test_a_busy_connection_beyond_a_limit_that_shrank_is_closed_once_it_is_answered(loop: str) -> None:
    async def test() -> None:
        gate = Gate()
        async with adversary(gate) as server, destination(server.url(), limits=PATIENT) as to:
            await settled(server, to, gate, 4)
            to.allow(1)
            gate.open.set()
            await until(lambda: server.open == 1)
            assert (await attempt(to)).delivered
            assert server.connections == 4 and server.posts == 17

    run(loop, test)


def test_idle_connections_are_closed_and_nothing_goes_on_ticking(loop: str) -> None:
    async def test() -> None:
        limits = Limits(idle=0.05)
        async with adversary(says(OK)) as server, destination(server.url(), limits=limits) as to:
            assert (await attempt(to)).delivered
            await until(lambda: server.open == 0)
            await until(lambda: not to._connections._ticking)
            assert (await attempt(to)).delivered
            assert server.connections == 2

    run(loop, test)


def test_a_large_event_goes_out_whole_to_a_slow_reader(loop: str) -> None:
    async def slow(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(OK)

    async def test() -> None:
        async with adversary(slow) as server, destination(server.url(), limits=PATIENT) as to:
            for number in (1, 2):
                assert (await attempt(to, event(number, text="x" * 1_000_000))).delivered
            assert server.connections == 1
            assert all(len(body) > 1_000_000 and json.loads(body)["id"] for _, _, body in server.requests)

    run(loop, test)


def test_a_connection_that_answered_before_the_request_was_out_is_not_used_again(loop: str) -> None:
    async def hasty(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(30)

    async def test() -> None:
        async with adversary(hasty) as server, destination(server.url(), limits=PATIENT) as to:
            for _ in range(2):
                outcome = await attempt(to, event(text="x" * 20_000_000))
                assert (outcome.failure, outcome.status) == (Failure.REFUSED, 413)
            assert server.connections == 2

    run(loop, test)


def test_close_answers_what_is_outstanding(loop: str) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async def test() -> None:
        async with adversary(silent) as server, destination(server.url(), limits=PATIENT) as to:
            waiting = [attempt(to, event(number)) for number in range(20)]
            await until(lambda: server.open >= 4)
            await to.close()
            assert {outcome.failure for outcome in await asyncio.gather(*waiting)} == {Failure.CLOSED}
            assert (await attempt(to)).failure is Failure.CLOSED
            await until(lambda: server.open == 0)

    run(loop, test)


def test_a_reference_is_read_when_a_connection_is_made_and_its_secrets_are_masked(loop: str) -> None:
    async def test() -> None:
        body = b"no: s3cret-token /s3cret-path p4ssword"
        answer = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        async with adversary(says(answer)) as server:
            stands_for = [f"http://user:p4ssword@127.0.0.1:{server.port}/s3cret-path?key=s3cret-token"]
            async with destination("@file:/run/url", reveal=lambda value: stands_for[0] if value else "") as to:
                outcome = await attempt(to)
                stands_for[0] = server.url(path="/other")
                await attempt(to)
        assert outcome.failure is Failure.SERVER
        assert "s3cret" not in outcome.text and "p4ssword" not in outcome.text and "***" in outcome.text
        first, second = (head for _, head, _ in server.requests)
        assert first.startswith(b"POST /s3cret-path?key=s3cret-token ") and b"p4ssword" not in first
        assert b"Authorization: Basic dXNlcjpwNHNzd29yZA==\r\n" in first
        assert second.startswith(b"POST /other ") and b"Authorization" not in second

    run(loop, test)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("token=CANARY-1", "Cannot POST /hook?token=CANARY-1"),
        ("a=1&token=CANARY-1", "bad token CANARY-1"),
        ("a=1&amp=2&token=CANARY-1", "Cannot POST /hook?a=1&amp;amp=2&amp;token=CANARY-1"),
        ("token=CANARY%2B%311", "bad token CANARY+11"),
        ("token=CANARY+one%201", "bad token CANARY one 1"),
        ("CANARY-1&a=1", "bad token CANARY-1"),
        # The answer is cut in the middle of the token.
        ("token=CANARY-1-and-longer", f"{'-' * 975}CANARY-1-and-longer"),
    ],
)
def test_c9_a_token_in_the_query_of_an_inline_url_is_masked(loop: str, query: str, said: str) -> None:
    async def test() -> None:
        answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said.encode())
        async with adversary(says(answer)) as server, destination(server.url(path=f"/hook?{query}")) as to:
            outcome = await attempt(to)
        assert server.requests[0][1].startswith(b"POST /hook?%b " % query.encode())
        assert outcome.failure is Failure.REFUSED
        assert "CANARY" not in outcome.text and "***" in outcome.text
        # Its path is no secret: it stands in the configuration and in the route's name.
        assert "/hook" in outcome.text or "/hook" not in said

    run(loop, test)


@pytest.mark.parametrize(
    ("userinfo", "user", "said"),
    [
        ("hooks:p4ss%20word", b"hooks:p4ss word", "not p4ss word nor p4ss%20word"),
        ("s3cret-key:", b"s3cret-key:", "unknown s3cret-key"),
        (":p4ssword", b":p4ssword", "Basic OnA0c3N3b3Jk"),
    ],
)
def test_c9_credentials_go_out_as_basic_authorization_and_are_masked(
    loop: str, userinfo: str, user: bytes, said: str
) -> None:
    async def test() -> None:
        answer = b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said.encode())
        async with adversary(says(answer)) as server:
            url = server.url(host=f"{userinfo}@127.0.0.1")
            async with destination("@env:HOOK", reveal=lambda value: url if value == "@env:HOOK" else value) as to:
                outcome = await attempt(to)
        assert b"Authorization: Basic %b\r\n" % base64.b64encode(user) in server.requests[0][1]
        assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in server.requests[0][1]
        assert outcome.failure is Failure.REFUSED and "***" in outcome.text
        assert not any(secret in outcome.text for secret in ("p4ss", "s3cret", "OnA0c3N3b3Jk"))

    run(loop, test)


@pytest.mark.parametrize(
    ("userinfo", "query", "said", "masked"),
    [
        (
            "al:pw",
            "",
            "al:pw? al may not, pw@host, 'pw' is no pwd of all",
            "***:***? *** may not, ***@host, '***' is no pwd of all",
        ),
        ("k:", "", "k is an unknown key", "*** is an unknown key"),
        (":7%21", "", "not 7! nor 7%21, 17!", "not *** nor ***, 17!"),
        ("", "v=2&k=a%2B", "no k=a+ nor k=a%2B in v 2", "no *** nor *** in v 2"),
    ],
)
def test_c9_short_secrets_are_masked_where_they_are_words(userinfo: str, query: str, said: str, masked: str) -> None:
    assert endpoint(f"https://{userinfo}@example.com/hook?{query}").mask(said) == masked


def test_c9_a_user_agent_by_reference_is_sent_followed_when_it_changes_and_masked(loop: str) -> None:
    async def test() -> None:
        said = b"who is CANARY-agent?"
        answer = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(said), said)
        agents = ["CANARY-agent", "other"]

        def reveal(value: str) -> str:
            return agents[0] if value == "@env:AGENT" else value

        async with (
            adversary(says(answer)) as server,
            destination(server.url(), reveal=reveal, user_agent="@env:AGENT") as to,
        ):
            outcome = await attempt(to)
            agents.pop(0)
            await attempt(to)
        assert [re.findall(rb"User-Agent: (.*)\r", head) for _, head, _ in server.requests] == [
            [b"CANARY-agent"],
            [b"other"],
        ]
        assert "CANARY" not in outcome.text and "***" in outcome.text

    run(loop, test)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/s3cret",
        "http:///s3cret",
        "http://host name/s3cret",
        "http://host/s3cret\r\nX: y",
        "http://host\\s3cret",
        "http://host:port/s3cret",
        "http://[::1/s3cret",
        "http://host/s3cret#fragment",
    ],
)
def test_s12_a_url_that_cannot_be_is_told_without_its_secrets(loop: str, url: str) -> None:
    async def test() -> None:
        async with destination("@env:HOOK", reveal=lambda value: url) as to:
            outcome = await attempt(to)
        assert outcome.failure is Failure.CONNECT and "URL" in outcome.text and "s3cret" not in outcome.text

    run(loop, test)


def test_a_reference_that_cannot_be_read_is_told(loop: str) -> None:
    def reveal(value: str) -> str:
        raise MailvaneError(f"{value}: no such file")

    async def test() -> None:
        async with destination("@file:/nowhere", reveal=reveal) as to:
            outcome = await attempt(to)
        assert outcome.failure is Failure.CONNECT and "/nowhere" in outcome.text

    run(loop, test)


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("http://bücher.example:8080/", "xn--bcher-kva.example", "xn--bcher-kva.example:8080"),
        ("http://１２７.0.0.1/", "127.0.0.1", "127.0.0.1"),
        ("http://[::1]/", "::1", "[::1]"),
        ("https://Example.COM:443/", "example.com", "example.com:443"),
    ],
)
def test_s6_hosts_are_resolved_and_told_as_punycode(url: str, host: str, authority: str) -> None:
    from mailvane.destinations.http_request import endpoint

    to = endpoint(url)
    assert to.host == host
    assert to.authority.removesuffix(":443") == authority.removesuffix(":443")


def test_a_name_is_told_to_the_resolver_and_to_the_endpoint(loop: str) -> None:
    async def test() -> None:
        names = Names(["127.0.0.1"])
        async with adversary(says(OK)) as server, destination(server.url(host="hook.example"), names=names) as to:
            assert (await attempt(to)).delivered
        assert names.asked == [("hook.example", server.port)]
        assert f"Host: hook.example:{server.port}\r\n".encode() in server.requests[0][1]

    run(loop, test)
