"""Talking to the process that owns a SQLite queue: its HTTP API, on the Unix socket in home."""

import http.client
import socket
from collections.abc import Sequence

import msgspec

from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.sockets import within_limit

TIMEOUT = 60.0
POST_EVENTS = 1_000
POST_BYTES = 1024 * 1024


class NobodyThere(QueueUnavailable):
    """No process listens on the socket."""


class OwnerLost(QueueUnavailable):
    """The connection to the owner broke: whether it did what it was asked is unknown."""


class NotThere(QueueUnavailable):
    """The owner answered that it is not there."""


class _Result(msgspec.Struct):
    id: int = 0
    disabled: str = ""


class _Recorded(msgspec.Struct):
    results: list[_Result]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(self.timeout)
        try:
            with within_limit(self._path) as path:
                sock.connect(path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class OwnerClient:
    """One connection to the owner's API, opened when needed. Not safe for threads, and not across fork."""

    def __init__(self, socket_path: str, timeout: float = TIMEOUT) -> None:
        self._path = socket_path
        self._timeout = timeout
        self._connection: _UnixConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        """The answer's body. Raises NobodyThere, or QueueUnavailable with what the owner said or what went wrong."""
        status, answer = self._exchange(method, path, body, content_type)
        if status >= 300:
            raise (NotThere if status == 404 else QueueUnavailable)(_said(answer, status))
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, content_type: str) -> tuple[int, bytes]:
        if self._connection is None:
            connection = _UnixConnection(self._path, self._timeout)
            try:
                connection.connect()
            except (FileNotFoundError, ConnectionRefusedError) as e:
                raise NobodyThere(f"nobody listens on {self._path}") from e
            except OSError as e:
                raise QueueUnavailable(f"{self._path}: {e.strerror or e}") from e
            self._connection = connection
        try:
            self._connection.request(method, path, body, {"Content-Type": content_type} if body is not None else {})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as e:
            self.close()
            raise OwnerLost(f"the process that owns the queue went away ({e!r}): whether it did it is unknown") from e

    def append(self, events: Sequence[StoredForm], token: str) -> list[int]:
        """As a queue's `append`, by POST /v1/events; the owner's door and switches judge again."""
        lines = b"\n".join([_as_event(e) for e in events])
        path = f"/v1/events?token={token}" if token else "/v1/events"
        answer = msgspec.json.decode(self.request("POST", path, lines, "application/x-ndjson"), type=_Recorded)
        return [r.id for r in answer.results]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _as_event(form: StoredForm) -> bytes:
    members = form.body.encode()[: form.valued]
    return b"{" + (members + b"," + form.extra.encode() if form.extra else members) + b"}"


def _said(answer: bytes, status: int) -> str:
    try:
        return str(msgspec.json.decode(answer, type=dict[str, object])["error"])
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return f"the process that owns the queue answered {status}"
