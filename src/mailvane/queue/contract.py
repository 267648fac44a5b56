"""What a queue promises, whatever stands behind it. One conformance suite (tests/queue) holds every store to it.

Ids are below 2^63, never used twice, ascending in the order in which rows become visible, with gaps of any size. The
presence of a row is the truth: what is there has not been delivered. A store has an *epoch*, a short random word;
receivers tell events apart by epoch and id.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import msgspec

from mailvane.events.codecs import StoredForm

APPEND_LIMIT = 1_000
"""Events that one `append` may have."""
REPLAY_LIMIT = 1_000
"""Events that one `replay` may have."""


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
    """A failed attempt as it is remembered: how many so far, when the next is due (wall clock, milliseconds), why.

    `status` is the HTTP status (0 where there was none), `seconds` how long it took.
    """

    id: int
    attempts: int
    due: int
    error: str
    status: int = 0
    seconds: float = 0.0


class Attempt(msgspec.Struct, frozen=True):
    """A failed attempt as people see it: which (from 1), when it ended (wall clock, milliseconds), what came of it."""

    number: int
    at: int
    seconds: float
    status: int
    error: str


ATTEMPTS_KEPT = 10
"""Failed attempts that are remembered of an event: the first, and the last nine."""
ATTEMPT_ERROR = 200
"""Characters of an attempt's error that are remembered; of the last one all stand in `Listed.error`."""


@dataclass(frozen=True)
class Settlement:
    """What became of a batch, to be made durable in one transaction."""

    delivered: Sequence[int] = ()
    dropped: Sequence[int] = ()
    failed: Sequence[Failed] = ()

    def in_slices(self, limit: int) -> "Iterator[Settlement]":
        """In parts of at most `limit` ids of each sort."""
        for at in range(0, max(len(self.delivered), len(self.dropped), len(self.failed)), limit):
            part = slice(at, at + limit)
            yield Settlement(self.delivered[part], self.dropped[part], self.failed[part])


@dataclass(frozen=True)
class Settled:
    """How many rows a settlement removed (a row deleted by hand meanwhile is not counted).

    `skipped`: ids that somebody else has locked, so that nothing was done about them: they stay held, and are settled
    again.
    """

    delivered: int
    dropped: int
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Books:
    """The counters that must balance: recorded = delivered + dropped + deleted + waiting.

    An event that is replayed counts as recorded once more, and as delivered when it is delivered again; `replayed` says
    how many of the recorded are such.
    """

    recorded: int
    delivered: int
    dropped: int
    deleted: int
    replayed: int = 0

    @property
    def waiting(self) -> int:
        return self.recorded - self.delivered - self.dropped - self.deleted


@dataclass(frozen=True)
class Filter:
    """Which events a person means. Empty matches all; all given conditions must hold.

    Times are seconds since the Unix epoch, `since` included, `until` not; those two are of the event itself.
    `email` may have `*` as a wildcard. `deferred` says something of events in the queue alone, `delivered_since` and
    `delivered_until` of delivered ones that are kept alone: no event of the other sort matches where they are given.
    """

    ids: tuple[int, ...] = ()
    event_types: tuple[str, ...] = ()
    email: str = ""
    listid: str = ""
    since: int | None = None
    until: int | None = None
    deferred: bool | None = None
    delivered_since: int | None = None
    delivered_until: int | None = None


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
    history: tuple[Attempt, ...] = ()
    """The first and the last nine failed attempts."""
    delivered: int = 0
    """When it was delivered, for events that are kept after that (`keep_delivered`); 0: it waits."""


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

    async def select_delivered(self, which: Filter, after: int, limit: int) -> list[Listed]:
        """As `select`, of delivered events that are kept: with `delivered` set, and `due` 0."""
        ...

    async def count_delivered(self, which: Filter) -> int:
        """As `count`, of delivered events that are kept."""
        ...

    async def delete(self, which: Filter) -> int:
        """Removes what matches as a person would; counted as deleted. Delivered events that are kept are not meant."""
        ...

    async def retry(self, which: Filter, now: int) -> int:
        """Makes deferred events that match due at `now` (wall clock, milliseconds); returns how many it moved."""
        ...

    async def kept(self, name: str) -> str | None:
        """A value that must survive restarts: the last good configuration, the last known switches."""
        ...

    async def keep(self, name: str, value: str) -> None: ...

    async def studio_rows(self) -> str:
        """The rows of Studio's switches, as mailvane.queue.studio has them."""
        ...

    async def switch_studio(self, states: Mapping[str, bool]) -> None:
        """Sets Studio's switches of these types, and makes the row where somebody took it away."""
        ...

    async def close(self) -> None: ...


class OwnedQueue(Queue, Protocol):
    """A queue as the process sees it that owns delivery."""

    term: int
    """Rises with each owner; a settlement that carries an older one is refused whole."""
    keep_delivered: int
    """Milliseconds for which a settlement keeps delivered events, in a table of their own, with what is known of their
    failed attempts; 0: not at all, and settling does nothing more than it would. Set by who opens the queue, before it
    settles. Dropped events are never kept, and while the disk is full nothing is: removing comes first."""

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
        """What has to be done now and then, a minute apart: see the store.

        Delivered events are forgotten that were kept for longer than `keep_delivered`.
        """
        ...

    async def settle(self, settlement: Settlement, term: int) -> Settled:
        """When it returns, removed ids are gone and failures remembered. Repeating it changes nothing.

        Of the failed attempts of each event the first and the last nine stay (`Listed.history`); one whose number is
        not above that of the last one remembered adds nothing to them.
        """
        ...

    async def last_id(self) -> int: ...

    async def replay(self, ids: Sequence[int]) -> list[int]:
        """Puts delivered events that are kept back into the queue, with the ids and bodies they had, as not tried yet.

        At most REPLAY_LIMIT, in one transaction; returns the ids that are in the queue again when it returns. An id
        that is not kept, or waits in the queue, is passed over, so repeating it changes nothing. They are no longer
        kept as delivered until they are delivered again. The ids lie below what the owner has read, so only the owner
        may do this while somebody delivers, and looks for them there (Processor.replay).
        """
        ...
