"""The destinations of a plan while nobody delivers: how they are as far as the queue's file tells, and pausing them."""

from collections.abc import Collection

import msgspec

from mailvane.operations.inspection import Rows
from mailvane.processor.lanes import RouteStatus
from mailvane.processor.plan import LEGACY, Drop, Leave, Plan
from mailvane.processor.routing import Router
from mailvane.processor.states import DestinationState
from mailvane.queue.contract import Filter

PAUSED = "paused"
"""Under this name the queue keeps which destinations are paused."""
ERRORS_LOOKED_AT = 200


def paused_in(kept: str | None) -> list[str]:
    """The names of the destinations that are paused, from what the queue keeps."""
    return msgspec.json.decode(kept or "[]", type=list[str])


def with_paused(kept: str | None, names: Collection[str], pause: bool) -> str:
    """What the queue is to keep, after these destinations were paused, or resumed."""
    before = set(paused_in(kept))
    return msgspec.json.encode(sorted(before.union(names) if pause else before.difference(names))).decode()


def names_of(plan: Plan) -> list[str]:
    """The names of the destinations that something is sent to; two rules may lead to one."""
    return list({r.target: r.name for r in plan.routes if not isinstance(r.target, Drop | Leave)}.values())


def routes_of(reader: Rows | None, plan: Plan) -> list[RouteStatus]:
    """How the destinations are."""
    router, paused = Router(plan, plan.routes), paused_in(reader.kept(PAUSED) if reader else None)
    deferred, errors = dict.fromkeys(names_of(plan), 0), dict[str, str]()
    for event_type, mail_class, n in reader.census() if reader else []:
        route = router.route(event_type, mail_class)
        if route is not None and route.name in deferred:
            deferred[route.name] += n
    failed = reader.select(Filter(deferred=True), 0, ERRORS_LOOKED_AT) if reader else []
    for row in sorted(failed, key=lambda row: row.last_failed):
        if (route := router.route(row.event_type, row.mail_class)) is not None:
            errors[route.name] = row.error
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
