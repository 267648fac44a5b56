"""What people call the destinations of a plan: in the status, in logs and metrics, and when they pause one.

A name is type and place, secrets masked. Destinations that differ only in what is masked are told apart by what they
take, all of them: a name must not hang on where in the file a rule stands, or a pause, which is kept by name, would
pass to another destination when rules are put in another order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count

from mailvane.configuration.masking import mask_url
from mailvane.configuration.secrets import is_reference
from mailvane.destinations.contract import HttpPost, LogFile, SqlStatement
from mailvane.destinations.dsn import parse_dsn
from mailvane.destinations.texts import clean
from mailvane.processor.plan import Drop, Match, Route, Target


def named(rules: Sequence[tuple[Match, Target]]) -> tuple[Route, ...]:
    """The routes of these rules; those that lead to one target have one name."""
    taken_by: dict[Target, list[Match]] = {}
    for match, target in rules:
        taken_by.setdefault(target, []).append(match)
    alike = Counter(_shown(target) for target in taken_by)
    names: dict[Target, str] = {}
    for target, matches in taken_by.items():
        name = _shown(target)
        if alike[name] > 1:
            name = f"{name} ({_takes(matches)})"
        names[target] = _untaken(name, set(names.values()))
    return tuple(Route(names[target], match, target) for match, target in rules)


def _shown(target: Target) -> str:
    if isinstance(target, HttpPost):
        return f"http_post {mask_url(target.url)}"
    if isinstance(target, SqlStatement):
        where = target.dsn if is_reference(target.dsn) else parse_dsn(target.dsn).shown
        return f"{target.database} {where}"
    if isinstance(target, LogFile):
        return f"logfile {target.filename}"
    return "drop_from_queue" if isinstance(target, Drop) else "leave_in_queue"


def _takes(matches: Iterable[Match]) -> str:
    return " or ".join(sorted({_filters(match) for match in matches}))


def _filters(match: Match) -> str:
    types = ", ".join(sorted(match.event_types or ()))
    classes = ", ".join(sorted(clean(name) for name in match.mail_classes or ()))
    filters = [types] * bool(types) + [f"mail class {classes}"] * bool(classes)
    return "; ".join(filters) or "all"


def _untaken(name: str, taken: set[str]) -> str:
    """The name, numbered where another target has it. Two that take the same are left: of those the first in the file
    gets everything."""
    numbered = (name if n == 1 else f"{name} ({n})" for n in count(1))
    return next(n for n in numbered if n not in taken)
