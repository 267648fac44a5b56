"""The words in which people see what becomes of an event, and how a destination is.

Nothing stores them: an event's state follows from the plan in force and from what the processor holds; a destination's
from its circuit and from whether events of it wait for another try.
"""

from enum import StrEnum

from mailvane.processor.circuit import State
from mailvane.processor.plan import Leave, Target


class EventState(StrEnum):
    """Where an event in the queue stands."""

    WAITING = "waiting"
    """Its turn comes."""
    IN_FLIGHT = "in_flight"
    """An attempt has begun and its outcome is not on disk yet."""
    DEFERRED = "deferred"
    """It failed, and waits for another try."""
    LEFT = "left"
    """The plan leaves it in the queue, or has no place for it."""
    DELIVERED = "delivered"
    """It is in the queue no more, and kept for a while (`keep_delivered`)."""


class DestinationState(StrEnum):
    """How a destination is."""

    OK = "ok"
    RETRYING = "retrying"
    """It takes events, and some that failed wait for another try."""
    CIRCUIT_OPEN = "circuit_open"
    """It failed too often: one attempt at a time finds out whether it is back."""
    PAUSED = "paused"
    """A person stopped it, or it said that it is gone (410): nothing is sent until told so."""


def state_of(target: Target | None, in_flight: bool, deferred: bool) -> EventState:
    """An event's state. `target` is where the plan in force leads it, None for nowhere."""
    if in_flight:
        return EventState.IN_FLIGHT
    if target is None or isinstance(target, Leave):
        return EventState.LEFT
    return EventState.DEFERRED if deferred else EventState.WAITING


def state_of_destination(circuit: State, deferred: int) -> DestinationState:
    """A destination's state; `deferred` is how many of its events failed and wait."""
    match circuit:
        case State.PAUSED | State.GONE:
            return DestinationState.PAUSED
        case State.OPEN | State.PROBING:
            return DestinationState.CIRCUIT_OPEN
        case State.CLOSED:
            return DestinationState.RETRYING if deferred else DestinationState.OK
