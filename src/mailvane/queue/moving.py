"""Moves all that a queue has from one queue to another: SQLite to PostgreSQL, back, or to another of the same kind.

Ids stay, and with them go attempts, the epoch (receivers tell events apart by epoch and id), the books, and what the
queue keeps. Both are owned meanwhile. A kill at any moment leaves a state that the same move goes on from:

    the source is closed    it says where it goes, on its disk: nobody records there any more, and nobody delivers
    the target is begun     one transaction: it has never held an event, and now gives ids above all of the source's
    page by page            the rows are locked in the source, added to the target in one transaction together with how
                            far it has come, and removed from the source. What lies below that mark is in the target, or
                            was: whoever goes on removes it from the source, and never adds it a second time
    what is kept            delivered events (`keep_delivered`) follow in the same way, with a mark of their own

So no event is in no queue at any time, and an event that is in both is not delivered from the source. Nothing here
knows what stands behind either.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from mailvane.errors import QueueUnavailable
from mailvane.queue.contract import Books, Listed

PAGE = 1_000
"""Events that are moved at once."""
PAGE_BYTES = 4 * 1024 * 1024
"""Bytes of bodies that are moved at once (and always one event)."""

MOVED_TO = "moved_to"
"""Under this name a queue keeps where it was moved, or is being moved to."""
MOVED_FROM = "moved_from"
"""Under this name it keeps how far a move into it has come."""
STAYS = frozenset({MOVED_TO, MOVED_FROM, "term", "identity", "tried"})
"""What a queue keeps that says something of itself alone."""


class Going(msgspec.Struct, frozen=True):
    """Where a queue is moved to: `move` is the move's own random word, `to` the target for people."""

    move: str
    to: str


class Came(msgspec.Struct, frozen=True):
    """How far a move has come: what waited in the source up to the id `upto` is in the target, or was; so is what it
    had of delivered events up to the id `delivered`."""

    move: str
    upto: int = 0
    delivered: int = 0


class Estate(msgspec.Struct, frozen=True):
    """What goes with the events: the highest id that was ever given, the books, and what the queue keeps; how many
    delivered events it keeps; Studio's switches, as far as they are clear."""

    last_id: int
    books: Books
    kept: Mapping[str, str]
    delivered: int = 0
    studio: Mapping[str, bool] = {}


class Moved(msgspec.Struct, frozen=True):
    """How many events left the source: of those that wait, and of delivered ones that are kept."""

    waiting: int
    delivered: int


Take = Callable[[Sequence[Listed]], Awaitable[None]]


class Source(Protocol):
    """The queue that is moved, owned. Each method raises QueueUnavailable, with nothing done."""

    shown: str

    async def going(self) -> Going | None: ...

    async def close_for(self, going: Going) -> None:
        """From now on nobody records there, and nobody delivers from it. Repeating it changes nothing."""
        ...

    async def estate(self) -> Estate: ...

    async def hand_over(self, take: Take) -> int:
        """Gives the lowest events, at most PAGE of them, and removes them if `take` returns; how many there were.

        Nobody changes them meanwhile. `take` may be called again with what it was called with before.
        """
        ...

    async def hand_over_delivered(self, take: Take) -> int:
        """As `hand_over`, of delivered events that are kept."""
        ...


class Target(Protocol):
    """The queue that is moved to, owned. Each method raises QueueUnavailable, with nothing done."""

    shown: str

    async def came(self) -> Came | None: ...

    async def unused(self) -> bool:
        """Whether it has never held an event."""
        ...

    async def begin(self, came: Came, estate: Estate) -> None:
        """In one transaction: goes on where the source ended. Raises QueueUnavailable if it has held events by now."""
        ...

    async def take(self, rows: Sequence[Listed]) -> None:
        """Adds events as they are, in one transaction with how far it has come: those up to there are passed over."""
        ...

    async def take_delivered(self, rows: Sequence[Listed]) -> None:
        """As `take`, of delivered events that are kept: they count nowhere."""
        ...


async def move(source: Source, target: Target, begins: Callable[[int], Callable[[int], None]]) -> Moved:
    """Moves all that waits, then delivered events that are kept; or goes on with a move that was cut short. Answers
    how many left the source this time.

    `begins` is told how many there are, and gives what is told of each further ones. Raises QueueUnavailable.
    """
    going, came = await source.going(), await target.came()
    if going is None or came is None or going.move != came.move:
        going = await _may_begin(source, target, going)
        came = None
    await source.close_for(going)
    estate = await source.estate()
    if came is None:
        await target.begin(Came(going.move), estate)
    advance = begins(estate.books.waiting + estate.delivered)
    waiting = await _all(source.hand_over, target.take, advance)
    return Moved(waiting, await _all(source.hand_over_delivered, target.take_delivered, advance))


async def _all(hand_over: Callable[[Take], Awaitable[int]], take: Take, advance: Callable[[int], None]) -> int:
    moved = 0
    while n := await hand_over(take):
        moved += n
        advance(n)
    return moved


async def _may_begin(source: Source, target: Target, going: Going | None) -> Going:
    if going is not None and going.to != target.shown:
        raise QueueUnavailable(moved_message(source.shown, going) + ". Nothing was changed")
    if not await target.unused():
        raise QueueUnavailable(
            f"{target.shown} has held events, and its ids would be given twice: name a queue that is new (another file,"
            " or another schema: ?schema=NAME). Nothing was changed"
        )
    return going or Going(secrets.token_hex(8), target.shown)


def moved_message(shown: str, going: Going) -> str:
    """What whoever comes to a queue that was moved is told."""
    return (
        f"{shown} was moved to {going.to}: name that by `queue` in mailvane.conf; a move that was cut short goes on "
        "with `mailvane queue move`"
    )


def refuse_moved(kept: str | None, shown: str) -> None:
    """Raises QueueUnavailable if the queue keeps (MOVED_TO) that it was moved."""
    if kept:
        raise QueueUnavailable(moved_message(shown, msgspec.json.decode(kept, type=Going)))


def goes_along(kept: Mapping[str, str]) -> dict[str, str]:
    """What of the things that a queue keeps is moved."""
    return {name: value for name, value in kept.items() if name not in STAYS}


def left_to_take(rows: Sequence[Listed], upto: int) -> list[Listed]:
    """Those that are not in the target yet, which has come up to that id."""
    return [row for row in rows if row.id > upto]
