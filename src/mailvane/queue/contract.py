"""What a queue promises, whatever stands behind it. One conformance suite (tests/queue) holds every store to it.

Ids are below 2^63, never used twice, ascending in the order in which rows become visible, with gaps of any size. The
presence of a row is the truth: what is there has not been delivered. A store has an *epoch*, a short random word;
receivers tell events apart by epoch and id.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import msgspec

from mailvane.events.codecs import StoredForm

APPEND_LIMIT = 1_000
"""Events that one `append` may have."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row as the processor reads it; `body` and `extra` as in mailvane.events.codecs, `attempts` failed so far."""

    id: int
    event_type: str
    mail_class: str
    valued: int
    body: str
    extra: str
    attempts: int = 0


class Place(msgspec.Struct, frozen=True, gc=False):
    """What routing needs of a row, and no more."""

    id: int
    event_type: str
    mail_class: str


class DuePlace(msgspec.Struct, frozen=True, gc=False):
    """A deferred event and when it is due (wall clock, milliseconds)."""

    id: int
    event_type: str
    mail_class: str
    due: int
    attempts: int


class Failed(msgspec.Struct, frozen=True, gc=False):
    """A failed attempt as it is remembered: how many so far, when the next is due (wall clock, milliseconds), why."""

    id: int
    attempts: int
    due: int
    error: str


@dataclass(frozen=True)
class Settlement:
    """What became of a batch, to be made durable in one transaction."""

    delivered: Sequence[int] = ()
    dropped: Sequence[int] = ()
    failed: Sequence[Failed] = ()


@dataclass(frozen=True)
class Settled:
    """How many rows a settlement removed (a row deleted by hand meanwhile is not counted)."""

    delivered: int
    dropped: int


@dataclass(frozen=True)
class Books:
    """The counters that must balance: recorded = delivered + dropped + deleted + waiting."""

    recorded: int
    delivered: int
    dropped: int
    deleted: int

    @property
    def waiting(self) -> int:
        return self.recorded - self.delivered - self.dropped - self.deleted


@dataclass(frozen=True)
class Filter:
    """Which events a person means. Empty matches all; all given conditions must hold.

    Times are seconds since the Unix epoch, `since` included, `until` not. `email` may have `*` as a wildcard.
    """

    ids: tuple[int, ...] = ()
    event_types: tuple[str, ...] = ()
    email: str = ""
    listid: str = ""
    since: int | None = None
    until: int | None = None
    deferred: bool | None = None


class Listed(msgspec.Struct, frozen=True):
    """A row with what is known of its attempts, for people. Times are of the wall clock, in milliseconds."""

    id: int
    event_type: str
    mail_class: str
    recorded: int
    valued: int
    body: str
    extra: str
    attempts: int = 0
    due: int = 0
    first_failed: int = 0
    last_failed: int = 0
    error: str = ""


class Queue(Protocol):
    """Every method raises QueueUnavailable when the store cannot do it now; nothing half-done stays."""

    epoch: str

    async def append(self, events: Sequence[StoredForm], token: str = "") -> list[int]:
        """Adds events and returns their ids when they are on disk.

        After QueueUnavailable the outcome may be unknown; repeated with the same token within two minutes nothing is
        added twice. An id of 0: the event's type was switched off by the time it came, and it was not added.
        """
        ...

    async def books(self) -> Books: ...

    async def oldest(self) -> int | None:
        """When the oldest row was recorded (wall clock, milliseconds); None for an empty queue."""
        ...

    async def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        """Rows that match, in the order of ids, above `after`: resumable by id, without a snapshot."""
        ...

    async def count(self, which: Filter) -> int: ...

    async def delete(self, which: Filter) -> int:
        """Removes what matches as a person would; counted as deleted."""
        ...

    async def retry(self, which: Filter, now: int) -> int:
        """Makes deferred events that match due at `now` (wall clock, milliseconds); returns how many it moved."""
        ...

    async def kept(self, name: str) -> str | None:
        """A value that must survive restarts: the last good configuration, the last known switches."""
        ...

    async def keep(self, name: str, value: str) -> None: ...

    async def close(self) -> None: ...


class OwnedQueue(Queue, Protocol):
    """A queue as the process sees it that owns delivery."""

    term: int
    """Rises with each owner; a settlement that carries an older one is refused whole."""

    async def read(self, after: int, limit: int) -> list[Row]:
        """Rows above `after` in the order of ids that are not deferred, with their bodies."""
        ...

    async def scan(self, after: int, limit: int) -> list[Place]:
        """As `read`, routing columns alone: for looking for some rows among many."""
        ...

    async def fetch(self, ids: Sequence[int]) -> list[Row]:
        """The rows of these ids that are still there, deferred or not."""
        ...

    async def still_there(self, ids: Sequence[int]) -> Set[int]:
        """Which of these ids are still there."""
        ...

    async def due(self, after: tuple[int, int], now: int, limit: int) -> list[DuePlace]:
        """Deferred events due by `now` (wall clock, milliseconds), in the order of (due, id), above `after`."""
        ...

    async def next_due(self) -> int | None: ...

    async def census(self) -> list[tuple[str, str, int]]:
        """How many deferred events there are, by type and mail class."""
        ...

    async def pull_back(self, now: int, latest: int, instead: int) -> int:
        """What a wall clock that was set back would put off; returns how many retries it moved.

        A failure that lies after `now` shows how far the clock went back: its retry comes earlier by as much. What is
        due after `latest` all the same becomes due at `instead`. All in milliseconds.
        """
        ...

    async def upkeep(self) -> None:
        """What has to be done now and then, a minute apart: see the store."""
        ...

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        """When it returns, removed ids are gone and failures remembered. Repeating it changes nothing."""
        ...

    async def last_id(self) -> int: ...
