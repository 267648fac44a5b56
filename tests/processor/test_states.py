import pytest

from mailvane.destinations.contract import HttpPost
from mailvane.processor.circuit import State
from mailvane.processor.plan import Drop, Leave, Target
from mailvane.processor.states import state_of, state_of_destination

POST = HttpPost("https://example.com/")


@pytest.mark.parametrize(
    ("target", "in_flight", "deferred", "state"),
    [
        (POST, False, False, "waiting"),
        (POST, False, True, "deferred"),
        (POST, True, False, "in_flight"),
        (POST, True, True, "in_flight"),
        (Drop(), False, False, "waiting"),
        (Leave(), False, False, "left"),
        (Leave(), False, True, "left"),
        # It failed under the plan before, whose attempt is still under way.
        (Leave(), True, True, "in_flight"),
        (None, False, False, "left"),
    ],
)
def test_an_event_is_shown_as_what_becomes_of_it_next(
    target: Target | None, in_flight: bool, deferred: bool, state: str
):
    assert state_of(target, in_flight, deferred) == state


@pytest.mark.parametrize(
    ("circuit", "deferred", "state"),
    [
        (State.CLOSED, 0, "ok"),
        (State.CLOSED, 3, "retrying"),
        (State.OPEN, 3, "circuit_open"),
        (State.PROBING, 0, "circuit_open"),
        (State.GONE, 0, "paused"),
        (State.PAUSED, 3, "paused"),
    ],
)
def test_a_destination_is_shown_as_it_is(circuit: State, deferred: int, state: str):
    assert state_of_destination(circuit, deferred) == state
