"""Code that is not ours is ended when its time is up, whatever it does."""

import re
import signal
import threading
import time

import pytest

from mailvane.bounces.cpu_deadline import TookTooLong, within


def ages() -> object:
    """A pattern that would take longer than the sun has left."""
    return re.search("(a+)+$", "a" * 200 + "b")


def test_m6_a_pattern_without_end_is_ended() -> None:
    started = time.process_time()
    with pytest.raises(TookTooLong):
        within(0.1, ages)
    assert time.process_time() - started < 5


def test_m6_also_if_it_catches_everything_once() -> None:
    def stubborn() -> object:
        try:
            return ages()
        except TookTooLong:
            return ages()

    with pytest.raises(TookTooLong):
        within(0.1, stubborn)


def test_what_ends_in_time_is_returned_and_nothing_rings_afterwards() -> None:
    def never(*_: object) -> None:
        raise AssertionError("rang")

    before = signal.signal(signal.SIGVTALRM, never)
    try:
        assert within(0.05, lambda: 7) == 7
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        assert signal.getsignal(signal.SIGVTALRM) is never
    finally:
        signal.signal(signal.SIGVTALRM, before)


def test_another_thread_is_not_interrupted() -> None:
    said: list[int] = []
    thread = threading.Thread(target=lambda: said.append(within(0.01, lambda: sum(range(3_000_000)))))
    thread.start()
    thread.join()
    assert said == [sum(range(3_000_000))]
