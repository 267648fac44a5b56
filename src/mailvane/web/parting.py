"""How a connection ends: on time, with an answer that says why if it is its turn, and without loss of that answer.

To close at once would make TCP throw away an answer that the client has not read yet, so the connection is read for a
moment without being looked at, and is cut then.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mailvane.web.answers import Problem
from mailvane.web.bounds import Bounds, Phase, Sizes


class Listener(Protocol):
    """What a connection asks of the door that it came in by."""

    bounds: Bounds
    state: ServerState

    def has_room(self, now: float) -> bool: ...

    @property
    def overrun(self) -> bool: ...


class PartingConnection(HttpToolsProtocol):
    """A connection that can be refused and ended; what comes on it is `Connection`'s."""

    def __init__(self, door: Listener, config: Config, app_state: dict[str, Any]) -> None:
        super().__init__(config, door.state, app_state, asyncio.get_running_loop())
        self.phase = Phase.IDLE
        self.waiting_since = self.loop.time()
        self.leaving = False
        self._door = door
        self._bounds = door.bounds
        self._sizes = Sizes(door.bounds)
        self._timer: asyncio.TimerHandle | None = None
        self._timed = Phase.WORKING
        self._owed: tuple[HTTPStatus, str] | None = None
        """A refusal that has its turn after the answers to what came before."""

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
                    self._owed, self.leaving, self._sizes.wire = (status, why), True, 0
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
        self._sizes.wire = 0
        self._unset_keepalive_if_required()
        self._forget_timer()
        self._timer = self.loop.call_later(seconds, self.cut)

    def cut(self) -> None:
        """Ends it at once."""
        self._forget_timer()
        self.transport.abort()
