"""Endpoints that misbehave: each fault by its id, against a server on loopback that does it."""

import asyncio
import gzip
import resource
import socket
import threading
import time

import pytest

from destinations.adversary import (
    OK,
    PATIENT,
    QUICK,
    Peer,
    adversary,
    attempt,
    destination,
    event,
    run,
    says,
    until,
)
from mailvane.destinations.contract import Failure
from mailvane.destinations.dial import Limits

BOUND = 5.0
"""Seconds: far more than the deadlines given, far less than forever."""


async def silent(peer: Peer) -> None:
    await peer.gone()


def test_h1_an_endpoint_that_never_answers_times_out(loop: str) -> None:
    async def test() -> None:
        async with adversary(silent) as server, destination(server.url()) as to:
            outcome = await attempt(to)
            assert outcome.failure is Failure.TIMEOUT and outcome.status == 0
            assert QUICK.attempt * 0.9 < outcome.seconds < BOUND
            assert "0.5 s" in outcome.text

    run(loop, test)


def test_h1_a_silent_endpoint_holds_no_other_one_up(loop: str) -> None:
    async def test() -> None:
        async with (
            adversary(silent) as dead,
            adversary(says(OK)) as well,
            destination(dead.url()) as to_dead,
            destination(well.url()) as to_well,
        ):
            waiting = [attempt(to_dead) for _ in range(16)]
            for _ in range(20):
                assert (await attempt(to_well)).delivered
            assert not any(told.done() for told in waiting)
            assert {(await told).failure for told in waiting} == {Failure.TIMEOUT}

    run(loop, test)


def test_h2_a_closed_port_is_a_connect_error_at_once(loop: str) -> None:
    async def test() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            async with destination(f"http://127.0.0.1:{port}/hook", limits=PATIENT) as to:
                outcome = await attempt(to)
        assert outcome.failure is Failure.CONNECT and outcome.seconds < BOUND
        assert "127.0.0.1" in outcome.text and "refused" in outcome.text.lower()

    run(loop, test)


def test_h2_a_black_hole_ends_with_the_connect_deadline_for_all_who_wait(loop: str) -> None:
    async def test() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            limits = Limits(connect=0.3, attempt=20, resolve=0.3)
            async with destination(f"http://127.0.0.1:{address[1]}/hook", limits=limits) as to:
                outcomes = await asyncio.gather(*(attempt(to) for _ in range(12)))
            for filler in fillers:
                filler.close()
        assert {outcome.failure for outcome in outcomes} == {Failure.CONNECT}
        assert all(outcome.seconds < BOUND for outcome in outcomes)

    run(loop, test)


async def drips_its_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await peer.send(b"o")
        await asyncio.sleep(0.02)


def test_h3_a_dripping_body_is_delivered_by_its_status_within_the_deadline(loop: str) -> None:
    async def test() -> None:
        async with adversary(drips_its_body) as server, destination(server.url()) as to:
            outcome = await attempt(to)
            assert outcome.delivered and outcome.status == 200 and outcome.seconds < BOUND
            await until(lambda: server.open == 0)

    run(loop, test)


def test_h3_a_dripping_body_without_ok_fails_a_form(loop: str) -> None:
    async def test() -> None:
        async with adversary(drips_its_body) as server, destination(server.url(), json=False) as to:
            outcome = await attempt(to)
            assert outcome.failure is Failure.TIMEOUT and outcome.status == 200 and outcome.seconds < BOUND

    run(loop, test)


