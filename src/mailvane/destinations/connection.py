"""One connection to an endpoint, as the event loop sees it: an answer's bytes go in, a verdict goes to the pool.

This is the hot path: an answer that came whole and was seen before costs one look into a dictionary.
"""

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from mailvane.destinations import tls
from mailvane.destinations.contract import Done, Failure, Outgoing
from mailvane.destinations.http_protocol import AnswerReader, Verdict
from mailvane.destinations.http_request import Endpoint, RequestForm


class Pool(Protocol):
    """What a connection tells, and to whom. `answers`: what answers that come in one piece mean."""

    view: memoryview
    answers: dict[bytes, Verdict]

    def reader(self) -> AnswerReader: ...

    def remember(self, data: bytes, verdict: Verdict) -> None:
        """An answer came in one piece and means this."""
        ...

    def answered(self, connection: "Connection", verdict: Verdict) -> None:
        """What is in flight on the connection has its verdict. Only the first counts."""
        ...

    def ended(self, connection: "Connection") -> None:
        """The other side closed a connection while a request was on it, in good order."""
        ...

    def lost(self, connection: "Connection", error: Exception | None) -> None:
        """A connection broke while a request was on it."""
        ...

    def discard(self, connection: "Connection") -> None:
        """Closes a connection on which nothing is in flight."""
        ...


class Connection(asyncio.Protocol):
    """A connection, and what is in flight on it (`event` is None when it is free).

    The states of a request: `queued`, it waits for the end of the loop's turn; `expects`, it is out, and nothing of its
    answer has come; then `reader` has the beginning of the answer, or `verdict` is what it means, told at the end of
    the turn.

    `kept`: it may carry more than one request; `settled`: it has, and nothing has changed since, so that nothing needs
    to be looked at before the next; `gone`: it cannot be used again; `unsent`: how many bytes of the request have not
    gone out yet. There is never more than one request to write, so the transport's own buffer is bounded by it, and
    writing need not be paused.
    """

    # fmt: off
    __slots__ = (
        "answers", "done", "event", "expects", "form", "freed", "gone", "kept", "pool", "queued", "reader", "request",
        "served", "settled", "started", "to", "transport", "unsent", "verdict", "view", "write",
    )
    # fmt: on

    transport: asyncio.Transport
    write: Callable[[bytes], None]
    unsent: Callable[[], int]
    done: Done

    def __init__(self, pool: Pool, to: Endpoint, form: RequestForm) -> None:
        self.pool = pool
        self.view = pool.view
        self.answers = pool.answers
        self.to = to
        self.form = form
        self.request = form.request
        self.event: Outgoing | None = None
        self.reader: AnswerReader | None = None
        self.verdict: Verdict | None = None
        self.gone = False
        self.queued = False
        self.expects = False
        self.started = 0.0
        self.freed = 0.0
        self.served = 0
        self.kept = False
        self.settled = False

    def stale(self) -> bool:
        """Whether the other side has closed this free connection, or sent something that nobody asked for."""
        if self.gone or self.transport.is_closing():
            return True
        ready = select.poll()
        ready.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(ready.poll(0))

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.write = self.transport.write
        self.unsent = self.transport.get_write_buffer_size

    def data_received(self, data: bytes) -> None:
        verdict = self.answers.get(data) if self.expects else None
        if verdict is None:
            verdict = self._read(data)
        if verdict is not None:
            self.pool.answered(self, verdict)

    def _read(self, data: bytes) -> Verdict | None:
        if self.reader is not None and self.verdict is None:
            return self.reader.feed(data)
        if not self.expects:
            self._unasked()
            return None
        self.expects = False
        self.reader = self.pool.reader()
        verdict = self.reader.feed(data)
        if verdict is not None and verdict.reusable:
            self.pool.remember(data, verdict)
        return verdict

    def _unasked(self) -> None:
        """Something came that no request of ours has asked for: whatever comes next could not be trusted either."""
        self.gone = True
        if self.queued:
            self.pool.ended(self)
        elif self.event is None:
            self.pool.discard(self)

    def eof_received(self) -> None:
        self.gone = True
        if self.event is None:
            self.pool.discard(self)
        else:
            self.pool.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self.event is None:
            self.pool.discard(self)
        elif isinstance(exc, ssl.SSLError) and self.reader is None:
            # With TLS 1.3 a server that wants a client certificate says so only after the handshake.
            self.pool.answered(self, Verdict(Failure.TLS, 0, f"{self.to.host}: {tls.reason(exc)}"))
        else:
            self.pool.lost(self, exc)


class BufferedConnection(Connection, asyncio.BufferedProtocol):
    """The same where each read would else begin with a new buffer of 256 KiB: the standard library's loop, and TLS.

    (uvloop without TLS has a buffer of its own, and makes bytes of the right size.)
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        # One buffer for all: the loop fills it and calls buffer_updated before it does anything else.
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.view[:nbytes]))
