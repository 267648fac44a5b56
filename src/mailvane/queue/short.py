"""Writing to a SQLite queue for a moment: by the process that owns it if there is one, else by taking its place.

A program that records, or a command, does not own the queue for its life: it takes `queue.lock` for a group of events,
keeps it while the next follows at once, for a twentieth of a second at most, and gives it back, so that a processor can
start at any time.

Programs that record may fork. SQLite's connections must not be carried over a fork: the child would go by locks that
its parent has, and not by its own, and what it writes could be thrown away with a log that others take for unused. So
all are closed before each fork, and opened again when they are needed.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from mailvane.errors import QueueUnavailable
from mailvane.queue.ballast import Ballast
from mailvane.queue.ballasted import BallastedStore
from mailvane.queue.forking import ClosedBeforeForks
from mailvane.queue.migrate import migrate
from mailvane.queue.ownership import Lock, describe
from mailvane.queue.reading import kept_value, studio_rows_in
from mailvane.queue.remote import POST_BYTES, POST_EVENTS, NobodyThere, OwnerClient, OwnerLost
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.sqlite_errors import Broken, refuse_emptied
from mailvane.queue.writer import Answer, Group

T = TypeVar("T")

LOCK_WAIT = 30.0
"""Seconds that another command may take with the queue before we give up."""
LOOK_EVERY = 0.001
BURST = 0.05
"""Seconds for which the lock is kept while one group follows the other: taking it costs as much as a small group."""
REST = 0.003
"""Seconds for which it is left alone after that, so that others find it free."""


@dataclass(frozen=True)
class Places:
    """The files of a SQLite queue."""

    database: str
    lock: str
    socket: str
    ballast: str


_forks = ClosedBeforeForks()


class ShortStore:
    """A store for the writer of a program that does not own the queue. Belongs to one thread of one process."""

    def __init__(self, places: Places, command: str) -> None:
        self._places = places
        self._lock = Lock(places.lock, command)
        self._store: BallastedStore | None = None
        self._broken: Broken | None = None
        self._taken_at = self._rest_until = 0.0
        self._forbidden = False
        self._looked_at = False
        """Whether the file was looked at since the lock was taken."""
        self._client = OwnerClient(places.socket)
        _forks.add(self)

    def kept(self, name: str) -> str | None:
        """A value that the queue keeps; None also if there is no queue yet."""
        with _forks.in_use:
            return kept_value(self._places.database, name)

    def studio_rows(self) -> str:
        """The rows of Studio's switches as JSON: see mailvane.queue.studio; "" where the table is not made yet."""
        with _forks.in_use:
            return studio_rows_in(self._places.database)

    def keep(self, name: str, value: str) -> None:
        """Has the queue keep a value. An owner of the queue keeps what it needs itself. Raises QueueUnavailable."""
        self.do(lambda store: store.writer.keep(name, value), lambda owner: None)

    def append(self, groups: Sequence[Group]) -> Sequence[Answer]:
        """As a store's `append`; if the owner is lost meanwhile, it is done over with the same tokens, never twice.

        Groups go to the owner joined, as many as one request takes, and it commits them at once.
        """
        ours = self._append_here(groups)
        return self._append_there(groups) if ours is None else ours

    def _append_here(self, groups: Sequence[Group]) -> Sequence[Answer] | None:
        """What was answered by the queue in hand; None if somebody else has it."""
        if not self._take():
            return None
        try:
            with _forks.in_use:
                return self._open().append(groups)
        finally:
            self._rest_after_a_burst()

    def _append_there(self, groups: Sequence[Group]) -> list[Answer]:
        requests = _in_requests(groups)
        parts = [_joined(request) for request in requests]
        answers: list[Answer] = []
        in_doubt = False  # whether the owner that was lost has recorded the first part that has no answer yet

        def by_owner(owner: OwnerClient) -> None:
            nonlocal in_doubt
            while len(answers) < len(parts):
                try:
                    answers.append(owner.append(*parts[len(answers)]))
                except NobodyThere:
                    raise
                except OwnerLost:
                    in_doubt = True
                    raise
                except QueueUnavailable as e:
                    answers.append(e)
                in_doubt = False

        def locally(store: BallastedStore) -> None:
            at = len(answers)
            if in_doubt:
                answers.extend(store.append(parts[at:]))
            else:  # a token costs a row
                wanted = zip(parts[at:], requests[at:], strict=True)
                answers.extend(store.append([(events, request[0][1]) for (events, _), request in wanted]))

        try:
            self._do(locally, by_owner)
        except QueueUnavailable as e:
            if in_doubt:
                answers.append(QueueUnavailable(f"whether it was recorded is unknown, for its owner was lost: {e}"))
            answers += [e] * (len(parts) - len(answers))
        return [one for answer, request in zip(answers, requests, strict=True) for one in _apart(answer, request)]

    def do(self, locally: Callable[[BallastedStore], T], by_owner: Callable[[OwnerClient], T]) -> T:
        """Does something with the queue in hand, or by its owner, whichever there is. Raises QueueUnavailable."""
        try:
            return self._do(locally, by_owner)
        finally:
            self.idle()

    def idle(self) -> None:
        """Gives the lock back: nothing follows for now."""
        self._lock.release()

    def _do(self, locally: Callable[[BallastedStore], T], by_owner: Callable[[OwnerClient], T]) -> T:
        """As `do`, and keeps the lock for what follows at once."""
        end = time.monotonic() + LOCK_WAIT
        while True:
            if self._take():
                try:
                    with _forks.in_use:
                        return locally(self._open())
                finally:
                    self._rest_after_a_burst()
            try:
                return by_owner(self._client)
            except (NobodyThere, OwnerLost):
                # Either a command of a moment has it (it has no socket, and will be done soon), or an owner is on its
                # way up or down. What `do` does may be done over.
                if self._forbidden:
                    raise QueueUnavailable(
                        f"{self._places.lock}: this user may not open it, and no process answers for the queue"
                    ) from None
                if time.monotonic() > end:
                    holder = describe(self._lock.holder())
                    raise QueueUnavailable(f"the queue is in use by {holder}, which does not answer") from None
                time.sleep(LOOK_EVERY)

    def _rest_after_a_burst(self) -> None:
        if (now := time.monotonic()) - self._taken_at > BURST:
            self._lock.release()
            self._rest_until = now + REST

    def _take(self) -> bool:
        if self._lock.held:
            return True
        time.sleep(max(0.0, self._rest_until - time.monotonic()))
        try:
            taken = self._lock.take()
        except PermissionError:
            # Another user's home: its owner, if there is one, may let us in by its socket.
            self._forbidden = True
            return False
        except OSError as e:
            raise QueueUnavailable(f"{self._places.lock}: {e.strerror}; is the home there, and ours to write?") from e
        if taken:
            self._taken_at, self._looked_at = time.monotonic(), False
        return taken

    def _open(self) -> BallastedStore:
        if self._store is not None and not self._looked_at and not self._store.writer.is_current():
            self.close_connection()
        self._looked_at = True
        if self._broken is not None:
            raise self._broken
        if self._store is None:
            ballast = Ballast(self._places.ballast)
            refuse_emptied(self._places.database, ballast.is_there())
            try:
                migrate(self._places.database)
                self._store = BallastedStore(SQLiteWriter(self._places.database), ballast)
            except Broken as e:
                self._broken = e
                raise
        return self._store

    def close(self) -> None:
        self.idle()
        self._client.close()
        with _forks.in_use:
            self.close_connection()

    def close_connection(self) -> None:
        """It is opened again when it is needed."""
        if self._store is not None:
            self._store.writer.close()
            self._store = None


def _in_requests(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups put together as far as one request takes them; one that came with its token stands alone."""
    requests: list[list[Group]] = []
    count = size = 0
    for group in groups:
        events, token = group
        length = sum([len(e.body.encode()) + len(e.extra.encode()) + 4 for e in events])
        too_many = count + len(events) > POST_EVENTS or size + length > POST_BYTES
        if not requests or token or requests[-1][-1][1] or too_many:
            requests.append([])
            count = size = 0
        requests[-1].append(group)
        count += len(events)
        size += length
    return requests


def _joined(groups: Sequence[Group]) -> Group:
    return [e for events, _ in groups for e in events], groups[0][1] or secrets.token_hex(12)


def _apart(answer: Answer, groups: Sequence[Group]) -> list[Answer]:
    """What was answered to joined groups, for each of them."""
    if isinstance(answer, QueueUnavailable):
        return [answer] * len(groups)
    ids = iter(answer)
    return [list(islice(ids, len(events))) for events, _ in groups]
