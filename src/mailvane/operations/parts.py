"""Acts on many events: all at once, or in parts, so that who asked can show how far it is and go on after an end.

Nobody takes a snapshot. An act goes through ids in their order, a page at a time, up to the highest that was there when
it began: what is recorded meanwhile is not meant.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, takewhile

import msgspec

from mailvane.operations.inspection import Inspection, Query
from mailvane.processor.states import EventState

ACT_LIMIT = 1_000
"""Events that are changed at once."""


class Act(StrEnum):
    """What is done to events."""

    RETRY = "retry"
    DROP = "drop"
    REPLAY = "replay"


@dataclass(frozen=True)
class Part:
    """Of what is meant, ids above `after` up to `upto` (None: what is there now), and at most `limit` of them (None:
    all)."""

    after: int = 0
    upto: int | None = None
    limit: int | None = None


class Acted(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many events it was done to; `next`: `after` for the part that follows, if one may; of a dry run, to how many
    it would be done, and in `upto` the highest id that was there."""

    matched: int
    next: int | None = None
    upto: int | None = None


Inspect = Callable[[Callable[[Inspection], Sequence[int]]], Awaitable[Sequence[int]]]


async def act_on(
    query: Query, part: Part, last: int, inspect: Inspect, change: Callable[[Sequence[int]], Awaitable[int]]
) -> Acted:
    """Does something to what is meant. `last`: the highest id that there is now; `change` answers how many it changed.

    What it raises goes on; what was changed by then stays changed.
    """
    after, matched, left = part.after, 0, part.limit
    upto = last if part.upto is None else part.upto
    while True:
        size = ACT_LIMIT if left is None else min(left, ACT_LIMIT)
        ids = await inspect(lambda inspection, after=after, size=size: page(inspection, query, after, upto, size))
        if not ids:
            return Acted(matched)
        matched += await change(ids)
        after = ids[-1]
        if left is not None:
            left -= len(ids)
            if left <= 0:
                return Acted(matched, after)


def page(inspection: Inspection, query: Query, after: int, upto: int, size: int) -> list[int]:
    """The next ids of what is meant."""
    return list(islice(takewhile(lambda i: i <= upto, inspection.ids(query, after)), size))


def meant_by(act: Act, query: Query) -> Query:
    """Whom an act is for: a replay for delivered events, whatever else is said."""
    if act is Act.REPLAY and query.state is None:
        return msgspec.structs.replace(query, state=EventState.DELIVERED)
    return query


def cannot_be_meant(act: Act, query: Query) -> str:
    """Why an act has nothing to do with such events; "" if it has."""
    if act is Act.REPLAY and query.state not in (None, EventState.DELIVERED):
        return f"events in state {query.state} are in the queue; only delivered ones can be replayed"
    if act is not Act.REPLAY and query.of_delivered:
        return f"delivered events are out of the queue, so there is nothing to {act}; replay puts them back"
    return ""


def would(act: Act, query: Query, inspection: Inspection, now: int) -> int:
    """To how many events an act would be done at `now` (wall clock, milliseconds)."""
    if act is Act.RETRY:
        return inspection.deferred(query, now)
    return inspection.count(meant_by(act, query))
