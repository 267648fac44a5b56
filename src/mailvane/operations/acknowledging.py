"""Recording all events of a request or none, and what each of them is told."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mailvane.errors import EventRejected
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm
from mailvane.operations.queues import ProcessQueue
from mailvane.recording.intake import Intake


class Rejected(msgspec.Struct, frozen=True):
    """An event of a request that was not let in."""

    position: int
    field: str
    error: str


class RequestRejected(Exception):
    """At least one event of a request is wrong: none of it is recorded."""

    def __init__(self, errors: Sequence[Rejected]) -> None:
        super().__init__(f"{len(errors)} events rejected")
        self.errors = list(errors)


@dataclass(frozen=True)
class Acknowledged:
    """What became of an event: its id, or the type that is off."""

    id: int = 0
    disabled: str = ""


async def record_all(
    intake: Intake, queue: ProcessQueue, events: Sequence[Event | EventRejected], token: str = ""
) -> list[Acknowledged]:
    """Records events that were parsed; an EventRejected stands for one that could not be.

    Returns when all is on disk. Raises RequestRejected, with nothing recorded, or QueueUnavailable.
    """
    forms: list[StoredForm | None] = []
    errors: list[Rejected] = []
    for position, event in enumerate(events):
        if isinstance(event, EventRejected):
            errors.append(Rejected(position, event.field, event.reason))
            continue
        try:
            forms.append(intake.form(event))
        except EventRejected as e:
            errors.append(Rejected(position, e.field, e.reason))
    if errors:
        raise RequestRejected(errors)
    wanted = [form for form in forms if form is not None]
    ids = iter(await queue.appending(wanted, token) if wanted else ())
    kinds = [e.event_type for e in events if isinstance(e, Event)]
    return [
        Acknowledged(disabled=kind) if form is None else Acknowledged(next(ids))
        for form, kind in zip(forms, kinds, strict=True)
    ]
