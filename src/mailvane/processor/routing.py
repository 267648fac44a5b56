"""Which route of a plan takes an event.

First match: routes are tried in the order of the file, and the first whose filters all match takes the event. Filters
look at the event's type and its mail class and at nothing else, so the answer for a pair of the two holds for all
events of that pair, and is remembered. Routing is late: this is asked when an event is read, of the plan in force.
"""

from mailvane.processor.plan import Match, Plan

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


class Router:
    """`first_match` of one plan, remembered: a look-up in a dict for a pair that was seen before."""

    __slots__ = ("_seen", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._seen: dict[tuple[str, str], int | None] = {}

    def route(self, event_type: str, mail_class: str) -> int | None:
        """The index of the route that takes such events; None when no route does."""
        try:
            return self._seen[event_type, mail_class]
        except KeyError:
            return self._find(event_type, mail_class)

    def _find(self, event_type: str, mail_class: str) -> int | None:
        found = first_match(self.plan, event_type, mail_class)
        if len(mail_class) <= REMEMBERED_LENGTH:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[event_type, mail_class] = found
        return found
