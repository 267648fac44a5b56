from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.destinations.contract import Failure
from mailvane.processor.schedule import CAP, FARTHEST, FLOORS, next_delay, parse_retry_after

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Chance:
    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


NONE = Chance(0.0)
FULL = Chance(1.0 - 1e-9)


def test_every_class_of_failure_has_a_floor():
    assert set(FLOORS) == set(Failure)


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (Failure.SERVER, 5),
        (Failure.TIMEOUT, 5),
        (Failure.CONNECT, 5),
        (Failure.DNS, 5),
        (Failure.TLS, 5),
        (Failure.THROTTLED, 30),
        (Failure.REFUSED, 60),
        (Failure.REDIRECT, 60),
    ],
)
def test_the_wait_starts_at_the_floor_and_doubles_up_to_an_hour(failure: Failure, seconds: float):
    waits = [next_delay(failure, n, "", NOW, NONE) for n in range(1, 14)]
    assert waits[0] == seconds
    assert waits == [min(3_600, seconds * 2**n) for n in range(13)]
    assert waits[-1] == 3_600


def test_chance_adds_up_to_half_and_never_takes_away():
    assert next_delay(Failure.SERVER, 1, "", NOW, NONE) == 5
    assert 7.49 < next_delay(Failure.SERVER, 1, "", NOW, FULL) < 7.5


def test_years_of_failures_do_not_overflow():
    assert next_delay(Failure.SERVER, 10**9, "", NOW, NONE) == CAP


def test_what_was_closed_by_us_is_due_at_once():
    assert next_delay(Failure.CLOSED, 3, "", NOW, FULL) == 0


H16 = {
    "120": 120.0,
    "Tue, 24 Nov 2026 12:02:00 GMT": 120.0,
    "Tuesday, 24-Nov-26 12:02:00 GMT": 120.0,
    "Tue Nov 24 12:02:00 2026": 120.0,
    "Tue, 24 Nov 2026 11:59:00 GMT": None,
    "Sunday, 06-Nov-94 08:49:37 GMT": None,
    "-1": None,
    "1e9": None,
    "1000000000": DAY,
    "9" * 5_000: DAY,
    "Fri, 24 Nov 2028 12:00:00 GMT": DAY,
    "abc": None,
    "120, 240": None,
    "Tue, 24 Nov 2026 12:02:00 GMT, Tue, 24 Nov 2026 12:04:00 GMT": None,
    "Tue, 32 Nov 2026 12:02:00 GMT": None,
    "Tue, 24 Nop 2026 12:02:00 GMT": None,
    "Tue, 24 Nov 0000 12:02:00 GMT": None,
    "": None,
    " 7 ": 7.0,
    "0": 0.0,
    "１２０": None,
    "1_0": None,
    "Tue Dec  1 00:00:00 2026": DAY,
}


@pytest.mark.parametrize(("value", "seconds"), H16.items(), ids=[k[:40] for k in H16])
def test_h16_retry_after_is_obeyed_within_bounds(value: str, seconds: float | None):
    assert parse_retry_after(value, NOW) == seconds


def test_h16_what_the_endpoint_names_replaces_the_doubling():
    assert next_delay(Failure.THROTTLED, 9, "120", NOW, NONE) == 120
    assert next_delay(Failure.SERVER, 9, "120", NOW, NONE) == 120
    assert next_delay(Failure.THROTTLED, 1, "120", NOW, FULL) == pytest.approx(180)


def test_h16_the_floor_holds_below_it():
    assert next_delay(Failure.REFUSED, 1, "1", NOW, NONE) == 60
    assert next_delay(Failure.SERVER, 1, "1", NOW, NONE) == 5
    assert next_delay(Failure.THROTTLED, 1, "1", NOW, NONE) == 5, "30 s are for those that name no time"


def test_h16_a_bad_value_is_as_none():
    for bad in (value for value, seconds in H16.items() if seconds is None):
        assert next_delay(Failure.THROTTLED, 2, bad, NOW, NONE) == 60


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"))
def test_h16_no_value_raises_or_leaves_the_bounds(value: str):
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= DAY


@given(
    st.sampled_from(list(Failure)),
    st.integers(0, 10**6),
    st.sampled_from(list(H16)),
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_below_the_floor_or_beyond_the_farthest(failure: Failure, attempts: int, told: str, chance: float):
    wait = next_delay(failure, attempts, told, NOW, Chance(chance))
    assert min(FLOORS[failure], 5) <= wait <= FARTHEST
