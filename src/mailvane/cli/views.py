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
from mailvane.operations.inspection import PAGE, Inspection, Query, Shown
from mailvane.operations.routes import routes_of
from mailvane.operations.status import Status, status
from mailvane.processor.plan import Plan
from mailvane.queue.contract import Books
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.remote import NobodyThere, OwnerClient
from mailvane.recording.switches import Switches


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
        return status(
            reader.books() if reader else Books(0, 0, 0, 0),
            reader.oldest() if reader else None,
            reader.deferred() if reader else 0,
            now,
            routes_of(reader, look.plan or Plan()),
            look.state,
            problems=[*switches.problems, *look.warnings],
            delivering=False,
        )

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
        return found.show(event_id) if found else None