def test_h4_a_dripping_head_ends_with_the_deadline(loop: str) -> None:
    async def drips(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            await peer.send(b"o")
            await asyncio.sleep(0.02)

    async def test() -> None:
        async with adversary(drips) as server, destination(server.url()) as to:
            outcome = await attempt(to)
            assert outcome.failure is Failure.TIMEOUT and outcome.seconds < BOUND
            await until(lambda: server.open == 0)

    run(loop, test)


@pytest.mark.parametrize("head", [b"X-Long: " + b"a" * 1_000_000, b"X: y\r\n" * 10_000], ids=["1MB", "10000"])
def test_h4_a_head_beyond_bounds_is_a_protocol_error(loop: str, head: bytes) -> None:
    async def test() -> None:
        flood = b"HTTP/1.1 200 OK\r\n" + head + b"\r\nContent-Length: 0\r\n\r\n"
        async with adversary(says(flood)) as server, destination(server.url(), limits=PATIENT) as to:
            assert (await attempt(to)).failure is Failure.PROTOCOL

    run(loop, test)


def test_h5_endless_informational_answers_are_a_protocol_error(loop: str) -> None:
    async def continues(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0)

    async def test() -> None:
        async with adversary(continues) as server, destination(server.url(), limits=PATIENT) as to:
            outcome = await attempt(to)
            assert outcome.failure is Failure.PROTOCOL and "informational" in outcome.text

    run(loop, test)


def test_h6_an_infinite_body_is_cut_at_the_bound_without_growing(loop: str) -> None:
    sent = 0

    async def pours(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while True:
            await peer.send(chunk)
            sent += len(chunk)

    async def test() -> None:
        async with adversary(pours) as server, destination(server.url(), limits=PATIENT) as to:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(5):
                assert (await attempt(to)).delivered
            await until(lambda: server.open == 0)
            assert server.connections == 5
            # What the sockets' buffers take, and not what a client that reads on would have taken.
            assert sent < 5 * 16 * 2**20
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024

    run(loop, test)


def test_h7_a_gzip_bomb_is_not_inflated(loop: str) -> None:
    bomb = gzip.compress(b"\0" * (50 * 2**20))

    async def test() -> None:
        head = b"HTTP/1.1 500 Boom\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        async with adversary(says(head + bomb)) as server, destination(server.url()) as to:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            outcome = await attempt(to)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
        assert b"Accept-Encoding: identity\r\n" in server.requests[0][1]
        assert outcome.failure is Failure.SERVER and bomb[:32].hex() in outcome.text

    run(loop, test)


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (None, Failure.RESET),
        (b"", Failure.RESET),
        (b"HTTP/1.1 200 OK\r\nContent-", Failure.RESET),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf", None),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 20\r\n\r\nhalf", Failure.SERVER),
    ],
    ids=["unread", "unanswered", "in head", "after head", "in body", "in body of 500"],
)
def test_h8_a_reset_before_the_head_is_whole_fails_after_it_the_status_counts(
    loop: str, sent: bytes | None, failure: Failure | None
) -> None:
    read = asyncio.Event()

    async def resets(peer: Peer) -> None:
        if sent is not None:
            await peer.request()
            await peer.send(sent)
            # So that what was sent is read before the reset makes the kernel drop it.
            await asyncio.sleep(0.05 if sent else 0)
        else:
            await peer.reader.read(1)
        peer.reset()
        read.set()

    async def test() -> None:
        async with adversary(resets) as server, destination(server.url(), limits=PATIENT) as to:
            outcome = await attempt(to)
            assert outcome.failure is failure and outcome.seconds < BOUND

    run(loop, test)


@pytest.mark.parametrize(
    "garbage",
    [b"ok", b"<html></html>", b"PRI * HTTP/2.0\r\n\r\n", b"HTTP/1.1 999 No\r\n\r\n", b"HTTP/1.1 200 OK\nX: y\n\n"],
)
def test_h9_garbage_is_a_protocol_error(loop: str, garbage: bytes) -> None:
    async def test() -> None:
        async with adversary(says(garbage)) as server, destination(server.url(), limits=PATIENT) as to:
            assert (await attempt(to)).failure is Failure.PROTOCOL
            await until(lambda: server.open == 0)

    run(loop, test)


