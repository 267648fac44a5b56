"""Names and addresses on the way to a connection: what is connected to is what was judged."""

import asyncio
import logging
import os
import socket
from ipaddress import ip_network

import pytest

from destinations.adversary import OK, PATIENT, QUICK, Names, adversary, attempt, destination, run, says, until
from mailvane.destinations.addresses import Policy
from mailvane.destinations.contract import Failure
from mailvane.destinations.dial import Limits

PUBLIC = Policy("public")
LOOPBACK = Policy("public", allow=(ip_network("127.0.0.1/32"),))
BOUND = 5.0


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_s5_an_address_that_is_not_allowed_is_not_connected_to(loop: str, ip: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server:
            url = server.url(host="rebound.example")
            async with destination(url, policy=PUBLIC, names=Names([ip])) as to:
                outcome = await attempt(to)
            assert outcome.failure is Failure.ADDRESS and "rebound.example" in outcome.text
            assert server.connections == 0

    run(loop, test)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "2130706433", "127.1", "１２７.0.0.1"])
def test_s6_a_literal_address_is_judged_like_a_name(loop: str, host: str) -> None:
    from mailvane.clock import SystemClock
    from mailvane.destinations.addresses import SystemResolver
    from mailvane.destinations.contract import HttpPost
    from mailvane.destinations.http import HttpDestination

    async def test() -> None:
        async with adversary(says(OK)) as server:
            to = HttpDestination(
                HttpPost(f"http://{host}:{server.port}/"),
                epoch="k3v9",
                policy=PUBLIC,
                resolver=SystemResolver(),
                clock=SystemClock(),
                reveal=lambda value: value,
            )
            outcome = await attempt(to)
            await to.close()
            assert outcome.failure is Failure.ADDRESS
            assert server.connections == 0

    run(loop, test)


@pytest.mark.parametrize("ip", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "fe80::1%lo"])
def test_s7_metadata_services_are_refused_with_any_and_with_everything_allowed(loop: str, ip: str) -> None:
    async def test() -> None:
        policy = Policy("any", allow=(ip_network("0.0.0.0/0"), ip_network("::/0")))
        async with destination("http://metadata.example/", policy=policy, names=Names([ip])) as to:
            outcome = await attempt(to)
        assert outcome.failure is Failure.ADDRESS and outcome.seconds < BOUND

    run(loop, test)


def test_s8_a_name_that_is_rebound_is_judged_at_each_connection(loop: str) -> None:
    async def test() -> None:
        names = Names(["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"])
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        async with adversary(says(answer)) as server:
            url = server.url(host="rebound.example")
            async with destination(url, policy=LOOPBACK, names=names) as to:
                assert (await attempt(to)).delivered
                assert (await attempt(to)).failure is Failure.ADDRESS
                assert (await attempt(to)).failure is Failure.ADDRESS
            assert server.connections == 1
            assert f"Host: rebound.example:{server.port}\r\n".encode() in server.requests[0][1]

    run(loop, test)


def test_s9_of_a_mixed_answer_only_what_is_allowed_is_used_and_the_rest_told(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        names = Names(["10.0.0.1", "169.254.169.254", "127.0.0.1"])
        async with adversary(says(OK)) as server:
            url = server.url(host="mixed.example")
            async with destination(url, policy=LOOPBACK, names=names) as to:
                outcome = await attempt(to)
            assert outcome.delivered and outcome.seconds < BOUND

    with caplog.at_level(logging.WARNING, "mailvane.destinations.dial"):
        run(loop, test)
    assert "10.0.0.1" in caplog.text and "169.254.169.254" in caplog.text and "mixed.example" in caplog.text


@pytest.mark.parametrize(
    "error",
    [socket.gaierror(-2, "Name or service not known"), socket.gaierror(-3, "Temporary failure in name resolution")],
    ids=["NXDOMAIN", "SERVFAIL"],
)
def test_s10_a_name_that_does_not_resolve_is_a_dns_error(loop: str, error: OSError) -> None:
    async def test() -> None:
        async with destination("http://nowhere.example/", names=Names(error)) as to:
            outcome = await attempt(to)
        assert outcome.failure is Failure.DNS
        assert "nowhere.example" in outcome.text and str(error.strerror) in outcome.text

    run(loop, test)


def test_s10_an_empty_answer_is_a_dns_error(loop: str) -> None:
    async def test() -> None:
        async with destination("http://empty.example/", names=Names([])) as to:
            assert (await attempt(to)).failure is Failure.DNS

    run(loop, test)


def test_s10_a_silent_name_server_is_a_dns_error_in_time(loop: str) -> None:
    async def test() -> None:
        async with destination("http://slow.example/", names=Names(["127.0.0.1"], after=60.0), limits=QUICK) as to:
            outcome = await attempt(to)
        assert outcome.failure is Failure.DNS and QUICK.resolve * 0.9 < outcome.seconds < BOUND

    run(loop, test)


def test_s10_of_500_addresses_eight_are_tried(loop: str) -> None:
    async def test() -> None:
        tried: list[tuple[str, int]] = []
        running = asyncio.get_running_loop()
        real = running.sock_connect

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            names = Names([f"127.0.{n // 250}.{n % 250 + 1}" for n in range(500)])

            class Counted:
                """The running loop, whose connects are counted."""

                def __getattr__(self, name: str) -> object:
                    return getattr(running, name)

                async def sock_connect(self, connecting: socket.socket, address: tuple[str, int]) -> None:
                    tried.append(address)
                    await real(connecting, address)

            async with destination(f"http://many.example:{port}/", names=names, limits=PATIENT) as to:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("mailvane.destinations.dial.asyncio.get_running_loop", Counted)
                    outcome = await attempt(to)
        assert outcome.failure is Failure.CONNECT
        assert len(tried) == 8

    run(loop, test)


def test_s10_the_next_address_is_tried_when_one_refuses_or_is_silent(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server:
            names = Names(["127.0.0.9", "::1", "127.0.0.1"])
            url = server.url(host="several.example")
            async with destination(url, names=names, limits=Limits(connect=3)) as to:
                assert (await attempt(to)).delivered
            await until(lambda: server.open == 0)

    run(loop, test)


def test_s11_proxy_variables_are_not_obeyed(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as proxy, adversary(says(OK)) as server:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.delenv("no_proxy", raising=False)
            assert os.environ["http_proxy"]
            async with destination(server.url()) as to:
                assert (await attempt(to)).delivered
            assert server.posts == 1 and proxy.connections == 0

    run(loop, test)
