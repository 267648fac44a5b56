"""A plan at work: which lane, or what else, each of its routes leads to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailvane.processor.lane import Lane
from mailvane.processor.plan import Drop, Leave
from mailvane.processor.routing import Router

Way = Lane | Drop | Leave


@dataclass
class Routing:
    """The router of a plan, whose answers are the ways of its routes; None before there is a plan."""

    router: Router[Way] | None = None
    lanes: Sequence[Lane] = ()

    def __post_init__(self) -> None:
        # A call less for every row that is read.
        self.way: Callable[[str, str], Way | None] = _nowhere if self.router is None else self.router.route

    @property
    def drops(self) -> bool:
        """Whether any of its routes drops events."""
        return self.router is not None and any(isinstance(way, Drop) for way in self.router.answers)


def _nowhere(event_type: str, mail_class: str) -> None:
    return None
