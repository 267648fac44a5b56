"""TLS endpoints that are wrong in one way each: never delivered to, never downgraded."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from destinations.adversary import OK, PATIENT, QUICK, Names, Peer, adversary, attempt, destination, event, run, says
from mailvane.destinations.contract import Failure
from mailvane.destinations.dial import Limits
from mailvane.destinations.tls import client_context
from support.certificates import Authority, Certificate

BOUND = 5.0


def test_s1_a_good_certificate_of_a_trusted_authority_is_delivered_to(loop: str, authority: Authority) -> None:
    async def test() -> None:
        context = authority.good().server_context()
        async with adversary(says(OK), context) as server:
            ca_file = str(authority.file)
            async with destination(server.url(host="localhost"), tls_ca_file=ca_file, limits=PATIENT) as to:
                for _ in range(5):
                    assert (await attempt(to, event(text="x" * 300_000))).delivered
            async with destination(server.url(), tls_ca_file=ca_file, limits=PATIENT) as to:
                assert (await attempt(to)).delivered
        assert [number for number, _, _ in server.requests] == [1] * 5 + [2]

    run(loop, test)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (Authority.expired, "expired"),
        (Authority.not_yet_valid, "not yet valid"),
        (Authority.self_signed, "self"),
        (Authority.wrong_host, "localhost"),
    ],
    ids=["expired", "not yet valid", "self-signed", "wrong host"],
)
def test_s1_a_bad_certificate_is_a_tls_error_with_the_reason(
    loop: str, authority: Authority, certificate: Callable[[Authority], Certificate], reason: str
) -> None:
    async def test() -> None:
        async with adversary(says(OK), certificate(authority).server_context()) as server:
            url = server.url(host="localhost")
            async with destination(url, tls_ca_file=str(authority.file), limits=PATIENT) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.TLS and reason in outcome.text and outcome.seconds < BOUND
        assert server.posts == 0

    run(loop, test)


def test_s1_an_authority_that_was_not_named_is_not_trusted(loop: str, authority: Authority) -> None:
    async def test() -> None:
        async with (
            adversary(says(OK), authority.good().server_context()) as server,
            destination(server.url(host="localhost"), limits=PATIENT) as to,
        ):
            outcome = await attempt(to)
            assert outcome.failure is Failure.TLS and "certificate" in outcome.text
            assert server.posts == 0

    run(loop, test)


@contextlib.contextmanager
def blocking_server(context: ssl.SSLContext) -> Iterator[int]:
    """A server that says why it ends a handshake (asyncio's does not); yields its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listening socket's end ends it
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    try:
                        context.wrap_socket(connection.dup(), server_side=True)
                    except ssl.SSLError:
                        while connection.recv(65536):
                            pass
                    else:
                        pytest.fail("the handshake was not refused")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def test_s1_old_tls_is_refused_and_not_tried(loop: str, authority: Authority) -> None:
    context = authority.good().server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    async def test() -> None:
        with blocking_server(context) as port:
            async with destination(f"https://localhost:{port}/", tls_ca_file=str(authority.file), limits=PATIENT) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.TLS and "version" in outcome.text

    run(loop, test)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_s1_a_demand_for_a_client_certificate_is_a_tls_error(
    loop: str, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.good().server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    context.maximum_version = version

    async def test() -> None:
        with blocking_server(context) as port:
            async with destination(f"https://localhost:{port}/", tls_ca_file=str(authority.file), limits=PATIENT) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.TLS and outcome.seconds < BOUND

    run(loop, test)


def test_s1_the_name_is_sent_and_checked_though_the_address_is_connected_to(loop: str, authority: Authority) -> None:
    async def test() -> None:
        seen: list[str | None] = []
        context = authority.good(("hook.example",)).server_context()
        context.sni_callback = lambda connection, name, context: seen.append(name)
        async with adversary(says(OK), context) as server:
            for host, delivered in (("hook.example", True), ("hook.example.", True), ("other.example", False)):
                names = Names(["127.0.0.1"])
                url = server.url(host=host)
                async with destination(url, names=names, tls_ca_file=str(authority.file), limits=PATIENT) as to:
                    assert (await attempt(to)).delivered is delivered
        assert seen == ["hook.example", "hook.example", "other.example"]

    run(loop, test)


def test_s1_https_to_a_server_without_tls_is_a_tls_error_and_nothing_is_posted(loop: str) -> None:
    async def plain(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def test() -> None:
        async with adversary(plain) as server:
            async with destination(f"https://127.0.0.1:{server.port}/", limits=PATIENT) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.TLS

    run(loop, test)


def test_s1_a_ca_file_that_is_none_is_told(loop: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")

    async def test() -> None:
        async with adversary(says(OK)) as server:
            for file in (broken, tmp_path / "missing.pem"):
                url = f"https://127.0.0.1:{server.port}/"
                async with destination(url, tls_ca_file=str(file), limits=PATIENT) as to:
                    outcome = await attempt(to)
                assert outcome.failure is Failure.TLS and str(file) in outcome.text

    run(loop, test)


def test_s2_a_stalled_handshake_ends_within_the_deadline(loop: str) -> None:
    async def stalls(peer: Peer) -> None:
        await peer.gone()

    async def test() -> None:
        async with adversary(stalls) as server:
            async with destination(f"https://127.0.0.1:{server.port}/", limits=QUICK) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.TIMEOUT and "TLS" in outcome.text
        assert QUICK.connect * 0.9 < outcome.seconds < BOUND

    run(loop, test)


def test_s2_an_endpoint_that_stalls_after_the_handshake_ends_within_the_deadline(
    loop: str, authority: Authority
) -> None:
    async def stalls(peer: Peer) -> None:
        await peer.gone()

    async def test() -> None:
        limits = Limits(connect=10, attempt=0.5)
        async with adversary(stalls, authority.good().server_context()) as server:
            url = server.url(host="localhost")
            async with destination(url, tls_ca_file=str(authority.file), limits=limits) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.TIMEOUT and outcome.seconds < BOUND

    run(loop, test)


def test_s3_no_revocation_list_is_asked_for(loop: str, authority: Authority) -> None:
    context = client_context(str(authority.file))
    assert context.verify_flags & (ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF | ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN) == 0
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2

    async def test() -> None:
        names = Names(["127.0.0.1"])
        async with adversary(says(OK), authority.good().server_context()) as server:
            url = server.url(host="localhost")
            async with destination(url, names=names, tls_ca_file=str(authority.file), limits=PATIENT) as to:
                assert (await attempt(to)).delivered
        assert [host for host, _ in names.asked] == ["localhost"]

    run(loop, test)


def test_s1_an_answer_that_ends_without_closing_tls_counts_by_its_status(loop: str, authority: Authority) -> None:
    async def ragged(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        with socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    async def test() -> None:
        async with adversary(ragged, authority.good().server_context()) as server:
            url = server.url(host="localhost")
            async with destination(url, tls_ca_file=str(authority.file), limits=PATIENT) as to:
                outcome = await attempt(to)
        assert outcome.delivered and outcome.status == 200

    run(loop, test)
