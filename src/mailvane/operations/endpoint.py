"""The HTTP/1.1 of `mailvane listen`: takes any request, shows it, answers it as told.

For loopback, and bounded: connections, the size of a request, the size of all requests at once. The answer's body is
`ok` where the status is a success, which the form's rule wants.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

CONNECTIONS = 1_000
BODY_LIMIT = 16 * 1024 * 1024
BODIES_LIMIT = 64 * 1024 * 1024
"""Bytes of all requests that are being received."""
HEAD_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Request:
    """A request as it came. Names of headers are lowercased; one that came twice has its values joined by ", "."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Endpoint:
    """What all connections share: what to answer, when, and who is shown each request before that."""

    status: int
    delay: float
    show: Callable[[Request], None]

    def __post_init__(self) -> None:
        self.connections: set[Connection] = set()
        self.receiving = 0


def _answer(status: int, keep: bool, head: bool = False) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason}"]
    body = "" if status in (204, 304) else "ok\n" if status < 300 else f"{status} {reason}\n"
    if status != 204:
        lines += ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
    if not keep:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n" + ("" if head else body)).encode("ascii")


class Connection(asyncio.Protocol):
    """One connection. Requests are answered in the order in which they came, each after the delay."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._to_answer: deque[tuple[Request, bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0
        self._received = 0
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._endpoint.connections.add(self)
        if len(self._endpoint.connections) > CONNECTIONS:
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_body()
        self._endpoint.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:  # an upgrade, too: there is none here
            self._refused = self._refused or 400
        if self._refused:
            self._refuse(self._refused)

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._path = bytearray()
        self._headers: dict[str, str] = {}
        self._head = 0
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._path += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self._refused:
            return
        key, text = name.decode("latin-1").lower(), value.decode("utf-8", "backslashreplace")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if self._transport is not None and self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._received += len(body)
        self._endpoint.receiving += len(body)
        if self._received > BODY_LIMIT:
            self._refused = 413
        elif self._endpoint.receiving > BODIES_LIMIT:
            self._refused = 503
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        request = Request(
            self._parser.get_method().decode("latin-1"),
            self._path.decode("utf-8", "backslashreplace"),
            self._headers,
            b"".join(self._body),
        )
        self._forget_body()
        self._endpoint.show(request)
        self._to_answer.append((request, self._parser.should_keep_alive()))
        if self._timer is None:
            self._wait()

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_LIMIT:
            self._refused = 431

    def _forget_body(self) -> None:
        self._endpoint.receiving -= self._received
        self._received = 0
        self._body = []

    def _wait(self) -> None:
        if self._endpoint.delay > 0:
            # Who sends the next before this one is answered waits too: no more is read than one piece.
            if self._transport is not None:
                self._transport.pause_reading()
            self._timer = asyncio.get_running_loop().call_later(self._endpoint.delay, self._say)
        else:
            self._say()

    def _say(self) -> None:
        self._timer = None
        request, keep = self._to_answer.popleft()
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(_answer(self._endpoint.status, keep, request.method == "HEAD"))
        if not keep:
            self._transport.close()
        elif self._to_answer:
            self._wait()
        else:
            self._transport.resume_reading()

    def _refuse(self, status: int) -> None:
        self._forget_body()
        self._refused = status
        if self._transport is not None:
            self._transport.write(_answer(status, keep=False))
            self._transport.close()
