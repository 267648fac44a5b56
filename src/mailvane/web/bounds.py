"""What a client may have of this process: how many connections, how much, for how long; and what it has sent so far.

Sizes are counted in bytes as they come, so that chunks of one byte, endless trailers or a head without an end count
too.
"""

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus


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
    """What a connection waits for; in the last it is we who work."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    WORKING = "working"


class PastBounds(Exception):
    """A request is more than it may be; `status` and `why` are for its client."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Sizes:
    """What the request that is being received has had so far."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._head = self._body = 0
        self.wire = 0
        """Bytes that came since the parser last told of a step."""

    def begin(self) -> None:
        """Another request begins."""
        self._head = self._body = self.wire = 0

    def head(self, size: int, headers: int) -> None:
        """So much more of the head, which has so many headers now. Raises PastBounds."""
        self._head += size
        if self._head > self._bounds.head_bytes or headers > self._bounds.headers:
            raise self._head_too_large()

    def announced(self, length: int) -> None:
        """The length that the head gives the body. Raises PastBounds."""
        if length > self._bounds.body_bytes:
            raise self._body_too_large()

    def body(self, size: int) -> None:
        """So much more of the body. Raises PastBounds."""
        self._body += size
        if self._body > self._bounds.body_bytes:
            raise self._body_too_large()

    def judge_wire(self, in_body: bool) -> None:
        """Of some bytes the parser never tells: what has no end yet. Raises PastBounds."""
        if not in_body and self.wire > self._bounds.head_bytes:
            raise self._head_too_large()
        if in_body and self.wire > self._bounds.wire_bytes:
            raise self._body_too_large()

    def _head_too_large(self) -> PastBounds:
        most = f"{self._bounds.headers} headers and {self._bounds.head_bytes:,} bytes"
        return PastBounds(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request's head may have {most}")

    def _body_too_large(self) -> PastBounds:
        most = f"{self._bounds.body_bytes:,} bytes"
        return PastBounds(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {most}; send the events in several")
