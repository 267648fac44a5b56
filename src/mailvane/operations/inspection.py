"""Looking at the events in a queue, and picking those that a person means."""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from mailvane.events.codecs import event_server, legacy_values, modern_values, unique_id
from mailvane.processor.plan import LEGACY, Plan, Route
from mailvane.processor.routing import Router
from mailvane.processor.states import EventState, state_of
from mailvane.queue.contract import Filter, Listed

PAGE = 1_000


class Rows(Protocol):
    """What is looked at: the queue, and delivered events that are kept. Each method is one short read, in the order of
    ids above `after`, as mailvane.queue.contract has it. Raises QueueUnavailable."""

    def select(self, which: Filter, after: int, limit: int, /) -> list[Listed]: ...

    def matching_ids(self, which: Filter, after: int, limit: int, /) -> list[int]: ...

    def count(self, which: Filter, /) -> int: ...

    def select_delivered(self, which: Filter, after: int, limit: int, /) -> list[Listed]: ...

    def delivered_ids(self, which: Filter, after: int, limit: int, /) -> list[int]: ...

    def count_delivered(self, which: Filter, /) -> int: ...

    def census(self) -> list[tuple[str, str, int]]: ...

    def kept(self, name: str, /) -> str | None: ...


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events are meant; all given conditions must hold, and `all` says that none is meant to be given.

    `email` may have `*`; times are seconds since the Unix epoch, `since` included, `until` not; `destination` is a
    route's name as the status report has it, or `__legacy__`. Of delivered events that are kept it is asked with the
    state `delivered`, or with `delivered_since` and `delivered_until`, which are when they were; else of the queue.
    """

    all: bool = False
    ids: list[int] = []
    types: list[str] = []
    email: str = ""
    list: str = ""
    since: int | None = None
    until: int | None = None
    state: EventState | None = None
    destination: str = ""
    delivered_since: int | None = None
    delivered_until: int | None = None

    @property
    def of_delivered(self) -> bool:
        """Whether delivered events are meant."""
        timed = self.delivered_since is not None or self.delivered_until is not None
        return timed or self.state is EventState.DELIVERED

    @property
    def empty(self) -> bool:
        """Whether nothing was said: not even `all`."""
        return self == Query()

    @property
    def everything(self) -> bool:
        return msgspec.structs.replace(self, all=False) == Query()

    def filter(self) -> Filter:
        """What of it the database can answer."""
        return Filter(
            ids=tuple(self.ids),
            event_types=tuple(t.lower() for t in self.types),
            email=self.email,
            listid=self.list,
            since=self.since,
            until=self.until,
            deferred=True if self.state is EventState.DEFERRED else None,
            delivered_since=self.delivered_since,
            delivered_until=self.delivered_until,
        )


@dataclass(frozen=True)
class Seen:
    """A row and the state that it is in."""

    row: Listed
    state: EventState
    destination: str

    def legacy(self) -> dict[str, object]:
        """The legacy object plus `state`, as `events list --json` has it."""
        return {**legacy_values(self.row.id, self.row.body), "state": str(self.state)}


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt that failed: which (from 1), when it ended (seconds since the Unix epoch), how long it took, the HTTP
    status (0 where there was none), and what went wrong, with the first of what the other side said."""

    number: int
    at: float
    seconds: float
    status: int
    error: str


class Shown(msgspec.Struct, frozen=True):
    """One event, and all that is known of its way. Times are seconds since the Unix epoch, null for never.

    `event` is the legacy object, and what of it only the modern one has (mail_class, msguid of a bounce, server_id …).

    `failed` has the first and the last nine of the failed attempts; `delivered` is there for events that are kept after
    that.
    """

    event: dict[str, object]
    state: str
    event_unique_id: str
    destination: str
    recorded: float | None
    attempts: int
    due: float | None
    first_failed: float | None
    last_failed: float | None
    last_error: str
    failed: list[FailedAttempt] = []
    delivered: float | None = None


@dataclass(frozen=True)
class Inspection:
    """Reads a queue for people. `in_flight` are the ids that the process which delivers has on their way."""

    reader: Rows
    plan: Plan
    epoch: str
    in_flight: Set[int] = frozenset()

    def select(self, query: Query, after: int = 0, limit: int | None = None) -> Iterator[Seen]:
        """What is meant, in the order of ids above `after`; no transaction stays open between pages."""
        router, which = self._router(), query.filter()
        given = 0
        read = self.reader.select_delivered if query.of_delivered else self.reader.select
        while page := read(which, after, PAGE if limit is None else min(PAGE, max(limit, 100))):
            for row in page:
                after = row.id
                if (seen := self._judge(query, row, router)) is not None:
                    yield seen
                    given += 1
                    if given == limit:
                        return

    def ids(self, query: Query, after: int = 0) -> Iterator[int]:
        """The ids above `after` of what is meant, in their order; read as they are asked for."""
        if _by_database(query):
            read: Callable[[Filter, int, int], list[int]]
            read = self.reader.delivered_ids if query.of_delivered else self.reader.matching_ids
            while page := read(query.filter(), after, PAGE):
                yield from page
                after = page[-1]
        else:
            for seen in self.select(query, after):
                yield seen.row.id

    def count(self, query: Query) -> int:
        """How many are meant."""
        if _by_database(query):
            read = self.reader.count_delivered if query.of_delivered else self.reader.count
            return read(query.filter())
        return sum(1 for _ in self.ids(query))

    def deferred(self, query: Query, now: int) -> int:
        """How many of what is meant failed and are not due yet at `now` (milliseconds): what a retry would change."""
        which, after, n, router = replace(query.filter(), deferred=True), 0, 0, self._router()
        while page := self.reader.select(which, after, PAGE):
            after = page[-1].id
            n += sum(1 for row in page if row.due > now and self._judge(query, row, router))
        return n

    def show(self, event_id: int) -> Shown | None:
        """One event, also if it was delivered and is kept; or None if it is not there."""
        seen = None
        for state in (None, EventState.DELIVERED, None):  # it may be replayed while it is looked for
            if (seen := next(self.select(Query(ids=[event_id], state=state), limit=1), None)) is not None:
                break
        if seen is None:
            return None
        row = seen.row
        return Shown(
            event={**seen.legacy(), **modern_values(row.extra)},
            state=str(seen.state),
            event_unique_id=unique_id(event_server(row.extra), self.epoch, row.id),
            destination=seen.destination,
            recorded=_seconds(row.recorded),
            attempts=row.attempts,
            due=_seconds(row.due),
            first_failed=_seconds(row.first_failed),
            last_failed=_seconds(row.last_failed),
            last_error=row.error,
            failed=[FailedAttempt(a.number, a.at / 1000, a.seconds, a.status, a.error) for a in row.history],
            delivered=_seconds(row.delivered),
        )

    def _router(self) -> Router[Route]:
        return Router(self.plan, self.plan.routes)

    def _judge(self, query: Query, row: Listed, router: Router[Route]) -> Seen | None:
        route = router.route(row.event_type, row.mail_class)
        in_flight = row.id in self.in_flight
        state = (
            EventState.DELIVERED
            if row.delivered
            else state_of(route.target if route else None, in_flight, row.attempts > 0)
        )
        name = route.name if route else ""
        if query.state is not None and state is not query.state:
            return None
        if query.destination and query.destination != name and not (query.destination == LEGACY and route):
            return None
        return Seen(row, state, name)


def _by_database(query: Query) -> bool:
    """Whether the database alone can tell which events are meant."""
    return query.state in (None, EventState.DELIVERED) and not query.destination


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None
