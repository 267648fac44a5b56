"""uvicorn's HTTP/1.1 with bounds: what a client that means no good, or is merely broken, can hold of this process.

A connection is in one of four phases. Three of them wait for the client, and each has its time; in the fourth we work,
and take as long as we take.

    idle ──► head ──► body ──► working ──► idle
      │        │        │
      closed   408      408      at the end of their time

Sizes are counted in bytes as they come, so that chunks of one byte, endless trailers or a head without an end count
too. What passes a bound gets its answer, is then read for a moment without being looked at (to close at once would
make TCP throw the answer away), and is cut.
"""

import asyncio
import resource
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from mailvane.web.answers import Problem


@dataclass(frozen=True)
class Bounds:
    """What one listener gives its clients; times in seconds, sizes in bytes."""

    connections: int = 256
    head_bytes: int = 64 * 1024
    headers: int = 100
    body_bytes: int = 1024 * 1024
    wire_bytes: int = 4 * 1024 * 1024
    """What a body may have as it comes, with what surrounds its chunks."""
    pipelined: int = 16
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: int = 30
    """Without a request, and without fetching an answer."""
    parting_seconds: float = 2.0
    """How long a connection that was refused is still read."""
    patience: float = 1.0
    """How long a client may keep us waiting before it has to make room for a new one, when there are too many."""


class Phase(Enum):
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    WORKING = "working"


class _PastBounds(Exception):
    """Raised inside the parser's callbacks to stop it; what is wrong stands in the connection."""


class Door:
    """One listener's connections: how many there may be, and who goes when there are more."""

    def __init__(self, config: Config, bounds: Bounds, local: bool) -> None:
        self.bounds = bounds
        self.state = ServerState()
        self._config = config
        self._app_state = {"local": local}
        # The rest of the descriptors is for the queue and the destinations.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = bounds.connections if files == resource.RLIM_INFINITY else min(bounds.connections, files // 3)

    def connection(self) -> "Connection":
        return Connection(self, self._config, self._app_state)

    @property
    def connections(self) -> list["Connection"]:
        return [c for c in self.state.connections if isinstance(c, Connection)]

    def has_room(self, now: float) -> bool:
        """Whether the connection that just came may stay; one that has kept us waiting for long goes for it."""
        if len(self.state.connections) <= self._most:
            return True
        staying = [c for c in self.connections if not c.leaving]
        if len(staying) <= self._most:
            return True
        waiting = [c for c in staying if c.phase is not Phase.WORKING]
        slowest = min(waiting, key=lambda c: c.waiting_since, default=None)
        if slowest is None or now - slowest.waiting_since < self.bounds.patience:
            return False
        slowest.cut()
        return True

    @property
    def overrun(self) -> bool:
        """Whether there are so many that one cannot even be told so."""
        return len(self.state.connections) > self._most + self._most // 4


