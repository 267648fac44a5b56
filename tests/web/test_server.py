import asyncio
import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from mailvane.queue.remote import OwnerClient
from mailvane.web.bounds import Bounds
from mailvane.web.server import CannotServe
from web.serving import EVENT, LOOPS, request, run, served

BODY = json.dumps(EVENT).encode()


@pytest.mark.parametrize("loop", LOOPS)
def test_tcp_and_the_socket_in_home_are_served_and_the_free_port_is_told(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            assert it.running.port > 0
            path = Path(it.running.socket_path)
            assert path == it.home / "mailvane.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert (await it.get("/readyz")).status == (await it.get("/readyz", by_socket=True)).status == 200
        assert not path.exists()

    run(test, loop)


def test_without_tcp_there_is_the_socket_alone(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, tcp=False) as it:
            assert it.running.port == 0
            assert (await it.post("/v1/events", EVENT, by_socket=True)).status == 202

    run(test)


def test_a_socket_that_a_killed_process_left_is_replaced(short_folder: Path):
    def leave(home: Path) -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(home / "mailvane.sock"))

    async def test() -> None:
        async with served(short_folder, prepare=leave) as it:
            assert (await it.get("/readyz", by_socket=True)).status == 200

    run(test)


def test_what_is_no_socket_is_not_removed(short_folder: Path):
    async def test() -> None:
        with pytest.raises(CannotServe, match=r"mailvane\.sock is in the way"):
            async with served(short_folder, prepare=lambda home: (home / "mailvane.sock").write_text("mine")):
                pass
        assert (short_folder / "h" / "mailvane.sock").read_text() == "mine"

    run(test)


def test_a_path_too_long_for_the_kernel_is_served_and_reached_all_the_same(short_folder: Path):
    async def test() -> None:
        folder = short_folder / ("x" * 120)
        folder.mkdir()
        async with served(folder) as it:
            assert len(it.running.socket_path) > 107
            told = await asyncio.to_thread(OwnerClient(it.running.socket_path).request, "GET", "/healthz")
            assert b"true" in told
            assert (await it.post("/v1/events", EVENT)).status == 202

    run(test)


def test_an_address_in_use_is_named(short_folder: Path):
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CannotServe, match=rf"http_listen 127\.0\.0\.1:{port}: the address is in use"):
                async with served(short_folder, listen=f"127.0.0.1:{port}"):
                    pass
        assert not (short_folder / "h" / "mailvane.sock").exists()

    run(test)


def test_a_name_that_does_not_resolve_is_named(short_folder: Path):
    async def test() -> None:
        with pytest.raises(CannotServe, match=r"http_listen nowhere\.invalid:1: the name does not resolve"):
            async with served(short_folder, listen="nowhere.invalid:1", conf="api_token x"):
                pass

    run(test)


def test_the_servers_signals_stay_the_programs(short_folder: Path):
    async def test() -> None:
        before = [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)]
        async with served(short_folder) as it:
            await it.get("/healthz")
            assert [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)] == before

    run(test)


def test_stop_lets_what_is_under_way_finish_and_takes_nothing_new(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            idle, busy = await it.client(), await it.client()
            await idle.ask("GET", "/healthz")
            await busy.say(request("POST", "/v1/events", content_length=str(len(BODY))) + BODY[:10])
            (door, _) = it.running._doors
            while not door.state.tasks:
                await asyncio.sleep(0)
            stopping = asyncio.create_task(it.running.stop(10.0))
            assert await idle.ended() == b""
            with pytest.raises(OSError):
                await it.client()
            await busy.say(BODY[10:])
            reply = await busy.reply()
            assert (reply.status, reply.headers["connection"]) == (202, "close")
            await stopping
            assert not os.path.exists(it.running.socket_path)

    run(test)


@pytest.mark.parametrize("loop", LOOPS)
def test_stop_waits_no_longer_than_told(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            never = await it.client()
            await never.say(request("POST", "/v1/events", content_length="10"))
            (door, _) = it.running._doors
            while not door.state.tasks:
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await it.running.stop(0.1)
                await never.ended()

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_requests_on_one_connection_are_answered_in_turn(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            client = await it.client()
            for _ in range(3):
                await client.say(request("POST", "/v1/events", BODY) + request("GET", "/v1/events/count"))
                recorded, counted = await client.reply(), await client.reply()
                assert counted.json["count"] == recorded.json["results"][0]["id"]

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_closes_its_side_first_gets_its_answer(short_folder: Path, loop: str):
    async def test() -> None:
        async with served(short_folder) as it:
            client = await it.client()
            client.writer.write(request("POST", "/v1/events", BODY))
            client.writer.write_eof()
            assert (await client.reply()).status == 202
            assert await client.ended() == b""
            half = await it.client()
            half.writer.write(request("POST", "/v1/events", BODY)[:-5])
            half.writer.write_eof()
            assert await half.ended() == b""
            assert (await it.service.status()).books.recorded == 1

    run(test, loop)


def test_a_client_that_offers_to_upgrade_gets_http_1_1(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            # As Java's HttpClient does with every request.
            reply = await it.post(
                "/v1/events", EVENT, connection="Upgrade, HTTP2-Settings", upgrade="h2c", http2_settings="AAEAAEAA"
            )
            assert (reply.status, reply.json["recorded"]) == (202, 1)
            client = await it.client()
            offer = request("POST", "/v1/events", BODY, connection="Upgrade, HTTP2-Settings", upgrade="h2c")
            await client.say(offer[:-20])
            await client.say(offer[-20:] + offer + request("GET", "/v1/events/count"))
            assert [(await client.reply()).status for _ in range(2)] == [202, 202]
            assert (await client.reply()).json == {"count": 3}

    run(test)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"CONNECT localhost:25 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(short_folder: Path, rubbish: bytes):
    async def test() -> None:
        async with served(short_folder, bounds=Bounds(head_seconds=1.0)) as it:
            client = await it.client()
            await client.say(rubbish)
            answer = await client.ended()
            assert answer.startswith(b"HTTP/1.1 4"), answer
            assert answer.count(b"HTTP/1.1 4") == 1
            assert (await it.get("/healthz")).status == 200

    run(test)
