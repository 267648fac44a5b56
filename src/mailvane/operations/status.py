"""The status report: what `mailvane events status` and GET /v1/status show."""

from collections.abc import Sequence

import msgspec

from mailvane.configuration.watch import ConfigState
from mailvane.processor.lanes import RouteStatus
from mailvane.processor.plan import LEGACY
from mailvane.processor.states import DestinationState
from mailvane.queue.contract import Books
from mailvane.queue.history import storable


class RouteReport(msgspec.Struct, frozen=True):
    """A destination of the legacy configuration."""

    destination: str
    state: str
    last_error: str
    deferred: int
    in_flight: int


class DestinationReport(msgspec.Struct, frozen=True):
    """A destination: the legacy configuration is one, with its own destinations as routes."""

    name: str
    first_attempt: int
    retries: int
    state: str
    oldest_seconds: float | None
    last_error: str
    routes: list[RouteReport]


class QueueReport(msgspec.Struct, frozen=True):
    """`events` counts every row; `in_flight` is None when nobody delivers."""

    events: int
    oldest_seconds: float | None
    in_flight: int | None


class BooksReport(msgspec.Struct, frozen=True):
    """recorded = delivered + dropped + deleted + waiting, since the queue was made."""

    recorded: int
    delivered: int
    dropped: int
    deleted: int
    waiting: int


class ConfigReport(msgspec.Struct, frozen=True):
    """`state`: current, stale (the last good one is in force since `since`), none (there never was a good one)."""

    state: str
    since: float | None
    report: str


class Status(msgspec.Struct, frozen=True):
    """The whole report. `trouble`: why nothing is recorded or delivered; `problems`: what else is strange; `stands_by`:
    who delivers in the place of the process that is asked, or why that one waits for its turn."""

    destinations: list[DestinationReport]
    queue: QueueReport
    books: BooksReport
    config: ConfigReport
    trouble: str = ""
    problems: list[str] = []
    stands_by: str = ""


def status(
    books: Books,
    oldest: int | None,
    deferred: int,
    now: float,
    routes: Sequence[RouteStatus],
    config: ConfigState,
    trouble: str = "",
    problems: Sequence[str] = (),
    in_flight: int | None = None,
    stands_by: str = "",
) -> Status:
    """Puts the report together.

    `oldest` is as Queue.oldest gives it, `now` in seconds (wall clock); `in_flight` is what is on its way in all, under
    earlier plans too, None when nobody delivers.
    """
    age = None if oldest is None else max(0.0, round(now - oldest / 1000, 3))
    reports = [
        RouteReport(r.destination, str(r.state), storable(r.last_error), r.deferred, r.in_flight) for r in routes
    ]
    legacy = DestinationReport(
        name=LEGACY,
        first_attempt=max(0, books.waiting - deferred),
        retries=deferred,
        state=str(_worst(routes, deferred)),
        oldest_seconds=age,
        last_error=next((r.last_error for r in reports if r.last_error), ""),
        routes=reports,
    )
    return Status(
        destinations=[legacy],
        queue=QueueReport(books.waiting, age, in_flight),
        books=BooksReport(books.recorded, books.delivered, books.dropped, books.deleted, books.waiting),
        config=ConfigReport(config.kind, config.since, config.report),
        trouble=trouble,
        problems=list(problems),
        stands_by=stands_by,
    )


def _worst(routes: Sequence[RouteStatus], deferred: int) -> DestinationState:
    order = [DestinationState.PAUSED, DestinationState.CIRCUIT_OPEN, DestinationState.RETRYING]
    states = {r.state for r in routes}
    return next((s for s in order if s in states), DestinationState.RETRYING if deferred else DestinationState.OK)
