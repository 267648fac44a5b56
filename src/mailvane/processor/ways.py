"""A plan at work: which lane, or what else, each of its routes leads to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailvane.processor.lane import Lane
from mailvane.processor.plan import Drop, Leave
from mailvane.processor.routing import Router

Way = Lane | Drop | Leave | None


@dataclass
class Routing:
    """The router of a plan, and the way of each of its routes."""

    router: Router | None = None
    ways: Sequence[Way] = ()
    lanes: Sequence[Lane] = field(default_factory=list[Lane])

    def way(self, event_type: str, mail_class: str) -> Way:
        if self.router is None:
            return None
        index = self.router.route(event_type, mail_class)
        return None if index is None else self.ways[index]
