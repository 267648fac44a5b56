"""A plan at work: which lane, or what else, each of its routes leads to.

What was found for a type and a mail class is remembered, as in `routing`: this is asked for every row that is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailvane.processor.lane import Lane
from mailvane.processor.plan import Drop, Leave
from mailvane.processor.routing import REMEMBERED, REMEMBERED_LENGTH, Router

Way = Lane | Drop | Leave | None


@dataclass
class Routing:
    """The router of a plan, and the way of each of its routes."""

    router: Router | None = None
    ways: Sequence[Way] = ()
    lanes: Sequence[Lane] = field(default_factory=list[Lane])
    _known: dict[tuple[str, str], Way] = field(default_factory=dict[tuple[str, str], Way])

    def way(self, event_type: str, mail_class: str) -> Way:
        try:
            return self._known[event_type, mail_class]
        except KeyError:
            return self._find(event_type, mail_class)

    def _find(self, event_type: str, mail_class: str) -> Way:
        if self.router is None:
            return None
        index = self.router.route(event_type, mail_class)
        way = None if index is None else self.ways[index]
        if len(mail_class) <= REMEMBERED_LENGTH:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[event_type, mail_class] = way
        return way