@pytest.mark.parametrize(
    "lie",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_h10_after_dubious_framing_the_next_request_has_a_new_connection(loop: str, lie: bytes) -> None:
    async def test() -> None:
        async with adversary(says(lie)) as server, destination(server.url(), limits=PATIENT) as to:
            for _ in range(3):
                assert (await attempt(to)).delivered
            assert [number for number, _, _ in server.requests] == [1, 2, 3]

    run(loop, test)


def test_h10_what_nobody_asked_for_ends_a_free_connection(loop: str) -> None:
    more = asyncio.Event()

    async def says_more(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            await more.wait()
            await peer.send(b"HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n")
            await peer.gone()
        else:
            await peer.gone()

    async def test() -> None:
        async with adversary(says_more) as server, destination(server.url(), limits=PATIENT) as to:
            assert (await attempt(to)).delivered
            more.set()
            await until(lambda: server.open == 0)
            assert (await attempt(to)).delivered
            assert server.connections == 2

    run(loop, test)


def test_h10_what_came_before_the_request_went_out_is_not_its_answer(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url(), limits=PATIENT) as to:
            assert (await attempt(to)).delivered
            (connection,) = to._connections._open
            told = attempt(to, event(2))
            connection.data_received(OK)
            assert (await told).delivered
            assert server.posts == 2, "the second was delivered by an answer that nobody asked for"
            assert server.connections == 2

    run(loop, test)


@pytest.mark.parametrize("more", [b"HTTP/1.1 500 Smuggled\r\n", OK])
def test_h10_what_follows_on_an_answer_is_not_the_answer_to_the_next_request(loop: str, more: bytes) -> None:
    async def test() -> None:
        async with adversary(silent) as server, destination(server.url(), limits=PATIENT) as to:
            for number in range(2):  # the second answer is one that was seen before
                told = attempt(to, event(number))
                await until(lambda: any(connection.expects for connection in to._connections._open))
                (connection,) = to._connections._open
                connection.data_received(OK)
                connection.data_received(more)
                assert (await told).delivered
                assert not to._connections._open
            assert server.connections == 2

    run(loop, test)


async def answers_once(peer: Peer) -> None:
    await peer.request()
    await peer.send(OK)


def test_h11_a_kept_connection_that_was_closed_is_replaced_unseen(loop: str) -> None:
    async def test() -> None:
        async with adversary(answers_once) as server, destination(server.url(), limits=PATIENT) as to:
            for number in range(5):
                assert (await attempt(to, event(number))).delivered
                await until(lambda: not to._connections._open)
            assert server.posts == server.connections == 5

    run(loop, test)


def test_h11_an_end_that_the_loop_has_not_seen_yet_is_seen_before_sending(loop: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()
    posts = 0

    def serve() -> None:
        nonlocal posts
        for _ in range(2):
            connection, _ = listening.accept()
            posts += connection.recv(65536).startswith(b"POST")
            connection.sendall(OK)
            time.sleep(0.01)  # an answer and an end in one piece would be something else
            connection.close()
            closed.set()

    async def test() -> None:
        async with destination(f"http://127.0.0.1:{listening.getsockname()[1]}/", limits=PATIENT) as to:
            assert (await attempt(to)).delivered
            closed.wait(10)  # the loop stands still meanwhile
            assert (await attempt(to)).delivered
            assert posts == 2

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        run(loop, test)
    finally:
        thread.join(10)
        listening.close()


def test_h11_a_request_that_went_out_is_not_sent_again(loop: str) -> None:
    async def takes_two_answers_one(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async def test() -> None:
        async with adversary(takes_two_answers_one) as server, destination(server.url(), limits=PATIENT) as to:
            first = await attempt(to, event(1))
            second = await attempt(to, event(2))
            assert first.delivered and second.failure is Failure.RESET
            assert server.posts == 2 and server.connections == 1

    run(loop, test)


def test_h11_an_endpoint_that_keeps_closing_unannounced_gets_one_request_on_each_connection(loop: str) -> None:
    async def test() -> None:
        async with adversary(answers_once) as server, destination(server.url(), limits=PATIENT) as to:
            outcomes = []
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def done(batch: object, given: object) -> None:
                outcomes.append(given[0])  # type: ignore[index]
                if len(outcomes) == 40:
                    ended.set_result(None)
                else:
                    to.send((event(len(outcomes)),), done)

            to.send((event(0),), done)
            await ended
            lost = [outcome for outcome in outcomes if outcome.failure is Failure.RESET]
            assert len(lost) <= 3
            assert all(outcome.delivered for outcome in outcomes if outcome not in lost)

    run(loop, test)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_h12_a_redirect_is_not_followed(loop: str, status: int) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as canary:
            moved = b"HTTP/1.1 %d Moved\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:%d/secret-path?key=secret\r\n\r\n"
            async with adversary(says(moved % (status, canary.port))) as server, destination(server.url()) as to:
                outcome = await attempt(to)
            assert outcome.failure is Failure.REDIRECT and outcome.status == status
            assert f"127.0.0.1:{canary.port}" in outcome.text and "secret" not in outcome.text
            assert server.posts == 1 and canary.connections == 0

    run(loop, test)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, None),
        (204, None),
        (206, None),
        (400, Failure.REFUSED),
        (404, Failure.REFUSED),
        (413, Failure.REFUSED),
        (408, Failure.BUSY),
        (410, Failure.GONE),
        (425, Failure.BUSY),
        (429, Failure.THROTTLED),
        (500, Failure.SERVER),
        (502, Failure.BUSY),
        (503, Failure.THROTTLED),
        (504, Failure.BUSY),
    ],
)
def test_h13_h15_h17_h19_statuses_become_their_class_on_a_kept_connection(
    loop: str, status: int, failure: Failure | None
) -> None:
    async def test() -> None:
        answer = b"HTTP/1.1 %d Said\r\nContent-Length: 0\r\nRetry-After: 120\r\n\r\n" % status
        async with adversary(says(answer)) as server, destination(server.url()) as to:
            for _ in range(3):
                outcome = await attempt(to)
                assert (outcome.failure, outcome.status, outcome.retry_after) == (
                    failure,
                    status,
                    "" if failure is None else "120",
                )
            assert server.connections == 1

    run(loop, test)


@pytest.mark.parametrize(("json", "failure"), [(True, None), (False, Failure.NOT_OK)])
def test_h18_a_body_that_says_error_fails_a_form_alone(loop: str, json: bool, failure: Failure | None) -> None:
    async def test() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nerror"
        async with adversary(says(answer)) as server, destination(server.url(), json=json) as to:
            outcome = await attempt(to)
            assert outcome.failure is failure
            assert failure is None or "error" in outcome.text

    run(loop, test)


def test_h8_a_connection_that_breaks_while_it_is_free_costs_at_most_one_attempt(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url(), limits=PATIENT) as to:
            assert (await attempt(to)).delivered
            (connection,) = to._connections._open
            # As after an error that the loop has met and not told yet: each loop has its own way with what is sent now.
            connection.transport.abort()
            outcome = await attempt(to)
            assert outcome.delivered or outcome.failure is Failure.RESET
            assert (await attempt(to)).delivered
            assert server.posts in (2, 3) and server.connections == 2

    run(loop, test)


def test_h8_uvloops_refusal_of_a_broken_connection_is_no_exception_of_ours(loop: str) -> None:
    async def test() -> None:
        async with adversary(says(OK)) as server, destination(server.url(), limits=PATIENT) as to:
            assert (await attempt(to)).delivered
            (connection,) = to._connections._open

            def refuse(request: bytes) -> None:
                raise RuntimeError("unable to perform operation; the handler is closed")

            connection.write = refuse
            assert (await attempt(to)).delivered
            assert server.posts == server.connections == 2

    run(loop, test)
