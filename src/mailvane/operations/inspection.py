"""Looking at the events in a queue, and picking those that a person means."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

import msgspec

from mailvane.events.codecs import event_server, legacy_values, unique_id
from mailvane.processor.plan import LEGACY, Plan
from mailvane.processor.routing import Router
from mailvane.processor.states import EventState, state_of
from mailvane.queue.contract import Filter, Listed
from mailvane.queue.reading import SQLiteReader

PAGE = 1_000


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events are meant; all given conditions must hold, and `all` says that none is meant to be given.

    `email` may have `*`; times are seconds since the Unix epoch, `since` included, `until` not; `destination` is a
    route's name as the status report has it, or `__legacy__`.
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


class Shown(msgspec.Struct, frozen=True):
    """One event, and all that is known of its way. Times are seconds since the Unix epoch, null for never."""

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


@dataclass(frozen=True)
class Inspection:
    """Reads a queue for people. `in_flight` are the ids that the process which delivers has on their way."""

    reader: SQLiteReader
    plan: Plan
    epoch: str
    in_flight: Set[int] = frozenset()

    def select(self, query: Query, after: int = 0, limit: int | None = None) -> Iterator[Seen]:
        """What is meant, in the order of ids above `after`; no transaction stays open between pages."""
        router = Router(self.plan)
        given = 0
        while page := self.reader.select(query.filter(), after, PAGE if limit is None else min(PAGE, max(limit, 100))):
            for row in page:
                after = row.id
                if (seen := self._judge(query, row, router)) is not None:
                    yield seen
                    given += 1
                    if given == limit:
                        return

    def ids(self, query: Query, after: int = 0) -> Iterator[int]:
        """The ids above `after` of what is meant, in their order; read as they are asked for."""
        if query.state is None and not query.destination:
            while page := self.reader.matching_ids(query.filter(), after, PAGE):
                yield from page
                after = page[-1]
        else:
            for seen in self.select(query, after):
                yield seen.row.id

    def count(self, query: Query) -> int:
        """How many are meant."""
        if query.state is None and not query.destination:
            return self.reader.count(query.filter())
        return sum(1 for _ in self.ids(query))

    def show(self, event_id: int) -> Shown | None:
        """One event, or None if it is not there."""
        seen = next(self.select(Query(ids=[event_id]), limit=1), None)
        if seen is None:
            return None
        row = seen.row
        return Shown(
            event=seen.legacy(),
            state=str(seen.state),
            event_unique_id=unique_id(event_server(row.extra), self.epoch, row.id),
            destination=seen.destination,
            recorded=_seconds(row.recorded),
            attempts=row.attempts,
            due=_seconds(row.due),
            first_failed=_seconds(row.first_failed),
            last_failed=_seconds(row.last_failed),
            last_error=row.error,
        )

    def _judge(self, query: Query, row: Listed, router: Router) -> Seen | None:
        index = router.route(row.event_type, row.mail_class)
        route = None if index is None else self.plan.routes[index]
        state = state_of(route.target if route else None, row.id in self.in_flight, row.attempts > 0)
        name = route.name if route else ""
        if query.state is not None and state is not query.state:
            return None
        if query.destination and query.destination != name and not (query.destination == LEGACY and route):
            return None
        return Seen(row, state, name)


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None
