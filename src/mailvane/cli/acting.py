"""Doing something with the queue. In SQLite: by the process that owns it if there is one, else in its place. In
PostgreSQL: in the database, and whoever delivers is told there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mailvane.configuration.places import places_of, queue_url
from mailvane.configuration.settings import Settings
from mailvane.operations.routes import PAUSED, with_paused
from mailvane.queue.ballasted import BallastedStore
from mailvane.queue.remote import OwnerClient
from mailvane.queue.short import ShortStore

T = TypeVar("T")

COMMAND = "a command that looks after the queue"
ACT_TIMEOUT = 3_600.0
"""Seconds that the owner may take to act on all that is meant: a queue of millions takes minutes."""


class Hand(Protocol):
    """What lays hand on the queue itself. Each method raises QueueUnavailable."""

    def make_due(self, ids: Sequence[int] | None, now: int) -> int:
        """Deferred events due at `now` (milliseconds): these, or all of them; how many it moved."""
        ...

    def delete(self, ids: Sequence[int]) -> int: ...

    def replay(self, ids: Sequence[int]) -> list[int]:
        """Which of these delivered events are in the queue again."""
        ...

    def pause(self, names: Sequence[str], pause: bool) -> None:
        """Pauses destinations, or resumes them, over restarts too."""
        ...

    def switch_studio(self, states: Mapping[str, bool]) -> None:
        """Says of these types whether Studio's events are recorded."""
        ...


@dataclass(frozen=True)
class _InFile:
    store: BallastedStore

    def make_due(self, ids: Sequence[int] | None, now: int) -> int:
        return self.store.writer.make_due(ids, now)

    def delete(self, ids: Sequence[int]) -> int:
        return self.store.writer.delete(ids)

    def replay(self, ids: Sequence[int]) -> list[int]:
        return self.store.replay(ids)

    def pause(self, names: Sequence[str], pause: bool) -> None:
        self.store.writer.keep(PAUSED, with_paused(self.store.writer.kept(PAUSED), names, pause))

    def switch_studio(self, states: Mapping[str, bool]) -> None:
        self.store.writer.switch_studio(states)


def by_who_has_it(settings: Settings, locally: Callable[[Hand], T], by_owner: Callable[[OwnerClient], T]) -> T:
    """What came of it. Raises QueueUnavailable."""
    if settings.queue_url is not None:
        from mailvane.cli.acting_postgresql import InDatabase  # only now: the driver takes long to load

        with InDatabase(queue_url(settings.queue_url), COMMAND) as hand:
            return locally(hand)
    places = places_of(settings)
    store, owner = ShortStore(places, COMMAND), OwnerClient(places.socket, ACT_TIMEOUT)
    try:
        return store.do(lambda store: locally(_InFile(store)), lambda _: by_owner(owner))
    finally:
        owner.close()
        store.close()
