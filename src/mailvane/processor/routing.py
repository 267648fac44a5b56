"""Which route of a plan takes an event.

First match: routes are tried in the order of the file, and the first whose filters all match takes the event. Filters
look at the event's type and its mail class and at nothing else, so the answer for a pair of the two holds for all
events of that pair, and is remembered. Routing is late: this is asked when an event is read, of the plan in force.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from mailvane.processor.plan import Match, Plan

A = TypeVar("A")

REMEMBERED = 10_000
"""Pairs that a router remembers. Mail classes come from outside, so there may be any number of them."""
REMEMBERED_LENGTH = 256
"""Characters of a mail class beyond which its pair is not remembered."""


def first_match(plan: Plan, event_type: str, mail_class: str) -> int | None:
    """The index of the route that takes events of this type and mail class; None when no route does."""
    kind, klass = event_type.lower(), mail_class.lower()
    for index, route in enumerate(plan.routes):
        if _matches(route.match, kind, klass):
            return index
    return None


def _matches(match: Match, kind: str, klass: str) -> bool:
    return (match.event_types is None or kind in match.event_types) and (
        match.mail_classes is None or klass in match.mail_classes
    )


class Router(Generic[A]):
    """`first_match` of one plan, remembered: a look-up in a dict for a pair that was seen before.

    `answers` has what each of the plan's routes stands for to whoever asks.
    """

    __slots__ = ("_seen", "answers", "plan")

    def __init__(self, plan: Plan, answers: Sequence[A]) -> None:
        self.plan = plan
        self.answers = answers
        self._seen: dict[tuple[str, str], A | None] = {}

    def route(self, event_type: str, mail_class: str) -> A | None:
        """The answer of the route that takes such events; None when no route does."""
        try:
            return self._seen[event_type, mail_class]
        except KeyError:
            return self._find(event_type, mail_class)

    def _find(self, event_type: str, mail_class: str) -> A | None:
        index = first_match(self.plan, event_type, mail_class)
        found = None if index is None else self.answers[index]
        if len(mail_class) <= REMEMBERED_LENGTH:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[event_type, mail_class] = found
        return found
