import asyncio
import contextlib
import gzip
import json
import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailvane.web.bounds import Bounds
from web.serving import EVENT, LOOPS, Client, Served, request, run, served

BODY = json.dumps(EVENT).encode()
POST = request("POST", "/v1/events", BODY)
GROWTH = 48 * 1024
"""KiB that this process, clients and all, may grow by under abuse."""


@contextmanager
def bounded_memory() -> Iterator[None]:
    """The peak of resident memory inside the block stays near what it was at its beginning."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < GROWTH


def memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


async def records(it: Served, by_socket: bool = False) -> None:
    assert (await it.post("/v1/events", EVENT, by_socket=by_socket)).status == 202


async def closed(client: Client) -> bool:
    """Waits until the server has cut the connection."""
    await client.ended()
    return True


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_a_flood_of_tiny_requests_is_answered_and_others_record(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:

            async def flood() -> int:
                client = await it.client()
                done = 0
                for _ in range(25):
                    await client.say(request("GET", "/healthz") * 5 + POST * 5)
                    for _ in range(10):
                        done += (await client.reply()).status in {200, 202}
                client.close()
                return done

            with bounded_memory():
                floods = [asyncio.create_task(flood()) for _ in range(30)]
                for _ in range(20):
                    await records(it)
                    await records(it, by_socket=True)
                assert sum(await asyncio.gather(*floods)) == 30 * 250
            assert (await it.service.status()).books.recorded == 30 * 125 + 40

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_more_than_a_mebibyte_is_refused_by_its_length_before_a_byte_of_it(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            head = request("POST", "/v1/events", content_length=str(1024 * 1024 + 1))
            for more in (b"", b"x" * 1024 * 1024 * 2):
                client = await it.client()
                await client.say(head)
                reply = await client.reply()
                assert (reply.status, reply.headers["connection"]) == (413, "close")
                assert "1,048,576 bytes" in reply.json["error"]
                with contextlib.suppress(ConnectionError):
                    await client.say(more)
                assert await client.ended() == b""
            patient = await it.client()
            await patient.say(request("POST", "/v1/events", content_length="99999999", expect="100-continue"))
            assert (await patient.reply()).status == 413
            # Who sends all of it before looking still gets the answer.
            eager = await it.client()
            await eager.say(request("POST", "/v1/events", b"x" * 2 * 1024 * 1024))
            assert (await eager.reply()).status == 413
            await records(it)

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_an_endless_chunked_body_is_refused_at_a_mebibyte(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            with bounded_memory():
                client = await it.client()
                await client.say(request("POST", "/v1/events", content_length="", transfer_encoding="chunked"))
                sent = 0

                async def pour() -> None:
                    nonlocal sent
                    while True:
                        await client.say(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                        sent += 65_536

                pouring = asyncio.create_task(pour())
                reply = await client.reply()
                assert (reply.status, reply.headers["connection"]) == (413, "close")
                with pytest.raises(ConnectionError):
                    await pouring
            assert 1024 * 1024 < sent < 32 * 1024 * 1024  # the kernel's buffers, and what is read without being kept
            await records(it)

    run(test, loop)


ABUSES = {
    "a chunk's extension without end": (b"5;", b"x" * 60_000),
    "trailers without end": (b"0\r\n", b"x: " + b"y" * 60_000),
    "chunks of a byte": (b"", b"1\r\n \r\n" * 10_000),
    "a header without end": (None, b"x" * 60_000),
    "headers without end": (None, b"x: y\r\n" * 10_000),
    "an address without end": (b"GET /", b"x" * 60_000),
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_m15_what_has_no_end_is_cut_off(short_folder: Path, abuse: str):
    async def test() -> None:
        first, endless = ABUSES[abuse]
        async with served(short_folder) as it:
            client = await it.client()
            head = request("POST", "/v1/events", content_length="", transfer_encoding="chunked")
            if first is None:
                await client.say(head[:-2] + b"x-more: ")
            elif not first.startswith(b"GET"):
                await client.say(head + first)
            else:
                await client.say(first)

            async def pour() -> None:
                while True:
                    await client.say(endless)

            with bounded_memory():
                pouring = asyncio.create_task(pour())
                reply = await client.reply()
                assert reply.status in {400, 413, 431}, reply
                with pytest.raises(ConnectionError):
                    await pouring
            await records(it)

    run(test)


def test_m15_a_head_may_have_a_hundred_headers_and_64_kib(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for more in ("x: y\r\n" * 98, "x: " + "y" * 60_000 + "\r\n"):
                client = await it.client()
                await client.say(request("GET", "/healthz")[:-2] + more.encode() + b"\r\n")
                assert (await client.reply()).status == 200
            for more in ("x: y\r\n" * 101, "x: " + "y" * 65_536 + "\r\n"):
                client = await it.client()
                await client.say(request("GET", "/healthz")[:-2] + more.encode() + b"\r\n")
                assert (await client.reply()).status == 431

    run(test)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_slowloris_runs_into_408_and_makes_room_for_others_before(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder, bounds=Bounds(connections=8, head_seconds=2.0, patience=0.1)) as it:
            slow = [await it.client() for _ in range(8)]
            for client in slow:
                await client.say(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n")
            while True:  # until the first of them has kept us waiting too long
                with contextlib.suppress(ConnectionError):
                    if (await it.post("/v1/events", EVENT)).status == 202:
                        break
            for _ in range(3):
                await records(it)
            told = [await client.ended() for client in slow]
            late = sum(answer.startswith(b"HTTP/1.1 408 ") for answer in told)
            assert late + told.count(b"") == 8
            assert 1 <= told.count(b"") <= 4

    run(test, loop)


def test_m15_a_head_that_drips_is_not_given_more_time_for_it(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, bounds=Bounds(head_seconds=0.5)) as it:
            client = await it.client()

            async def drip() -> None:
                for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 1_000:
                    await client.say(bytes([byte]))
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            assert (await client.reply()).status == 408
            dripping.cancel()
            # Line ends between requests begin none.
            silent = await it.client()
            await silent.say(b"\r\n\r\n")
            assert await silent.ended() == b""

    run(test)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_a_body_that_does_not_come_runs_into_408(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder, bounds=Bounds(body_seconds=0.3)) as it:
            for head in (
                request("POST", "/v1/events", content_length="100"),
                request("POST", "/v1/events", content_length="", transfer_encoding="chunked"),
            ):
                client = await it.client()
                await client.say(head)
                reply = await client.reply()
                assert (reply.status, "body" in reply.json["error"]) == (408, True)
                assert await client.ended() == b""
            await records(it)
            assert (await it.service.status()).books.recorded == 1

    run(test, loop)


def test_m15_large_bodies_that_do_not_come_keep_only_large_ones_from_recording(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mailvane.web.api.LARGE_WAIT", 0.2)

    async def test() -> None:
        async with served(short_folder) as it:
            large = [EVENT | {"bounce_text": "x" * 50_000}] * 10
            slow = [await it.client() for _ in range(16)]
            for client in slow:
                await client.say(request("POST", "/v1/events", content_length="900000") + b" " * 300_000)
            while (reply := await it.post("/v1/events", large)).status == 202:
                pass
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            await records(it)
            assert (await it.post("/v1/events", large, by_socket=True)).status == 202

    run(test)


def test_m15_a_gzip_bomb_is_not_unpacked(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            bomb = gzip.compress(b" " * 256 * 1024 * 1024, 1)
            with bounded_memory():
                for coding in ("gzip", "deflate", "br", "identity, gzip"):
                    reply = await it.post("/v1/events", bomb[:900_000], content_encoding=coding)
                    assert (reply.status, reply.headers["accept-encoding"]) == (415, "identity")
                assert (await it.post("/v1/events", bomb[:900_000])).status == 400
            assert (await it.post("/v1/events", EVENT, content_encoding="identity")).status == 202

    run(test)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_too_many_requests_without_waiting_for_answers_are_told_so(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            with bounded_memory():
                for flood in (request("GET", "/metrics"), POST):
                    client = await it.client()
                    with contextlib.suppress(ConnectionError):
                        await client.say(flood * 3_000)
                    told = [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", await client.ended())]
                    assert told.pop() == 429, told
                    assert 16 <= len(told) <= 32 and set(told) <= {200, 202}
            client = await it.client()
            await client.say(request("GET", "/healthz") * 16)
            assert [(await client.reply()).status for _ in range(16)] == [200] * 16

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_a_connection_gets_its_turn_beside_others_that_send_ahead(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            answered = 0

            async def flood(client: Client) -> None:
                nonlocal answered
                await client.say(POST * 8)
                while True:
                    await client.reply()
                    answered += 1
                    await client.say(POST)

            floods = [asyncio.create_task(flood(await it.client())) for _ in range(20)]
            while answered < 200:
                await asyncio.sleep(0)
            patient = await it.client()
            before = answered
            for _ in range(50):
                assert (await patient.ask("POST", "/v1/events", BODY)).status == 202
            # Each of the others may have its turn, and one more on the way there and back, but not all it sent ahead.
            assert answered - before < 50 * 20 * 4
            for task in floods:
                task.cancel()
            await asyncio.gather(*floods, return_exceptions=True)

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_who_does_not_fetch_answers_is_cut_off(short_folder: Path, loop: str, caplog: pytest.LogCaptureFixture):
    async def test() -> None:
        async with served(short_folder, bounds=Bounds(idle_seconds=1)) as it:
            await it.record(*[EVENT | {"bounce_text": "x" * 60_000}] * 15)
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", it.running.port))
            await asyncio.get_running_loop().sock_sendall(deaf, request("GET", "/v1/events") * 16)
            (door, _) = it.running._doors
            while not door.connections:
                await asyncio.sleep(0.01)
            while door.connections or door.state.tasks:
                await asyncio.sleep(0.01)
            deaf.close()
        assert "Traceback" not in caplog.text

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_m15_beyond_the_most_connections_clients_are_told_and_the_socket_is_served(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder, bounds=Bounds(connections=10, patience=60.0)) as it:
            local = await it.client(by_socket=True)
            held = [await it.client() for _ in range(10)]
            for client in held:
                await client.ask("GET", "/healthz")
            reply = await it.get("/healthz")
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            flood = [await it.client() for _ in range(100)]
            ended = await asyncio.gather(*[client.ended() for client in flood])
            assert all(answer == b"" or answer.startswith(b"HTTP/1.1 503") for answer in ended)
            assert (await local.ask("POST", "/v1/events", BODY)).status == 202
            assert all([(await client.ask("GET", "/healthz")).status == 200 for client in held])
            held.pop().close()
            while (reply := await it.get("/healthz")).status == 503:
                pass
            assert reply.status == 200

    run(test, loop)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """As under `ulimit -n`, with all of them in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("loop", LOOPS)
def test_d19_without_descriptors_what_is_connected_records_and_new_ones_wait_or_go(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            await records(it)
            connected = await it.client()
            newcomers = [socket.socket() for _ in range(20)]
            with no_descriptors_left():
                for newcomer in newcomers:
                    newcomer.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(newcomer, ("127.0.0.1", it.running.port))
                for _ in range(20):
                    assert (await connected.ask("POST", "/v1/events", BODY)).status == 202
                looked = await connected.ask("GET", "/v1/events")
                assert looked.status == 503, looked
            for newcomer in newcomers:
                newcomer.close()
            while True:
                with contextlib.suppress(ConnectionError):
                    await records(it)
                    break
            assert (await connected.ask("GET", "/v1/events/count")).json == {"count": 22}

    run(test, loop)


def test_d19_connections_take_no_more_than_a_third_of_the_descriptors(short_folder: Path):
    async def test() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 60

        def lower(home: Path) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

        try:
            async with served(short_folder, prepare=lower) as it:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # the clients are in this process, too
                held = [await it.client() for _ in range(limit // 3)]
                for client in held:
                    assert (await client.ask("GET", "/healthz")).status == 200
                assert (await it.get("/healthz")).status == 503
                await records(it, by_socket=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    run(test)
