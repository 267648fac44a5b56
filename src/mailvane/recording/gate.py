"""Whether an event is wanted. Pure: `switches` reads the files, here is only what they mean.

Engine's events go by the control files, Studio's by the columns of its table; a type that both sides have is switched
for each on its own.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mailvane.events.catalogue import TYPES, Event
from mailvane.events.side import Side, side_of


class Wanted(StrEnum):
    """UNKNOWN: neither the file nor a kept state tells. Never to be read as "off": nothing may be acknowledged."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class IncludeStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which outcomes of a delivery attempt are recorded."""

    success: bool = True
    deferral: bool = True
    failure: bool = True
    failure_toolong: bool = True
    connmaxout: bool = False


class AttemptRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object of `record_events.delivery_attempt.json`, with its defaults."""

    enabled: bool = False
    include_status: IncludeStatus = IncludeStatus()
    include_first_attempt_regardless_of_status: bool = True
    include_local_channel: bool = True

    def include(self, event: Event) -> bool:
        """A status that the event does not tell is included: only what is named can be left out."""
        if not self.enabled or (event.channel == "local" and not self.include_local_channel):
            return False
        if event.is_retry == 0 and self.include_first_attempt_regardless_of_status:
            return True
        return not event.status or bool(getattr(self.include_status, event.status))


RECORD_NO_ATTEMPTS = AttemptRules()

OF_STUDIO = frozenset(t.name for t in TYPES.values() if t.column)
"""The types that Studio has a switch for. Engine's own (an open of a link that Engine made, in a campaign of Studio's)
go by their control file, whosever list it was."""


@dataclass(frozen=True)
class Gate:
    """Which events are recorded now: the types that are on for each side, and those that nobody knows of.

    `engine` and `unknown` may hold `delivery_attempt` too; its finer rules are in `attempts`.
    """

    engine: frozenset[str] = frozenset()
    studio: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    unknown_of_studio: frozenset[str] = frozenset()
    attempts: AttemptRules = RECORD_NO_ATTEMPTS

    def wants(self, event: Event, side: Side | None = None) -> Wanted:
        """`side` is given where the token or API that the event came by tells it; else the event itself does."""
        name = event.event_type
        if name in OF_STUDIO and (side or side_of(event)) is Side.STUDIO:
            if name in self.unknown_of_studio:
                return Wanted.UNKNOWN
            return Wanted.YES if name in self.studio else Wanted.NO
        if name in self.unknown:
            return Wanted.UNKNOWN
        if name not in self.engine:
            return Wanted.NO
        if name == "delivery_attempt" and not self.attempts.include(event):
            return Wanted.NO
        return Wanted.YES
