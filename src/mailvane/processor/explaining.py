"""What a plan does with every kind of event: which rule takes it, and which rules take nothing.

Filters look at the type and the mail class alone, so all answers fit into a table: for each type the classes that some
rule names, and all others. Pure: a plan in, a table out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailvane.processor.plan import Plan
from mailvane.processor.routing import first_match

_OTHER = "\0"
"""A mail class that no rule can name."""


@dataclass(frozen=True)
class Taken:
    """Events of this type and mail class (None: any that has no line of its own for this type) go to this rule, counted
    from 1; None: no rule takes them, they stay in the queue."""

    event_type: str
    mail_class: str | None
    rule: int | None


@dataclass(frozen=True)
class Shadowed:
    """What a rule names and never gets, because an earlier one takes it. A mail class of None: any."""

    event_type: str
    mail_class: str | None
    by: int


@dataclass(frozen=True)
class RuleExplained:
    """A rule, counted from 1: what it asks for (None: anything), and what of that never reaches it.

    Only what its filters name is listed as shadowed; a rule for all gets what is left by design.
    """

    number: int
    name: str
    event_types: tuple[str, ...] | None
    mail_classes: tuple[str, ...] | None
    reachable: bool
    shadowed: tuple[Shadowed, ...]


@dataclass(frozen=True)
class Explanation:
    """The whole plan."""

    rules: tuple[RuleExplained, ...]
    taken: tuple[Taken, ...]


def explain(plan: Plan, event_types: Iterable[str]) -> Explanation:
    """The table for these types of events, in the order given."""
    types = list(event_types)
    classes = sorted({c for route in plan.routes for c in route.match.mail_classes or ()})
    taken: list[Taken] = []
    for event_type in types:
        other = _rule(plan, event_type, _OTHER)
        for mail_class in classes:
            if (rule := _rule(plan, event_type, mail_class)) != other:
                taken.append(Taken(event_type, mail_class, rule))
        taken.append(Taken(event_type, None, other))
    used = {t.rule for t in taken}
    rules = tuple(_explained(plan, index, types, index + 1 in used) for index in range(len(plan.routes)))
    return Explanation(rules, tuple(taken))


def _explained(plan: Plan, index: int, types: Sequence[str], reachable: bool) -> RuleExplained:
    route = plan.routes[index]
    named_types = route.match.event_types
    named_classes = route.match.mail_classes
    shadowed: list[Shadowed] = []
    if named_types is not None or named_classes is not None:
        wanted = [t for t in types if named_types is None or t in named_types]
        for mail_class in sorted(named_classes) if named_classes is not None else [None]:
            for event_type in wanted:
                by = first_match(plan, event_type, _OTHER if mail_class is None else mail_class)
                if by is not None and by != index:
                    shadowed.append(Shadowed(event_type, mail_class, by + 1))
    return RuleExplained(
        index + 1,
        route.name,
        None if named_types is None else tuple(sorted(named_types)),
        None if named_classes is None else tuple(sorted(named_classes)),
        reachable,
        tuple(shadowed),
    )


def _rule(plan: Plan, event_type: str, mail_class: str) -> int | None:
    index = first_match(plan, event_type, mail_class)
    return None if index is None else index + 1
