"""uvicorn's HTTP/1.1 with bounds: what a client that means no good, or is merely broken, can hold of this process.

A connection is in one of four phases. Three of them wait for the client, and each has its time; in the fourth we work,
and take as long as we take.

    idle ──► head ──► body ──► working ──► idle
      │        │        │
      closed   408      408      at the end of their time

What passes a bound (bounds.py) gets its answer and is ended (parting.py).
"""

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from mailvane.web.bounds import PastBounds, Phase
from mailvane.web.parting import Listener, PartingConnection


class Connection(PartingConnection):
    """One connection. What is not said here is uvicorn's."""

    def __init__(self, door: Listener, config: Config, app_state: dict[str, Any]) -> None:
        super().__init__(door, config, app_state)
        self.timeout_keep_alive = door.bounds.idle_seconds
        self._stalled: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None
        self._without_offer = b""

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
            self._sizes.wire += len(data)
            if self._sizes.wire > self._bounds.wire_bytes:
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
            match error.__context__:  # what was raised in a callback of ours
                case PastBounds() as past:
                    self._refuse(past.status, past.why)
                case MemoryError():
                    self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there is no memory for this now")
                case _:
                    self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
            return
        if before is self.phase:  # it goes on
            self._sizes.wire += len(data)
        if self.phase in {Phase.HEAD, Phase.BODY}:
            in_body = self.phase is Phase.BODY
            try:
                self._sizes.judge_wire(in_body)
            except PastBounds as past:
                self._refuse(past.status, past.why)
            else:
                self._wait(self.phase, self._bounds.body_seconds if in_body else self._bounds.head_seconds)

    # What the parser tells.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._sizes.begin()
        self._forget_timer()
        self._enter(Phase.HEAD)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._sizes.head(len(url), len(self.headers))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._sizes.head(len(name) + len(value) + 4, len(self.headers))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # pyright: ignore[reportOptionalMemberAccess]
            self._without_offer = self._head_without_offer()
            return
        if len(self.pipeline) >= self._bounds.pipelined:
            raise PastBounds(HTTPStatus.TOO_MANY_REQUESTS, "too many requests without waiting for answers")
        for name, value in self.headers:
            if name == b"content-length":
                self._sizes.announced(int(value))
        super().on_headers_complete()
        self._unset_keepalive_if_required()
        self._sizes.wire = 0
        self._enter(Phase.BODY)

    def _head_without_offer(self) -> bytes:
        assert self.parser is not None
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise PastBounds(HTTPStatus.BAD_REQUEST, "this is no proxy")
        lines = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, b"".join(lines))

    def on_body(self, body: bytes) -> None:
        self._sizes.body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._without_offer:
            return
        super().on_message_complete()
        self._forget_timer()
        self._sizes.wire = 0
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
