import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.destinations.contract import Failure
from mailvane.processor.circuit import IN_A_ROW, TABLE, WINDOW, Circuit, Health, Signal, State, step, wait_before


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit()
    for event in range(1, IN_A_ROW + 1):
        circuit.failed(event, Failure.SERVER, now)
    assert circuit.health.state is State.OPEN
    return circuit


def test_five_different_events_in_a_row_open_it():
    circuit = Circuit()
    for event in range(1, 5):
        assert circuit.failed(event, Failure.CONNECT, 0.0) is None
    assert circuit.closed
    assert circuit.failed(5, Failure.CONNECT, 0.0) == Health(State.OPEN, 1.0, 0)
    assert not circuit.closed


def test_the_same_event_failing_over_and_over_does_not_open_it():
    circuit = Circuit()
    for _ in range(WINDOW // 2):
        circuit.failed(7, Failure.SERVER, 0.0)
    assert circuit.closed


def test_a_success_between_starts_the_row_again():
    circuit = Circuit()
    for round_ in range(10):
        for n in range(4):
            circuit.failed(round_ * 10 + n, Failure.SERVER, 0.0)
        circuit.succeeded(round_ * 10 + 9, 0.0)
        circuit.succeeded(round_ * 10 + 8, 0.0)
        for n in range(10):
            circuit.succeeded(1_000 + n, 0.0)
    assert circuit.closed


def test_more_than_half_of_the_last_hundred_open_it():
    circuit = Circuit()
    for n in range(50):
        circuit.succeeded(1_000 + n, 0.0)
        assert circuit.failed(n, Failure.SERVER, 0.0) is None
    assert circuit.closed, "half is not more than half"
    assert circuit.failed(50, Failure.SERVER, 0.0) == Health(State.OPEN, 1.0, 0)


def test_a_few_failures_among_the_first_attempts_are_not_more_than_half_of_a_hundred():
    circuit = Circuit()
    for n in range(4):
        circuit.failed(n, Failure.SERVER, 0.0)
    circuit.succeeded(9, 0.0)
    for n in range(4):
        circuit.failed(n, Failure.SERVER, 0.0)
    assert circuit.closed


def test_failures_long_ago_are_forgotten():
    circuit = Circuit()
    for n in range(50):
        circuit.failed(n % 4, Failure.SERVER, 0.0)
    for n in range(WINDOW):
        circuit.succeeded(n, 0.0)
    for n in range(50):
        circuit.failed(n % 4, Failure.SERVER, 0.0)
    assert circuit.closed


def test_attempts_that_we_ended_ourselves_never_count():
    circuit = Circuit()
    for event in range(1_000):
        assert circuit.failed(event, Failure.CLOSED, 0.0) is None
    assert circuit.closed


@pytest.mark.parametrize("failure", [f for f in Failure if f not in (Failure.CLOSED, Failure.GONE, Failure.EVENT)])
def test_h13_every_other_class_counts(failure: Failure):
    circuit = Circuit()
    for event in range(1, 6):
        circuit.failed(event, failure, 0.0)
    assert circuit.health.state is State.OPEN


def test_h13_probes_come_after_1_2_4_up_to_60_seconds():
    circuit, now, waits = opened(), 0.0, list[float]()
    for event in range(10, 20):
        wait = circuit.wait(now)
        assert wait is not None
        waits.append(wait)
        now += wait
        assert circuit.wait(now) == 0.0
        assert circuit.probe(event, now) is not None
        assert circuit.wait(now) is None, "one probe at a time"
        circuit.failed(event, Failure.REFUSED, now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert wait_before(10**9) == 60


def test_a_probe_that_succeeds_closes_it_and_starts_afresh():
    circuit = opened()
    circuit.probe(10, 1.0)
    assert circuit.succeeded(10, 1.1) == Health()
    assert circuit.closed
    for event in range(20, 24):
        assert circuit.failed(event, Failure.SERVER, 2.0) is None
    assert circuit.failed(24, Failure.SERVER, 2.0) == Health(State.OPEN, 3.0, 0), "from 1 s again"


def test_attempts_from_before_it_opened_do_not_speak_for_the_probe():
    circuit = opened()
    assert circuit.succeeded(99, 0.5) is None
    assert circuit.failed(98, Failure.TIMEOUT, 0.5) is None
    circuit.probe(10, 1.0)
    assert circuit.succeeded(99, 1.1) is None
    assert circuit.failed(98, Failure.TIMEOUT, 1.1) is None
    assert circuit.health.state is State.PROBING


def test_a_probe_that_was_lost_is_sent_again_at_once():
    circuit = opened()
    circuit.probe(10, 1.0)
    assert circuit.failed(10, Failure.CLOSED, 1.5) == Health(State.OPEN, 1.5, 0)
    assert circuit.wait(1.5) == 0.0


def test_a_probe_cannot_be_sent_while_it_is_closed():
    circuit = Circuit()
    assert circuit.probe(1, 0.0) is None
    assert circuit.closed


@pytest.mark.parametrize("failure", [Failure.THROTTLED, Failure.BUSY])
def test_h15_retry_after_rests_the_whole_lane(failure: Failure):
    circuit = Circuit()
    assert circuit.failed(1, failure, 100.0, 30.0) == Health(State.OPEN, 130.0, 0)
    assert circuit.wait(101.0) == 29.0
    assert circuit.failed(2, failure, 110.0, 60.0) == Health(State.OPEN, 170.0, 0), "a later one lengthens it"
    assert circuit.failed(3, failure, 120.0, 5.0) is None, "and never shortens it"
    circuit.probe(4, 170.0)
    assert circuit.failed(4, failure, 170.5, 300.0) == Health(State.OPEN, 470.5, 1)


def test_h15_retry_after_0_and_none_count_as_failures_only():
    circuit = Circuit()
    assert circuit.failed(1, Failure.THROTTLED, 0.0, 0.0) is None
    assert circuit.failed(2, Failure.THROTTLED, 0.0, None) is None
    assert circuit.failed(3, Failure.SERVER, 0.0, 60.0) is None, "500 is about one event"
    assert circuit.closed


def test_h17_410_stops_it_until_it_is_resumed_or_the_configuration_changes():
    for start in (Circuit.resume, Circuit.configured, Circuit.retry):
        circuit = Circuit()
        assert circuit.failed(1, Failure.GONE, 0.0) == Health(State.GONE)
        for event in range(2, 20):
            assert circuit.failed(event, Failure.SERVER, 1.0) is None
            assert circuit.succeeded(event, 1.0) is None
        assert circuit.wait(1e9) is None
        assert circuit.probe(20, 1e9) is None
        assert start(circuit, 2.0) == Health()
        assert circuit.closed


def test_a_person_s_pause_ends_by_resume_alone():
    circuit = opened()
    assert circuit.pause(1.0) == Health(State.PAUSED)
    assert circuit.wait(1e9) is None
    assert circuit.configured(2.0) is None
    assert circuit.retry(2.0) is None
    assert circuit.failed(1, Failure.GONE, 2.0) is None
    assert circuit.resume(2.0) == Health()


def test_retry_closes_an_open_circuit():
    assert opened().retry(0.1) == Health()


def test_pausing_while_the_probe_is_away_forgets_the_probe():
    circuit = opened()
    circuit.probe(10, 1.0)
    circuit.pause(1.1)
    assert circuit.succeeded(10, 1.2) is None
    assert circuit.health.state is State.PAUSED


def test_the_event_that_was_a_probe_counts_as_any_other_afterwards():
    circuit = opened()
    circuit.probe(10, 1.0)
    circuit.retry(1.1)
    for event in range(10, 14):
        assert circuit.failed(event, Failure.SERVER, 2.0) is None
    assert circuit.failed(14, Failure.SERVER, 2.0) == Health(State.OPEN, 3.0, 0)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("signal", Signal)
def test_step_goes_where_the_table_leads_and_nowhere_else(state: State, signal: Signal):
    before = Health(state, 5.0, 2)
    after = step(before, signal, 100.0)
    assert after.state is TABLE[state].get(signal, state)
    if signal not in TABLE[state]:
        assert after == before


def test_every_state_can_be_left_and_reached():
    assert set(TABLE) == set(State)
    assert {to for row in TABLE.values() for to in row.values()} == set(State)


def test_h22_a_flapping_endpoint_meets_no_storm():
    """Half of all attempts fail, for an hour; whenever it may, the lane sends a thousand a second."""
    chance, circuit, now, attempts, failures, event = random.Random(22), Circuit(), 0.0, 0, 0, 0
    while now < 3_600:
        wait = circuit.wait(now)
        if wait:
            now += wait
        event += 1
        if not circuit.closed:
            circuit.probe(event, now)
        attempts += 1
        now += 0.001
        if chance.random() < 0.5:
            failures += 1
            circuit.failed(event, Failure.SERVER, now)
        else:
            circuit.succeeded(event, now)
    assert attempts > 3_600, "it gets on nevertheless"
    assert failures < 3_600 * 1_000 / 2 / 10, "it is spared nine tenths of what would come without a circuit"


signals = st.sampled_from(["ok", "server", "throttled", "closed", "gone", "probe", "pause", "resume", "retry", "conf"])


@given(st.lists(st.tuples(signals, st.integers(1, 8), st.floats(0, 100))))
def test_whatever_happens_it_is_in_one_state_and_a_way_out_is_open(steps: list[tuple[str, int, float]]):
    circuit, now = Circuit(), 0.0
    for what, event, passed in steps:
        now += passed
        match what:
            case "ok":
                circuit.succeeded(event, now)
            case "probe":
                if circuit.wait(now) == 0.0:
                    circuit.probe(event, now)
            case "pause":
                circuit.pause(now)
            case "resume":
                circuit.resume(now)
            case "retry":
                circuit.retry(now)
            case "conf":
                circuit.configured(now)
            case "throttled":
                circuit.failed(event, Failure.THROTTLED, now, passed)
            case _:
                circuit.failed(
                    event, {"server": Failure.SERVER, "closed": Failure.CLOSED, "gone": Failure.GONE}[what], now
                )
        assert circuit.closed == (circuit.health.state is State.CLOSED)
        if circuit.health.state is State.OPEN:
            assert circuit.wait(now) is not None
            assert circuit.health.until <= now + 100
    circuit.resume(now)
    assert circuit.closed
