"""The limit against endpoints that are played: a deterministic queue, no clock, no network."""

import heapq
import statistics
from dataclasses import dataclass, field

import pytest

from mailvane.destinations.contract import Failure
from mailvane.processor.concurrency import Limit


@dataclass
class Play:
    """A lane that always has something to send, and an endpoint at a distance that does so many a second, in order."""

    limit: Limit
    round_trip: float
    capacity: float | None = None
    now: float = 0.0
    answers: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    _under_way: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    _free: float = 0.0

    def run(self, seconds: float) -> "Play":
        end = self.now + seconds
        while self.now < end:
            while len(self._under_way) < self.limit.value:
                arrives = self.now + self.round_trip / 2
                if self.capacity:
                    arrives = self._free = max(arrives, self._free) + 1 / self.capacity
                heapq.heappush(self._under_way, (arrives + self.round_trip / 2, self.now))
            self.now, sent = heapq.heappop(self._under_way)
            self.answers.append((self.now, self.now - sent))
            self.limit.answered([self.now - sent], len(self._under_way) + 1)
        return self

    def since(self, moment: float) -> tuple[float, float]:
        """Answers a second and their median."""
        seconds = [s for at, s in self.answers if at > moment]
        return len(seconds) / (self.now - moment), statistics.median(seconds)


@pytest.mark.parametrize("round_trip", [0.0005, 0.05, 0.2])
def test_a_far_endpoint_gets_256_within_seconds(round_trip: float):
    play = Play(Limit(), round_trip).run(min(6.0, 60 * round_trip))
    assert play.limit.value == 256


@pytest.mark.parametrize("capacity", [200, 1_000, 3_000])
def test_a_limited_endpoint_is_used_fully_and_not_flooded(capacity: float):
    play = Play(Limit(), 0.05, capacity).run(60.0)
    rate, median = play.since(20.0)
    assert rate > 0.97 * capacity
    assert median <= 1.6 * 0.05 + 0.004


def test_the_limit_does_not_creep_up_over_hours():
    play = Play(Limit(), 0.05, 200).run(3_600.0)
    assert play.limit.value <= 16
    rate, _ = play.since(3_000.0)
    assert rate > 0.97 * 200


def test_an_endpoint_that_can_do_little_gets_little():
    play = Play(Limit(), 0.05, 20).run(120.0)
    assert 1 <= play.limit.value <= 4


@pytest.mark.parametrize("a_second", [25_000, 50_000])
def test_time_that_our_own_machine_adds_does_not_keep_the_limit_down(a_second: float):
    play = Play(Limit(), 0.0002, a_second).run(12.0)
    assert play.limit.value >= 16
    rate, _ = play.since(play.now - 5)
    assert rate > 0.97 * a_second


def test_an_endpoint_beside_us_does_not_get_more_than_it_has_a_use_for():
    assert Play(Limit(), 0.0002, 50_000).run(12.0).limit.value <= 64


def test_an_endpoint_that_loses_capacity_is_relieved():
    play = Play(Limit(), 0.05, 3_000).run(20.0)
    assert play.limit.value > 100
    play.capacity = 300
    play.run(10.0)
    assert play.limit.value <= 32
    play.capacity = 3_000
    play.run(30.0)
    assert play.limit.value > 100, "and gets more when it can do more"


def test_a_way_that_became_longer_is_no_overload():
    play = Play(Limit(), 0.02).run(20.0)
    assert play.limit.value == 256
    play.round_trip = 0.2
    play.run(20.0)
    rate, _ = play.since(play.now - 5)
    assert rate > 0.9 * 256 / 0.2


def test_a_limit_that_is_not_used_stays():
    limit = Limit()
    for _ in range(1_000):
        assert not limit.answered([0.05], 3)
    assert limit.value == 16


@pytest.mark.parametrize("failure", [Failure.THROTTLED, Failure.TIMEOUT])
def test_too_much_halves_the_limit_once_for_all_that_was_under_way(failure: Failure):
    limit = Limit(start=64)
    assert limit.failed(failure)
    assert limit.value == 32
    for _ in range(63):
        assert not limit.failed(failure)
    assert limit.value == 32
    assert limit.failed(failure)
    assert limit.value == 16


def test_it_never_falls_below_one():
    limit = Limit()
    for _ in range(100):
        limit.failed(Failure.TIMEOUT)
    assert limit.value == 1
    assert not limit.failed(Failure.TIMEOUT)


def test_other_failures_leave_it():
    limit = Limit()
    for failure in Failure:
        if failure not in (Failure.THROTTLED, Failure.TIMEOUT):
            assert not limit.failed(failure)
    assert limit.value == 16


def test_after_too_much_it_grows_more_gently():
    play = Play(Limit(), 0.05).run(5.0)
    assert play.limit.value == 256
    play.limit.failed(Failure.THROTTLED)
    assert play.limit.value == 128
    play.run(0.5)
    assert 128 < play.limit.value < 180
    play.run(5.0)
    assert play.limit.value == 256


def test_the_ceiling_holds():
    assert Limit(ceiling=4).value == 4
    assert Play(Limit(ceiling=50), 0.05).run(9.0).limit.value == 50


def test_connections_are_not_closed_for_a_round_of_measuring():
    play, smallest = Play(Limit(), 0.05).run(5.0), 256
    kept = play.limit.connections
    for _ in range(200):
        play.run(0.1)
        smallest = min(smallest, play.limit.value)
        assert play.limit.connections >= kept - 1
    assert smallest == 128, "it did measure"


def test_back_from_an_open_circuit_it_starts_low():
    limit = Limit(start=200)
    assert limit.restart()
    assert limit.value == 16
    assert not limit.restart()
