"""The queue as a command sees it: by the process that owns it if one answers, else by reading its file.

Reading needs no lock. A process that owns the queue knows more: what is in flight, how its destinations are.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from mailvane.cli.queue_access import inspection, plan_now, reading
from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings
from mailvane.destinations.contract import HttpPost
from mailvane.operations.inspection import PAGE, Inspection, Query
from mailvane.operations.status import LEGACY, Status, status
from mailvane.processor.plan import Plan
from mailvane.processor.routing import Router
from mailvane.processor.run import RouteStatus
from mailvane.processor.states import DestinationState
from mailvane.queue.contract import Books, Filter
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.remote import NobodyThere, OwnerClient
from mailvane.recording.switches import Switches

ERRORS_LOOKED_AT = 200


class Shown(msgspec.Struct, frozen=True):
    """One event and what is known of its way. Times are seconds since the Unix epoch, None for never."""

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


class View(Protocol):
    """What people look at."""

    def status(self, now: float) -> Status: ...

    def select(self, query: Query, limit: int | None) -> Iterator[dict[str, object]]:
        """The legacy objects plus `state`, in the order of ids."""
        ...

    def count(self, query: Query) -> int: ...

    def show(self, event_id: int) -> Shown | None: ...


@contextmanager
def viewing(settings: Settings) -> Generator[View, None, None]:
    """The view that there is. Raises QueueUnavailable."""
    client = OwnerClient(places_of(settings).socket)
    try:
        try:
            client.request("GET", "/healthz")
        except NobodyThere:
            with reading(settings) as reader:
                yield _Direct(settings, reader)
        else:
            yield _ByOwner(client)
    finally:
        client.close()


class _Page(msgspec.Struct, frozen=True):
    events: list[dict[str, object]]
    next: int | None


class _Counted(msgspec.Struct, frozen=True):
    count: int


class _ByOwner:
    def __init__(self, client: OwnerClient) -> None:
        self._client = client

    def status(self, now: float) -> Status:
        return msgspec.json.decode(self._client.request("GET", "/v1/status"), type=Status)

    def select(self, query: Query, limit: int | None) -> Iterator[dict[str, object]]:
        after: int | None = 0
        left = limit
        while after is not None and left != 0:
            size = PAGE if left is None else min(PAGE, left)
            answer = self._client.request("GET", f"/v1/events?{_asked(query, after=str(after), limit=str(size))}")
            page = msgspec.json.decode(answer, type=_Page)
            yield from page.events
            after = page.next
            left = None if left is None else left - len(page.events)

    def count(self, query: Query) -> int:
        return msgspec.json.decode(
            self._client.request("GET", f"/v1/events/count?{_asked(query)}"), type=_Counted
        ).count

    def show(self, event_id: int) -> Shown | None:
        if not self.count(Query(ids=[event_id])):
            return None
        return msgspec.json.decode(self._client.request("GET", f"/v1/events/{event_id}"), type=Shown)


def _asked(query: Query, **more: str) -> str:
    asked = [*(("id", str(i)) for i in query.ids), *(("type", t) for t in query.types)]
    for name, value in (("email", query.email), ("list", query.list), ("destination", query.destination)):
        asked += [(name, value)] if value else []
    for name, moment in (("since", query.since), ("until", query.until)):
        asked += [(name, str(moment))] if moment is not None else []
    asked += [("state", str(query.state))] if query.state else []
    return urlencode([*asked, *more.items()])


class _Direct:
    def __init__(self, settings: Settings, reader: SQLiteReader | None) -> None:
        self._settings = settings
        self._reader = reader

    def status(self, now: float) -> Status:
        reader = self._reader
        look = plan_now(self._settings, reader)
        switches = Switches(self._settings.control_directory, reader.kept("switches") if reader else None)
        switches.look()
        routes = _routes(reader, look.plan or Plan())
        report = status(
            reader.books() if reader else Books(0, 0, 0, 0),
            reader.oldest() if reader else None,
            reader.deferred() if reader else 0,
            now,
            routes,
            look.state,
            problems=[*switches.problems, *look.warnings],
        )
        # Nobody delivers.
        return msgspec.structs.replace(report, queue=msgspec.structs.replace(report.queue, in_flight=None))

    def _inspection(self) -> Inspection | None:
        return inspection(self._settings, self._reader) if self._reader else None

    def select(self, query: Query, limit: int | None) -> Iterator[dict[str, object]]:
        if (found := self._inspection()) is not None:
            for seen in found.select(query, limit=limit):
                yield seen.legacy()

    def count(self, query: Query) -> int:
        found = self._inspection()
        return found.count(query) if found else 0

    def show(self, event_id: int) -> Shown | None:
        found = self._inspection()
        seen = found.show(event_id) if found else None
        if found is None or seen is None:
            return None
        row = seen.row
        return Shown(
            event=seen.legacy(),
            state=str(seen.state),
            event_unique_id=found.unique_id(seen),
            destination=seen.destination,
            recorded=_seconds(row.recorded),
            attempts=row.attempts,
            due=_seconds(row.due),
            first_failed=_seconds(row.first_failed),
            last_failed=_seconds(row.last_failed),
            last_error=row.error,
        )


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def kept_paused(reader: SQLiteReader | None) -> list[str]:
    """The destinations that were paused, by name."""
    return msgspec.json.decode((reader.kept("paused") if reader else None) or "[]", type=list[str])


def names_of(plan: Plan) -> list[str]:
    """The names of the destinations that something is sent to; two rules may lead to one."""
    return list({r.target: r.name for r in plan.routes if isinstance(r.target, HttpPost)}.values())


def _routes(reader: SQLiteReader | None, plan: Plan) -> list[RouteStatus]:
    """How the destinations are, as far as the queue's file tells."""
    router, paused = Router(plan), kept_paused(reader)
    deferred, errors = dict.fromkeys(names_of(plan), 0), dict[str, str]()
    for event_type, mail_class, n in reader.census() if reader else []:
        index = router.route(event_type, mail_class)
        name = plan.routes[index].name if index is not None else ""
        if name in deferred:
            deferred[name] += n
    failed = reader.select(Filter(deferred=True), 0, ERRORS_LOOKED_AT) if reader else []
    for row in sorted(failed, key=lambda row: row.last_failed):
        index = router.route(row.event_type, row.mail_class)
        if index is not None:
            errors[plan.routes[index].name] = row.error
    return [
        RouteStatus(
            name,
            DestinationState.PAUSED if {name, LEGACY} & set(paused)
            else DestinationState.RETRYING if n else DestinationState.OK,
            errors.get(name, ""),
            n,
            0,
        )
        for name, n in deferred.items()
    ]  # fmt: skip
