"""An HTTP(S) endpoint that a test scripts request by request, and that keeps what arrived.

It runs on an event loop in a thread of its own. `answer` says what each request gets: a status, or one of the answers
below; by default 200 and `ok`. Conditions are awaited with `wait_for`, never by sleeping.
"""

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from support.certificates import Certificate
from support.ports import free_port

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """A request as it arrived. Header names are in lower case; `arrived` is time.monotonic()."""

    number: int
    connection: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    arrived: float
    head: bytes = field(repr=False)

    @property
    def webhook_id(self) -> str:
        return self.headers.get("webhook-id", "")

    @property
    def attempt(self) -> int:
        """The number of the attempt that the sender gave; 0 if it gave none."""
        return int(self.headers.get("mailvane-attempt", "0"))

    @property
    def events(self) -> list[dict[str, Any]]:
        """The body's event or events: JSON, or a form's fields as one event of texts."""
        if "form" in self.headers.get("content-type", ""):
            return [dict(parse_qsl(self.body.decode(), keep_blank_values=True))]
        document = json.loads(self.body)
        return document if isinstance(document, list) else [document]


@dataclass(frozen=True)
class Answer:
    """A whole answer, after `delay` seconds."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    close: bool = False


@dataclass(frozen=True)
class Never:
    """No answer, and the connection stays open until the client or the test ends it."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset (RST), after these bytes."""

    after: bytes = b""


@dataclass(frozen=True)
class Raw:
    """These bytes as they are, `pause` seconds between pieces (which may never end); then closed, or kept open."""

    pieces: Iterable[bytes]
    pause: float = 0.0
    close: bool = True


Outcome = int | Answer | Never | Reset | Raw
Script = Callable[[Request], Outcome | Awaitable[Outcome]]


class Endpoint:
    """Listens on 127.0.0.1 from construction until `close`; `stop` and `start` take it down and bring it back."""

    def __init__(
        self,
        answer: Script | Outcome = 200,
        *,
        certificate: Certificate | None = None,
        reads: bool = True,
        port: int | None = None,
    ) -> None:
        """`reads=False` accepts connections, reads nothing from them and holds them (no TLS handshake either)."""
        self.port = port or free_port()
        self.answer = answer
        self.requests: list[Request] = []
        self.answered: list[tuple[Request, int]] = []
        self.connections = 0
        self.open_connections = 0
        self._scripted: deque[Outcome] = deque()
        self._tls = certificate.server_context() if certificate and reads else None
        self._scheme = "https" if certificate else "http"
        self._reads = reads
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        # A client that is killed in the middle of a handshake is no news.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._going = asyncio.Event()
        self._going.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"endpoint-{self.port}", daemon=True)
        self._thread.start()
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    # What a test says

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def script(self, *outcomes: Outcome) -> None:
        """The next requests get these, in order, before `answer` is asked again."""
        with self._changed:
            self._scripted.extend(outcomes)

    def hold(self) -> None:
        """From now on requests are read and kept, and answered only after `release`."""
        self._on_loop(self._going.clear)

    def release(self) -> None:
        self._on_loop(self._going.set)

    def start(self) -> None:
        """Listens (again) on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(WAIT_SECONDS)

    def stop(self) -> None:
        """Refuses connections, and resets those that are open: the endpoint is down."""
        asyncio.run_coroutine_threadsafe(self._go_down(), self._loop).result(WAIT_SECONDS)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # What a test looks at

    def events(self, answered_only: bool = True) -> list[dict[str, Any]]:
        """The events that were answered 2xx (or all that arrived), in order, repeats included."""
        with self._changed:
            if answered_only:
                requests = [request for request, status in self.answered if 200 <= status < 300]
            else:
                requests = list(self.requests)
        return [event for request in requests for event in request.events]

    def wait_for(self, predicate: Callable[["Endpoint"], bool], timeout: float = WAIT_SECONDS) -> None:
        """Waits until the predicate holds; it is asked after each arrival, answer and (dis)connection."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self), timeout):
                raise AssertionError(
                    f"not so within {timeout} s: {len(self.requests)} requests arrived, {len(self.answered)} were"
                    f" answered, {self.open_connections} of {self.connections} connections are open"
                )

    def wait_for_requests(self, count: int, timeout: float = WAIT_SECONDS) -> list[Request]:
        self.wait_for(lambda endpoint: len(endpoint.requests) >= count, timeout)
        return list(self.requests)

    def wait_for_answers(self, count: int, timeout: float = WAIT_SECONDS) -> list[tuple[Request, int]]:
        self.wait_for(lambda endpoint: len(endpoint.answered) >= count, timeout)
        return list(self.answered)

    # On the loop's thread

    def _on_loop(self, call: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (call(), done.set()))
        done.wait(WAIT_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._connected, "127.0.0.1", self.port, ssl=self._tls, backlog=1024, limit=2**26
            )

    async def _go_down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            _reset(writer)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with self._changed:
            self.connections += 1
            self.open_connections += 1
            number = self.connections
            self._changed.notify_all()
        try:
            if self._reads:
                await self._serve(number, reader, writer)
            else:
                writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
                await asyncio.Event().wait()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)
            with self._changed:
                self.open_connections -= 1
                self._changed.notify_all()

    async def _serve(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await self._read(connection, reader)
            with self._changed:
                self.requests.append(request)
                scripted = self._scripted.popleft() if self._scripted else None
                self._changed.notify_all()
            await self._going.wait()
            outcome = scripted if scripted is not None else await self._asked(request)
            match outcome:
                case int():
                    stays = await self._write(request, writer, Answer(outcome))
                case Answer():
                    stays = await self._write(request, writer, outcome)
                case Never():
                    await reader.read()  # until the client closes
                    stays = False
                case Reset(after):
                    writer.write(after)
                    await writer.drain()
                    _reset(writer)
                    stays = False
                case Raw(pieces, pause, close):
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(pause)
                    stays = not close
            if not stays:
                return

    async def _asked(self, request: Request) -> Outcome:
        if not callable(self.answer):
            return self.answer
        outcome = self.answer(request)
        return await outcome if isinstance(outcome, Awaitable) else outcome

    async def _read(self, connection: int, reader: asyncio.StreamReader) -> Request:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await _chunks(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Request(len(self.requests) + 1, connection, method, path, headers, body, time.monotonic(), head)

    async def _write(self, request: Request, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        if answer.delay:
            await asyncio.sleep(answer.delay)
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        if answer.close:
            headers["connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        # Noted before it is written: a client that acts on the answer must find it noted.
        with self._changed:
            self.answered.append((request, answer.status))
            self._changed.notify_all()
        writer.write(f"HTTP/1.1 {answer.status} Said\r\n{lines}\r\n".encode("latin-1") + answer.body)
        await writer.drain()
        return not answer.close


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return bytes(body)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN, as a host that went away does."""
    connected = writer.get_extra_info("socket")
    if connected is not None:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
