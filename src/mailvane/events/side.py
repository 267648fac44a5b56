"""On which side of the house an event happened: Engine, which sends, or Studio, which keeps lists and subscribers."""

from enum import StrEnum
from operator import attrgetter

from mailvane.events.catalogue import FIELDS, TYPES, Event


class Side(StrEnum):
    ENGINE = "engine"
    STUDIO = "studio"


STUDIO_TYPES = frozenset(t.name for t in TYPES.values() if t.column and not t.switch)
"""The types that only Studio makes."""

STUDIO_IDS = tuple(name for name in FIELDS if name.startswith("studio_") and name.endswith("_id"))
"""The fields of which one with a value makes an event Studio's."""

_ids_of = attrgetter(*STUDIO_IDS)
_NO_IDS = (None,) * len(STUDIO_IDS)


def side_of(event: Event) -> Side:
    """The side that an event itself tells: Studio's if it has one of Studio's ids or is of one of Studio's own types.

    The token or the API that an event came by may know better; whoever has that knowledge goes by it instead.
    """
    if event.event_type in STUDIO_TYPES or _ids_of(event) != _NO_IDS:
        return Side.STUDIO
    return Side.ENGINE
