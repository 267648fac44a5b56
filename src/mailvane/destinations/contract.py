"""What every destination promises: events in, one outcome for each, each event answered exactly once.

`send` returns at once; `done` is called later, in the event loop's thread, with events and the outcome of each: those
of one batch, a part of them as soon as that part's outcome is certain, or those of several batches that were given the
same `done`. Every event is answered, whatever happens, `close` included, and `done` never raises through the
destination.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """An event on its way: the queue's row, and which attempt this is (from 1).

    `body` holds the members of the legacy object without `id`, `extra` those of the modern object alone;
    `valued` is how many bytes of `body` (in UTF-8) have a value. See mailvane.events.codecs.
    """

    id: int
    attempt: int
    body: str
    extra: str
    valued: int


class Failure(StrEnum):
    """The class of a failed attempt; the processor's tables go by it."""

    TIMEOUT = "timeout"
    CONNECT = "connect_error"
    DNS = "dns_error"
    TLS = "tls_error"
    ADDRESS = "address_refused"
    PROTOCOL = "protocol_error"
    RESET = "connection_lost"
    REDIRECT = "redirect"
    THROTTLED = "throttled"
    """429 and 503."""
    BUSY = "busy"
    """408, 425, 502, 504: the endpoint, or what stands before it, is not up to it now."""
    SERVER = "server_error"
    """Other 5xx."""
    REFUSED = "config_problem"
    """Other 4xx: this request will not do, most often a wrong address or credential in the configuration."""
    GONE = "gone"
    """410."""
    EVENT = "event_refused"
    """This event alone will not do (too long for a column, a duplicate, a wrong type); says nothing about the rest."""
    UNWRITABLE = "cannot_write"
    """A file: no room, no permission, or not the file that it should be."""
    NOT_OK = "not_ok"
    """Form: 2xx, but the answer lacks the word `ok`."""
    CLOSED = "closed"
    """The destination was closed before an answer came; says nothing about the endpoint."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one event in one attempt.

    `status` is the HTTP status (0 where there was none); `text` what the other side said, for people, at most 1,000
    characters, clean of control characters and secrets; `retry_after` the raw value of that header ("" if absent);
    `seconds` how long the attempt took on the monotonic clock.
    """

    failure: Failure | None
    status: int = 0
    text: str = ""
    retry_after: str = ""
    seconds: float = 0.0

    @property
    def delivered(self) -> bool:
        return self.failure is None


Done = Callable[[Sequence[Outgoing], Sequence[Outcome]], None]


@dataclass(frozen=True)
class HttpPost:
    """An HTTP endpoint as the configuration names it: what makes two destinations the same one.

    `json`: the legacy object, any 2xx is success; else form fields, and the answer must contain the word `ok`.
    `keep_alive`: how many connections at most are kept and used again; None: as many as there are.
    `url` and `user_agent` may be `@file:` or `@env:` references: secrets are read when a connection is made.
    """

    url: str
    json: bool = True
    keep_alive: int | None = None
    user_agent: str = ""


class Database(StrEnum):
    """The databases that a statement can go to, as the legacy configuration names them."""

    MYSQL = "mysql"
    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"
    MSSQL = "mssql"


@dataclass(frozen=True)
class SqlStatement:
    """A statement for each event, in the operator's own database.

    `dsn` is a URL or a Perl DBI string, `sql` has a `?` for each name in `bind`. `dsn`, `username` and `password` may
    be `@file:` or `@env:` references: secrets are read when a connection is made.
    """

    database: Database
    dsn: str = field(repr=False)
    sql: str
    bind: tuple[str, ...] = ()
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class LogFile:
    """A file of one JSON object a line.

    It is rotated when it has `rotate_bytes` (0: never), and with `rotate_daily` when a day (UTC) is over; `keep` older
    ones stay, compressed when `compress` is set.
    """

    filename: str
    rotate_bytes: int = 0
    rotate_daily: bool = False
    keep: int = 7
    compress: bool = True


Target = HttpPost | SqlStatement | LogFile
"""What events are delivered to."""


class Destination(Protocol):
    """Something that events are delivered to."""

    batch_limit: int
    """Events that one attempt carries at most."""

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        """Starts delivering events, in as many attempts as it takes: never more outstanding than what `allow` said."""
        ...

    def allow(self, concurrency: int) -> None:
        """Tells how many attempts may be outstanding from now on; connections beyond are closed when they fall idle."""
        ...

    async def close(self) -> None:
        """Ends at once: what is outstanding is answered with `Failure.CLOSED`."""
        ...
