"""What the processor needs to know of the configuration, as a value."""

from dataclasses import dataclass

from mailvane.destinations import contract
from mailvane.destinations.contract import LogFile

LEGACY = "__legacy__"
"""What people call the legacy configuration: all its destinations."""


@dataclass(frozen=True)
class Drop:
    """`drop_from_queue`: removes the event."""


@dataclass(frozen=True)
class Leave:
    """`leave_in_queue`: keeps it."""


Target = contract.Target | Drop | Leave


@dataclass(frozen=True)
class Match:
    """All given filters must match; None matches everything. Names are lowercased: filters ignore case."""

    event_types: frozenset[str] | None = None
    mail_classes: frozenset[str] | None = None


@dataclass(frozen=True)
class Route:
    """A rule and where it leads. `name` is what people see: type and place, secrets masked."""

    name: str
    match: Match
    target: Target


@dataclass(frozen=True)
class Plan:
    """The legacy configuration as a value: the first route that matches takes the event; what none takes stays.

    `logfile` stands beside the destinations: what is delivered or dropped is written there, too.
    """

    routes: tuple[Route, ...] = ()
    logfile: LogFile | None = None