class Connection(HttpToolsProtocol):
    """One connection. What is not said here is uvicorn's."""

    def __init__(self, door: Door, config: Config, app_state: dict[str, Any]) -> None:
        super().__init__(config, door.state, app_state, asyncio.get_running_loop())
        self.phase = Phase.IDLE
        self.waiting_since = self.loop.time()
        self._door = door
        self._bounds = door.bounds
        self.timeout_keep_alive = door.bounds.idle_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._timed = Phase.WORKING
        self._stalled: asyncio.TimerHandle | None = None
        self._refusal = (HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
        self._answering: RequestResponseCycle | None = None
        self._without_offer = b""
        self._owed: tuple[HTTPStatus, str] | None = None
        """A refusal that has its turn after the answers to what came before."""
        self.leaving = False
        self._head = self._body = self._wire = 0

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._door.has_room(self.loop.time()):
            self._wait(Phase.HEAD, self._bounds.head_seconds)
        elif self._door.overrun:
            self.cut()
        else:
            self._write_refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; come back in a moment")
            self._leave(0.1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        self._unset_keepalive_if_required()
        self.resume_writing()
        if self._answering is not None and not self._answering.response_complete:
            # uvicorn tells only the last request that was sent ahead.
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it has to say (`nc -N`) still gets its answer."""
        if self.leaving or self.phase is not Phase.WORKING:
            return False
        self.cycle.keep_alive = False
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        # Who does not fetch an answer would keep it here, and the task that writes it, for ever.
        self._stalled = self.loop.call_later(self._bounds.idle_seconds, self.cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def data_received(self, data: bytes) -> None:
        if self.leaving:
            self._wire += len(data)
            if self._wire > self._bounds.wire_bytes:
                self.cut()
            return
        before = self.phase
        try:
            self.parser.feed_data(data)  # pyright: ignore[reportOptionalMemberAccess]  # None when all is over
        except httptools.HttpParserUpgrade as upgrade:
            # Java's HttpClient offers h2c with every request. We stay with HTTP/1.1, as RFC 9110, 7.8 allows; but to
            # the parser what follows the head is the other protocol, so a fresh one gets the request without it.
            self.parser = httptools.HttpRequestParser(self)
            head, self._without_offer = self._without_offer, b""
            self.data_received(head + data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, MemoryError):  # in a callback of ours: no fault of the client's
                self._refusal = (HTTPStatus.SERVICE_UNAVAILABLE, "there is no memory for this now")
            self._refuse(*self._refusal)
            return
        if before is self.phase:  # it goes on, and of some of it the parser never tells: what has no end yet
            self._wire += len(data)
        if self.phase is Phase.HEAD:
            if self._wire > self._bounds.head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._head_bound())
            else:
                self._wait(Phase.HEAD, self._bounds.head_seconds)
        elif self.phase is Phase.BODY:
            if self._wire > self._bounds.wire_bytes:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._body_bound())
            else:
                self._wait(Phase.BODY, self._bounds.body_seconds)

    # What the parser tells.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._head = self._body = self._wire = 0
        self._forget_timer()
        self._enter(Phase.HEAD)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # pyright: ignore[reportOptionalMemberAccess]
            self._without_offer = self._head_without_offer()
            return
        if len(self.pipeline) >= self._bounds.pipelined:
            raise self._past(HTTPStatus.TOO_MANY_REQUESTS, "too many requests without waiting for answers")
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self._bounds.body_bytes:
                raise self._past(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._body_bound())
        super().on_headers_complete()
        self._unset_keepalive_if_required()
        self._wire = 0
        self._enter(Phase.BODY)

    def _head_without_offer(self) -> bytes:
        assert self.parser is not None
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise self._past(HTTPStatus.BAD_REQUEST, "this is no proxy")
        lines = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, b"".join(lines))

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body > self._bounds.body_bytes:
            raise self._past(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._body_bound())
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._without_offer:
            return
        super().on_message_complete()
        self._forget_timer()
        self._wire = 0
        self._enter(Phase.IDLE if self.cycle.response_complete else Phase.WORKING)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._owed is not None and self.cycle.response_complete:
            self._write_refusal(*self._owed)
            self._owed = None
            self._hang_up()
        elif self.phase is Phase.WORKING and not self.pipeline and self.cycle.response_complete:
            self._enter(Phase.IDLE)
        if self.transport.is_closing():
            self._leave(self._bounds.idle_seconds)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def timeout_keep_alive_handler(self) -> None:
        # Somebody who does not fetch an answer would keep it here for ever if the connection waited for that.
        if self.transport.get_write_buffer_size():
            self.cut()
        else:
            super().timeout_keep_alive_handler()

    # Bounds.

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.waiting_since = self.loop.time()

    def _wait(self, phase: Phase, seconds: float) -> None:
        if self._timer is not None and self._timed is phase:
            return
        self._forget_timer()
        self._timed = phase
        self._timer = self.loop.call_later(seconds, self._late)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.phase is Phase.IDLE:  # it never began
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the {self.phase.value} of the request did not come in time")

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > self._bounds.head_bytes or len(self.headers) > self._bounds.headers:
            raise self._past(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._head_bound())

    def _past(self, status: HTTPStatus, why: str) -> _PastBounds:
        self._refusal = (status, why)
        return _PastBounds(why)

    def _head_bound(self) -> str:
        return f"a request's head may have {self._bounds.headers} headers and {self._bounds.head_bytes:,} bytes"

    def _body_bound(self) -> str:
        return f"a request may have {self._bounds.body_bytes:,} bytes; send the events in several"

    # Parting.

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answers what is being received, if it is its turn to be answered, and parts."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if self.phase is Phase.WORKING:  # rubbish after a good request, which gets its answer
            self._say_no_more()
            return
        if self.phase is not Phase.BODY:
            if cycle and not cycle.response_complete:  # an earlier request's answer is not there yet
                if status is HTTPStatus.TOO_MANY_REQUESTS:
                    self._owed, self.leaving, self._wire = (status, why), True, 0
                else:
                    self.cut()
                return
            self._write_refusal(status, why)
        elif self.pipeline or (cycle.response_started and not cycle.response_complete):
            self.cut()
            return
        elif not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            self._write_refusal(status, why)
        self._hang_up()

    def _hang_up(self) -> None:
        """Nothing more is said, and what still comes is not looked at."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._leave(self._bounds.parting_seconds)

    def _say_no_more(self) -> None:
        """Nothing more is read; when what is under way is answered, the connection ends."""
        self.cycle.keep_alive = False
        self.leaving = True

    def _write_refusal(self, status: HTTPStatus, why: str) -> None:
        body = msgspec.json.encode(Problem(why))
        again = "retry-after: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{again}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)

    def _leave(self, seconds: float) -> None:
        """The connection is over; whatever the client does, it is gone in so many seconds."""
        self.leaving = True
        self._wire = 0
        self._unset_keepalive_if_required()
        self._forget_timer()
        self._timer = self.loop.call_later(seconds, self.cut)

    def cut(self) -> None:
        """Ends it at once."""
        self._forget_timer()
        self.transport.abort()
