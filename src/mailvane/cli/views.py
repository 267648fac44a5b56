"""The queue as a command sees it: by the process of this home that delivers if there is one, else by reading it.

Reading needs no lock. A process that delivers knows more: what is in flight, how its destinations are.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from mailvane.cli.queue_access import QueueReader, inspection, plan_in_force, plan_now, reading, who_delivers
from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings
from mailvane.errors import QueueUnavailable
from mailvane.operations.inspection import PAGE, Inspection, Query, Shown
from mailvane.operations.parts import Act, Acted, would
from mailvane.operations.routes import routes_of
from mailvane.operations.status import Status, status
from mailvane.queue.contract import Books
from mailvane.queue.remote import NobodyThere, NotThere, OwnerClient
from mailvane.recording.switches import Switches


class View(Protocol):
    """What people look at."""

    def status(self, now: float) -> Status: ...

    def select(self, query: Query, limit: int | None, after: int = 0) -> Iterator[dict[str, object]]:
        """The legacy objects plus `state`, in the order of ids, above `after`."""
        ...

    def count(self, query: Query) -> int: ...

    def show(self, event_id: int) -> Shown | None: ...

    def would(self, act: Act, query: Query) -> int:
        """To how many events an act would be done now."""
        ...


@contextmanager
def viewing(settings: Settings) -> Generator[View, None, None]:
    """The view that there is. Raises QueueUnavailable."""
    client = OwnerClient(places_of(settings).socket)
    try:
        if _asked_of_process(settings, client):
            yield _ByOwner(client)
        else:
            with reading(settings) as reader:
                yield _Direct(settings, reader)
    finally:
        client.close()


def _asked_of_process(settings: Settings, client: OwnerClient) -> bool:
    """Whether the process of this home is the one to ask: it owns the queue; of one in PostgreSQL, it delivers."""
    try:
        if settings.queue_url is None:
            client.request("GET", "/healthz")
            return True
        report = msgspec.json.decode(client.request("GET", "/v1/status"), type=Status)
    except NobodyThere:
        return False
    except QueueUnavailable:
        if settings.queue_url is None:
            raise
        return False  # it stands by, or waits for its server: we see for ourselves
    return report.queue.in_flight is not None


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

    def select(self, query: Query, limit: int | None, after: int = 0) -> Iterator[dict[str, object]]:
        following: int | None = after
        left = limit
        while following is not None and left != 0:
            size = PAGE if left is None else min(PAGE, left)
            answer = self._client.request("GET", f"/v1/events?{_asked(query, after=str(following), limit=str(size))}")
            page = msgspec.json.decode(answer, type=_Page)
            yield from page.events
            following = page.next
            left = None if left is None else left - len(page.events)

    def count(self, query: Query) -> int:
        return msgspec.json.decode(
            self._client.request("GET", f"/v1/events/count?{_asked(query)}"), type=_Counted
        ).count

    def show(self, event_id: int) -> Shown | None:
        try:
            return msgspec.json.decode(self._client.request("GET", f"/v1/events/{event_id}"), type=Shown)
        except NotThere:
            return None

    def would(self, act: Act, query: Query) -> int:
        answer = self._client.request("POST", f"/v1/events/{act}?dry_run=true", msgspec.json.encode(query))
        return msgspec.json.decode(answer, type=Acted).matched


def _asked(query: Query, **more: str) -> str:
    asked = [*(("id", str(i)) for i in query.ids), *(("type", t) for t in query.types)]
    for name, value in (("email", query.email), ("list", query.list), ("destination", query.destination)):
        asked += [(name, value)] if value else []
    for name in ("since", "until", "delivered_since", "delivered_until"):
        moment: int | None = getattr(query, name)
        asked += [(name, str(moment))] if moment is not None else []
    asked += [("state", str(query.state))] if query.state else []
    return urlencode([*asked, *more.items()])


class _Direct:
    def __init__(self, settings: Settings, reader: QueueReader | None) -> None:
        self._settings = settings
        self._reader = reader
        self._delivers = who_delivers(settings, reader)

    def status(self, now: float) -> Status:
        reader = self._reader
        look = plan_now(self._settings, reader)
        switches = Switches(self._settings.control_directory, reader.kept("switches") if reader else None)
        switches.studio.take(reader.studio_rows() if reader else "")
        switches.look()
        return status(
            reader.books() if reader else Books(0, 0, 0, 0),
            reader.oldest() if reader else None,
            reader.deferred() if reader else 0,
            now,
            routes_of(reader, plan_in_force(self._settings, reader, self._delivers)),
            look.state,
            problems=[*switches.problems, *look.warnings],
            stands_by=f"{self._delivers}, delivers" if self._delivers else "",
        )

    def _inspection(self) -> Inspection | None:
        return inspection(self._settings, self._reader, self._delivers) if self._reader else None

    def select(self, query: Query, limit: int | None, after: int = 0) -> Iterator[dict[str, object]]:
        if (found := self._inspection()) is not None:
            for seen in found.select(query, after, limit):
                yield seen.legacy()

    def count(self, query: Query) -> int:
        found = self._inspection()
        return found.count(query) if found else 0

    def show(self, event_id: int) -> Shown | None:
        found = self._inspection()
        return found.show(event_id) if found else None

    def would(self, act: Act, query: Query) -> int:
        found = self._inspection()
        return would(act, query, found, int(time.time() * 1000)) if found else 0
