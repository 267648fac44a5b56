"""The way of an event into the queue, up to the disk: is it wanted, and is it clean."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from threading import Lock

from mailvane.clock import Clock
from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.clean import admit, check, parse
from mailvane.events.codecs import StoredForm
from mailvane.recording.gate import Gate, Wanted
from mailvane.recording.studio import LOOK_EVERY as STUDIO_EVERY
from mailvane.recording.switches import Switches

LOOK_EVERY = 0.005
"""Seconds for which a look at the switches holds: looking costs as much as recording an event."""
_UNREAD = "Studio's table of switches was not read yet"


class Intake:
    """The switches and the door, as one process sees them. `keep` is called with the switches when they changed."""

    def __init__(self, switches: Switches, server_id: str, clock: Clock, keep: Callable[[str], None]) -> None:
        self.switches = switches
        self._server_id = server_id
        self._clock = clock
        self._keep = keep
        self._kept = switches.kept
        self._gate = Gate()
        self._looked = -1.0
        self._lock = Lock()

    def gate(self) -> Gate:
        """The switches as of now."""
        now = self._clock.monotonic()
        if now - self._looked < LOOK_EVERY and self._looked >= 0:
            return self._gate
        with self._lock:
            gate = self.switches.look()
            if gate is not self._gate:
                self._gate = gate
                if (state := self.switches.state()) != self._kept:
                    self._kept = state
                    self._keep(state)
            self._looked = now  # only now: until the first look is done, the gate says that everything is off
        return gate

    def form_in(self, text: bytes) -> StoredForm | None:
        """As `form`, of an event that came as JSON."""
        return self.form(parse(text))

    def form_of(self, event: Event) -> StoredForm | None:
        """As `form`, of an event that a program made: its types are looked at first."""
        return self.form(*check(event))

    def form(self, event: Event, wire: bytes = b"") -> StoredForm | None:
        """What goes into the queue of an event whose types are right; None if its type is off. `wire`: see `admit`.

        Raises EventRejected, and QueueUnavailable when it is not known whether the type is on: never taken for "off".
        """
        form = admit(event, self._server_id, int(self._clock.wall()), wire)
        gate = self.gate()
        match gate.wants(event):
            case Wanted.YES:
                return form
            case Wanted.NO:
                return None
            case Wanted.UNKNOWN:
                unknown, why = f"whether {event.event_type} is recorded is not known", "; ".join(self.switches.problems)
                if unknown not in why:  # a file that is empty for a moment is no problem yet
                    empty = event.event_type in gate.unknown
                    why = f"{unknown}: {why or ('its control file is empty' if empty else _UNREAD)}"
                raise QueueUnavailable(why)

    async def follow_studio(
        self, read: Callable[[], Awaitable[str]], tell: Callable[[str], None] = lambda problem: None
    ) -> None:
        """Looks at Studio's table again and again, for ever; `tell` is told each new problem. While the queue is away,
        what was last known goes on."""
        studio, told = self.switches.studio, ""
        while True:
            with contextlib.suppress(QueueUnavailable):
                studio.take(await read())
                self.gate()  # what is known now is kept, whether events come or not
            if studio.problem and studio.problem != told:
                tell(studio.problem)
            told = studio.problem
            await asyncio.sleep(STUDIO_EVERY)
