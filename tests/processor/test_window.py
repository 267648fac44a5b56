"""What waits for a destination: in which order it is taken out, how much at a time, and what was asked about."""

import sys
from collections.abc import Callable

import pytest

from mailvane.processor.held import HELD_BYTES, Held, sizes_of
from mailvane.processor.window import STALE, Window
from mailvane.queue.contract import Row
from processor.rig import StillClock

Take = Callable[..., None]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def window(held: Held, clock: StillClock) -> Window:
    return Window(held, clock)


@pytest.fixture
def take(window: Window) -> Take:
    def one(*ids: int, fresh: bool = False, size: int = 10) -> None:
        rows = [Row(i, "scomp", "", 0, "b" * size, "") for i in ids]
        window.take(rows, sizes_of(rows), fresh)

    return one


def taken(window: Window, most: int, most_bytes: int = HELD_BYTES) -> list[int]:
    return [row.id for row in window.next(most, most_bytes)]


def test_new_ones_and_old_ones_take_turns_and_what_is_alone_comes_at_once(window: Window, take: Take) -> None:
    take(1, 2, 3, 4, 5)
    take(11, 12, fresh=True)
    assert (window.waiting, window.fresh) == (7, 2)
    assert taken(window, 2) == [11, 1]
    assert (window.waiting, window.fresh) == (5, 1)
    assert taken(window, 10) == [12, 2, 3, 4, 5]
    assert (window.waiting, window.fresh) == (0, 0)


def test_a_batch_is_filled_from_several_parts(window: Window, take: Take) -> None:
    take(1, 2, 3)
    take(4)
    take(5, 6, 7)
    assert taken(window, 5) == [1, 2, 3, 4, 5]
    assert window.ids() == [6, 7]
    assert taken(window, 5) == [6, 7] and taken(window, 5) == []


@pytest.mark.parametrize(
    ("most_bytes", "first"), [(1, [1]), (10, [1]), (11, [1, 2]), (30, [1, 2, 3]), (45, [1, 2, 3, 4, 5])]
)
def test_it_ends_after_the_one_that_reaches_the_bytes(
    window: Window, take: Take, most_bytes: int, first: list[int]
) -> None:
    take(1, 2, 3)
    take(4, 5, 6)
    assert taken(window, 10, most_bytes) == first
    assert window.ids() == [i for i in range(1, 7) if i not in first]


def test_of_what_is_taken_out_nothing_stays_in_memory(window: Window) -> None:
    """However slowly the rest of a part goes: that would be memory which nobody counts."""
    rows = [Row(i, "scomp", "", 0, "b", "") for i in (1, 2, 3)]
    known = [sys.getrefcount(rows[0])]
    window.take(rows, sizes_of(rows), fresh=False)
    known.append(sys.getrefcount(rows[0]))
    first = taken(window, 1)
    known.append(sys.getrefcount(rows[0]))
    assert first == [1] and known == [known[0], known[0] + 1, known[0]]


def test_what_waited_for_long_is_asked_about_and_what_came_since_is_not(
    window: Window, take: Take, held: Held, clock: StillClock
) -> None:
    take(1, 2, 3)
    take(11, 12, fresh=True)
    assert taken(window, 1) == [11]
    clock.now += STALE + 0.1
    assert taken(window, 5) == [] and window.stale
    take(4)
    window.looked_up([1, 2, 3, 12], {1, 3}, clock.now)
    assert not window.stale and (window.waiting, window.fresh) == (3, 0)
    assert taken(window, 5) == [1, 3, 4]
    assert [i for i in (1, 2, 3, 4, 11, 12) if i in held] == [1, 3, 4, 11] and window.size == 40


def test_a_part_of_which_one_was_not_asked_about_is_asked_about_again(
    window: Window, take: Take, clock: StillClock
) -> None:
    take(1, 2)
    clock.now += STALE + 0.1
    window.looked_up([1], {1}, clock.now)
    assert taken(window, 2) == [] and window.stale
    window.looked_up([1, 2], {1, 2}, clock.now)
    assert taken(window, 2) == [1, 2]


def test_what_is_given_back_is_neither_held_nor_in_hand(window: Window, take: Take, held: Held) -> None:
    take(1, 2, 3)
    take(11, fresh=True)
    assert taken(window, 1) == [11]
    assert [row.id for row in window.empty()] == [1, 2, 3]
    assert (window.waiting, window.fresh, window.size, len(held)) == (0, 0, 10, 1)
    window.ended([11])
    assert window.size == 0 and 11 in held
