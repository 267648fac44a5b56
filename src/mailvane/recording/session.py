"""What one process needs to record: a writer whose commits are shared, and the switches."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailvane.clock import SystemClock
from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm
from mailvane.queue.contract import APPEND_LIMIT
from mailvane.queue.short import Places, ShortStore
from mailvane.queue.writer import Writer
from mailvane.recording.intake import Intake
from mailvane.recording.switches import Switches

APPEND_BYTES = 900_000
"""Bytes of events in one group: what the owner's API takes at once, with room for what surrounds them."""


@dataclass(frozen=True)
class Where:
    """What recording needs to know of a home."""

    places: Places
    control_directory: Path
    server_id: str


class Session:
    """What belongs to one process: the writer with its thread, the switches. `post` and `soon` as for the writer."""

    def __init__(
        self,
        where: Where,
        post: Callable[[Callable[[], None]], object],
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.store = ShortStore(where.places, "a program that records")
        kept = self.store.kept("switches")  # may raise: before the thread is there
        self.writer = Writer(self.store, post, soon=soon)
        self.intake = Intake(Switches(where.control_directory, kept), where.server_id, SystemClock(), self._keep)

    def _keep(self, state: str) -> None:
        def order() -> None:
            # An owner keeps them itself; where nobody can now, the next change or the next process will.
            with contextlib.suppress(QueueUnavailable):
                self.store.do(lambda store: store.writer.keep("switches", state), lambda owner: None)

        self.writer.order(order)

    def end(self) -> None:
        self.writer.end()
        self.store.close()


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


def with_gaps(wanted: Sequence[StoredForm | None], ids: Iterable[int]) -> list[int | None]:
    """Ids by position, None where the type is off."""
    known = iter(ids)
    return [None if form is None else (next(known) or None) for form in wanted]
