"""Writing to a SQLite queue for a moment: by the process that owns it if there is one, else by taking its place.

A program that records, or a command, does not own the queue for its life: it takes `queue.lock` for one group of events
and gives it back, so that a processor can start at any time.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mailvane.errors import QueueUnavailable
from mailvane.queue.ballast import Ballast
from mailvane.queue.local import BallastedStore
from mailvane.queue.migrate import migrate
from mailvane.queue.ownership import Lock, describe
from mailvane.queue.remote import NobodyThere, OwnerClient, OwnerLost
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.writer import Group

T = TypeVar("T")

LOCK_WAIT = 30.0
"""Seconds that another command may take with the queue before we give up."""
LOOK_EVERY = 0.005


@dataclass(frozen=True)
class Places:
    """The files of a SQLite queue."""

    database: str
    lock: str
    socket: str
    ballast: str


class ShortStore:
    """A store for the writer of a program that does not own the queue. Belongs to one thread of one process."""

    def __init__(self, places: Places, command: str) -> None:
        self._places = places
        self._lock = Lock(places.lock, command)
        self._store: BallastedStore | None = None
        self._client = OwnerClient(places.socket)

    def append(self, groups: Sequence[Group]) -> list[list[int]]:
        """As a store's `append`; if the owner is lost meanwhile, it is done over with the same tokens, never twice."""
        tokens = [token or secrets.token_hex(12) for _, token in groups]
        named = [(events, token) for (events, _), token in zip(groups, tokens, strict=True)]
        asked = False

        def by_owner(owner: OwnerClient) -> list[list[int]]:
            nonlocal asked
            asked = True
            return owner.append(named)

        return self.do(lambda store: store.append(named if asked else groups), by_owner)

    def do(self, locally: Callable[[BallastedStore], T], by_owner: Callable[[OwnerClient], T]) -> T:
        """Does something with the queue in hand, or by its owner, whichever there is. Raises QueueUnavailable."""
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                taken = self._lock.take()
            except OSError as e:
                raise QueueUnavailable(
                    f"{self._places.lock}: {e.strerror}; is the home there, and ours to write?"
                ) from e
            if taken:
                try:
                    return locally(self._open())
                finally:
                    self._lock.release()
            try:
                return by_owner(self._client)
            except (NobodyThere, OwnerLost):
                # Either a command of a moment has it (it has no socket, and will be done soon), or an owner is on its
                # way up or down. What `do` does may be done over.
                if time.monotonic() > end:
                    holder = describe(self._lock.holder())
                    raise QueueUnavailable(f"the queue is in use by {holder}, which does not answer") from None
                time.sleep(LOOK_EVERY)

    def _open(self) -> BallastedStore:
        if self._store is None:
            try:
                migrate(self._places.database)
            except OSError as e:
                raise QueueUnavailable(f"{self._places.database}: {e.strerror}") from e
            self._store = BallastedStore(SQLiteWriter(self._places.database), Ballast(self._places.ballast))
        return self._store

    def close(self) -> None:
        self._client.close()
        if self._store is not None:
            self._store.writer.close()
            self._store = None
