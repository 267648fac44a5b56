"""What one process needs to record: a writer whose commits are shared, and the switches."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

from mailvane.clock import SystemClock
from mailvane.errors import MailvaneError, QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm
from mailvane.queue.contract import APPEND_LIMIT
from mailvane.queue.short import Places, ShortStore
from mailvane.queue.writer import Store, Writer
from mailvane.recording.intake import Intake
from mailvane.recording.studio import LOOK_EVERY
from mailvane.recording.switches import Switches

T = TypeVar("T")

COMMAND = "a program that records"
APPEND_BYTES = 900_000
"""Bytes of events in one group: what the owner's API takes at once, with room for what surrounds them."""


@dataclass(frozen=True)
class Where:
    """What recording needs to know of a home."""

    places: Places
    control_directory: Path
    server_id: str
    database: Callable[[], str] | None = None
    """Where the queue is in PostgreSQL: gives its URL, which has a secret in it and is asked for late. None: it is the
    SQLite queue of `places`."""


class ProgramStore(Store, Protocol):
    """What the writer of a program writes to, and what the queue keeps."""

    def kept(self, name: str) -> str | None: ...

    def keep(self, name: str, value: str) -> None: ...

    def studio_rows(self) -> str: ...

    def close(self) -> None: ...


class Session:
    """What belongs to one process: the writer with its thread, the switches. `post` and `soon` as for the writer.

    Made by who may wait: a database is asked what it keeps. Raises QueueUnavailable.
    """

    def __init__(
        self,
        where: Where,
        post: Callable[[Callable[[], None]], object],
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.store = self._open(where)
        self._in_file = where.database is None
        kept = self.store.kept("switches") if self._in_file else None  # may raise: before the thread is there
        self.writer = Writer(self.store, post, soon=soon)
        self._clock = SystemClock()
        self._looking = Lock()
        self._look_again = 0.0
        try:
            if not self._in_file:
                kept = self._by_the_writer(lambda: self.store.kept("switches"))
            self._switches = Switches(where.control_directory, kept)
            self.look_at_studio()
        except BaseException:  # no thread is left behind
            self.end()
            raise
        self.intake = Intake(self._switches, where.server_id, self._clock, self._keep)

    @property
    def look_is_due(self) -> bool:
        """Whether Studio's switches have to be looked at before an event is judged."""
        return self._clock.monotonic() >= self._look_again

    def look_at_studio(self) -> None:
        """Looks at Studio's switches, if that is due: before events are judged. May wait for a commit or a server.
        Where nobody can tell now, what was last known goes on: writing the events will tell."""
        with self._looking:
            now = self._clock.monotonic()
            if now < self._look_again:
                return
            with contextlib.suppress(QueueUnavailable):
                rows = self.store.studio_rows() if self._in_file else self._by_the_writer(self.store.studio_rows)
                self._switches.studio.take(rows)
            self._look_again = now + LOOK_EVERY

    def _open(self, where: Where) -> ProgramStore:
        if where.database is None:
            return ShortStore(where.places, COMMAND)
        # Only now: the driver takes longer to load than most commands take.
        from mailvane.queue.postgresql import store_in_postgresql

        database = where.database
        return known(lambda: store_in_postgresql(database(), COMMAND, self._judge))

    def _judge(self, event: bytes) -> StoredForm | None:
        """Of what people recorded inside their own transactions. Raises EventRejected, QueueUnavailable."""
        return self.intake.form_in(event)

    def _by_the_writer(self, ask: Callable[[], T]) -> T:
        """By the writer's thread, as all that is done with a server: an event loop may run in this one."""
        answer: Future[T] = Future()

        def order() -> None:
            try:
                answer.set_result(ask())
            except BaseException as e:  # told to who waits
                answer.set_exception(e)

        self.writer.order(order)
        return answer.result()

    def _keep(self, state: str) -> None:
        def order() -> None:
            # Where nobody can keep them now, the next change or the next process will.
            with contextlib.suppress(QueueUnavailable):
                self.store.keep("switches", state)

        self.writer.order(order)

    def end(self) -> None:
        self.writer.end()
        self.store.close()


def known(make: Callable[[], T]) -> T:
    """What needs the URL of the queue. Raises QueueUnavailable for a reference that leads to nothing, or to no URL."""
    try:
        return make()
    except QueueUnavailable:
        raise
    except MailvaneError as e:
        raise QueueUnavailable(f"the queue is not known: {e}") from e


def forms(intake: Intake, events: Iterable[Event]) -> list[StoredForm | None]:
    """Looks at all before any is recorded. Raises EventRejected."""
    return [intake.form_of(event) for event in events]


def groups(wanted: Iterable[StoredForm | None]) -> list[list[StoredForm]]:
    """What is wanted, in groups of what one append takes."""
    parts: list[list[StoredForm]] = [[]]
    size = 0
    for form in wanted:
        if form is None:
            continue
        length = len(form.body.encode()) + len(form.extra.encode())
        if parts[-1] and (len(parts[-1]) >= APPEND_LIMIT or size + length > APPEND_BYTES):
            parts.append([])
            size = 0
        parts[-1].append(form)
        size += length
    return [part for part in parts if part]


def with_tokens(wanted: Iterable[StoredForm | None], token: str) -> list[tuple[list[StoredForm], str]]:
    """`groups`, each with a token of its own made from `token`; "" for none.

    The number of events is part of it: a type that was switched meanwhile makes another request, not a refused one.
    """
    parts = groups(wanted)
    return [(group, token and f"{token}-{place}-{len(group)}") for place, group in enumerate(parts)]


def with_gaps(wanted: Sequence[StoredForm | None], ids: Iterable[int]) -> list[int | None]:
    """Ids by position, None where the type is off."""
    known = iter(ids)
    return [None if form is None else (next(known) or None) for form in wanted]
