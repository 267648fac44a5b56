import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.operations import endpoint
from mailvane.operations.endpoint import Request
from mailvane.operations.listen import CannotListen, events_in, serve, visible

EVENT = {"id": 7, "event_type": "bounce_all", "email": "user@example.com", "bounce_code": 10, "listid": ""}


@dataclass
class Running:
    port: int
    out: io.StringIO
    notice: io.StringIO
    stop: asyncio.Event

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


@asynccontextmanager
async def running(status: int = 200, delay: float = 0.0, as_json: bool = True) -> AsyncIterator[Running]:
    """The endpoint on a free port, ended and waited for at the end."""
    out, stop = io.StringIO(), asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Notice(io.StringIO):
        def flush(self) -> None:
            ready.set_result(self.getvalue())

    notice = Notice()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(0, status, delay, as_json, out, stop, notice))
        try:
            said = await asyncio.wait_for(ready, 10)
            yield Running(int(said.split("127.0.0.1:")[1].split("/")[0]), out, notice, stop)
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


def request(body: bytes, kind: str = "application/json", more: str = "", path: str = "/hook") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode("latin-1") + body


async def say(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    """Sends and returns all that comes back; the request should ask for the connection's end."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


CLOSE = "Connection: close\r\n"


def check(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(main())


def test_a_json_object_is_taken_and_told_as_one_line():
    async def test() -> None:
        async with running() as it:
            answer = await say(it.port, request(json.dumps(EVENT).encode(), more=CLOSE + "Webhook-Id: e-7\r\n"))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.partition(b"\r\n\r\n")[2] == b"ok\n"
            (line,) = it.lines()
            assert set(line) == {"path", "headers", "events", "status"}
            assert (line["path"], line["events"], line["status"]) == ("/hook", [EVENT], 200)
            assert isinstance(line["headers"], dict) and line["headers"]["webhook-id"] == "e-7"

    check(test)


def test_an_array_and_a_form_are_understood():
    async def test() -> None:
        async with running() as it:
            await say(it.port, request(json.dumps([EVENT, EVENT]).encode(), more=CLOSE))
            form = b"id=7&email=user%40example.com&bounce_text=&click_url=%C3%A9+x"
            await say(it.port, request(form, "application/x-www-form-urlencoded; charset=utf-8", CLOSE))
            array, form_line = it.lines()
            assert array["events"] == [EVENT, EVENT]
            assert form_line["events"] == [
                {"id": "7", "email": "user@example.com", "bounce_text": "", "click_url": "é x"}
            ]

    check(test)


def test_many_requests_on_one_connection_are_answered_in_turn():
    async def test() -> None:
        async with running() as it:
            several = b"".join(request(b'{"id":%d}' % n) for n in range(50)) + request(b'{"id":50}', more=CLOSE)
            answer = await say(it.port, several)
            assert answer.count(b"HTTP/1.1 200 OK\r\n") == 51
            assert [line["events"] for line in it.lines()] == [[{"id": n}] for n in range(51)]

    check(test)


def test_a_delay_holds_every_answer_back_and_keeps_their_order():
    async def test() -> None:
        async with running(delay=0.05) as it:
            began = asyncio.get_running_loop().time()
            answer = await say(it.port, request(b"{}") + request(b"{}") + request(b"{}", more=CLOSE))
            assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
            assert asyncio.get_running_loop().time() - began >= 0.15

    check(test)


@pytest.mark.parametrize("status", [200, 204, 304, 404, 410, 429, 500, 503, 599])
def test_it_answers_with_the_status_asked_for(status: int):
    async def test() -> None:
        async with running(status=status) as it:
            answer = await say(it.port, request(b"{}", more=CLOSE))
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            head, _, body = answer.partition(b"\r\n\r\n")
            if status in (204, 304):
                assert body == b""
            else:
                assert b"Content-Length: %d" % len(body) in head
            assert it.lines()[0]["status"] == status

    check(test)


def test_a_get_is_told_without_events():
    async def test() -> None:
        async with running() as it:
            assert b" 200 " in await say(it.port, b"GET /x?y=1 HTTP/1.0\r\n\r\n")
            head_only = await say(it.port, b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert head_only.endswith(b"\r\n\r\n")
            assert [(line["path"], line["events"]) for line in it.lines()] == [("/x?y=1", []), ("/", [])]

    check(test)


def test_a_client_that_waits_for_100_continue_gets_it():
    async def test() -> None:
        async with running() as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(request(b"{}", more=CLOSE + "Expect: 100-continue\r\n")[:-2])
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200 OK")
            writer.close()

    check(test)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_is_served(data: bytes, status: int):
    async def test() -> None:
        async with running() as it:
            assert b" %d " % status in (await say(it.port, data))[:16]
            assert b" 200 " in await say(it.port, request(b"{}", more=CLOSE))
            assert len(it.lines()) == 1

    check(test)


def test_a_body_beyond_the_limit_is_refused_and_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint, "BODY_LIMIT", 1_000)
    monkeypatch.setattr(endpoint, "BODIES_LIMIT", 1_500)

    async def test() -> None:
        async with running() as it:
            for _ in range(5):
                assert b" 413 " in await say(it.port, request(b"x" * 1_001, more=CLOSE))
            assert b" 200 " in await say(it.port, request(b"x" * 1_000, more=CLOSE))
            # One that stands there with most of what all may have leaves no room for a second.
            _, slow = await asyncio.open_connection("127.0.0.1", it.port)
            slow.write(request(b"x" * 1_000)[:-1])
            await slow.drain()
            while b" 503 " not in await say(it.port, request(b"x" * 900, more=CLOSE)):
                await asyncio.sleep(0)
            slow.close()
            while b" 200 " not in await say(it.port, request(b"x" * 900, more=CLOSE)):
                await asyncio.sleep(0)

    check(test)


def test_more_connections_than_it_has_room_for_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint, "CONNECTIONS", 2)

    async def test() -> None:
        async with running() as it:
            held = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(2)]
            for reader, writer in held:
                writer.write(request(b"{}"))
                await asyncio.wait_for(reader.readuntil(b"ok\n"), 10)
            assert b" 503 " in await say(it.port, b"")
            for _, writer in held:
                writer.close()

    check(test)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202egnp.exe\x00\x7f"


def test_nothing_from_outside_reaches_the_terminal_as_a_control_character():
    async def test() -> None:
        for as_json in (True, False):
            async with running(as_json=as_json) as it:
                event = {"event_type": HOSTILE, HOSTILE: HOSTILE, "deep": {HOSTILE: [HOSTILE]}}
                await say(it.port, request(json.dumps(event).encode(), more=CLOSE))
                await say(it.port, request(HOSTILE.encode(), "text/plain", CLOSE))
                raw = (
                    b"GET / HTTP/1.1\r\nWebhook-Id: \x9b1\xc2\x9b2\r\nContent-Type: \xc2\x9b31m\r\n"
                    + CLOSE.encode()
                    + b"\r\n"
                )
                assert b" 200 " in await say(it.port, raw)
                printed = it.out.getvalue()
                assert "owned" in printed
                assert [c for c in printed if not c.isprintable() and c != "\n"] == []

    check(test)


def test_the_readable_form_shows_what_has_a_value():
    async def test() -> None:
        async with running(as_json=False) as it:
            assert f"http://127.0.0.1:{it.port}/" in it.notice.getvalue()
            await say(it.port, request(json.dumps(EVENT).encode(), more=CLOSE + "Webhook-Id: e-7\r\n"))
            printed = it.out.getvalue()
            for text in ("POST /hook", "application/json", "webhook-id: e-7", "bounce_all  user@example.com  7", "200"):
                assert text in printed
            assert "bounce_code  10" in printed
            assert "listid" not in printed
            await say(it.port, request(json.dumps([EVENT] * 100).encode(), more=CLOSE))
            assert "and 80 more" in it.out.getvalue()
            await say(it.port, request(b"{half", more=CLOSE))
            assert "not understood: {half" in it.out.getvalue()

    check(test)


def test_deep_nesting_and_strange_numbers_do_no_harm():
    async def test() -> None:
        for as_json in (True, False):
            async with running(as_json=as_json) as it:
                for body in (
                    b'{"a":' * 100_000,
                    b'{"a":' * 900 + b"1" + b"}" * 900,
                    b'{"a":1e999}',
                    b'{"a":"\\ud800"}',
                    b"",
                ):
                    assert b" 200 " in await say(it.port, request(body, more=CLOSE))

    check(test)


@given(st.binary(max_size=300), st.sampled_from(["application/json", "application/x-www-form-urlencoded", ""]))
def test_any_body_is_understood_or_not_but_raises_nothing(body: bytes, kind: str):
    events = events_in(Request("POST", "/", {"content-type": kind}, body))
    assert events is None or all(type(event) is dict for event in events)


@given(st.text())
def test_what_is_visible_prints(text: str):
    assert visible(text).isprintable()


def test_a_taken_port_is_told_with_what_to_do():
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CannotListen, match=f"port {port} is taken: choose another with --port"):
                await serve(port, 200, 0.0, True, io.StringIO(), asyncio.Event())
        for port in (-1, 65_536):
            with pytest.raises(CannotListen, match="is no port"):
                await serve(port, 200, 0.0, True, io.StringIO(), asyncio.Event())
        with pytest.raises(CannotListen, match="99 is no status"):
            await serve(0, 99, 0.0, True, io.StringIO(), asyncio.Event())

    check(test)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_0(which: signal.Signals):
    code = (
        "import sys; from mailvane.operations.listen import listen; sys.exit(listen(0, 200, 3600.0, False, sys.stdout))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split("127.0.0.1:")[1].split("/")[0])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(request(b"{}"))
                assert process.stdout.readline().startswith("POST /hook"), "told before it is answered"
                os.kill(process.pid, which)
                assert process.wait(10) == 0
        finally:
            process.kill()


def test_a_reader_that_goes_away_ends_it():
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    async def test() -> None:
        stop, notice = asyncio.Event(), io.StringIO()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(0, 200, 0.0, True, Gone(), stop, notice))
            while not notice.getvalue():
                await asyncio.sleep(0)
            port = int(notice.getvalue().split("127.0.0.1:")[1].split("/")[0])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"{}"))
            await asyncio.wait_for(stop.wait(), 10)
            writer.close()

    check(test)
