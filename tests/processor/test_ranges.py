"""Stretches of ids against a plain set of them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailvane.processor.ranges import MOST, NEAR, Ranges

ENDS = st.tuples(st.integers(0, 3_000), st.integers(0, 40)).map(lambda at: (at[0], at[0] + at[1]))
FAR_ENDS = st.tuples(st.integers(0, 300), st.integers(1, 40)).map(lambda at: (at[0] * 1_000, at[0] * 1_000 + at[1]))


def stretches(ranges: Ranges) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while ranges:
        found.append(ranges.first())
        ranges.passed(*ranges.first())
    return found


@given(st.lists(st.tuples(st.booleans(), ENDS | FAR_ENDS), max_size=120))
def test_what_was_added_and_not_passed_is_still_to_be_looked_through(steps: list[tuple[bool, tuple[int, int]]]):
    ranges, model = Ranges(), set[int]()
    for adds, (after, upto) in steps:
        ids = set(range(after + 1, upto + 1))
        if adds:
            ranges.add(after, upto)
            model |= ids
        else:
            ranges.passed(after, upto)
            model -= ids
            assert not any(i in ranges for i in ids)
        assert all(i in ranges for i in model)
        assert bool(ranges) or not model
    left = stretches(ranges)
    assert all(a < b for a, b in left) and all(b < c for (_, b), (c, _) in pairwise(left))
    assert model <= {i for after, upto in left for i in range(after + 1, upto + 1)}


@given(st.lists(FAR_ENDS, min_size=MOST + 1, max_size=300))
def test_many_stretches_become_few_and_lose_none(added: list[tuple[int, int]]):
    ranges = Ranges()
    for ends in added:
        ranges.add(*ends)
    assert all(i in ranges for after, upto in added for i in range(after + 1, upto + 1))
    assert len(stretches(ranges)) <= MOST


def test_those_that_lie_closest_are_merged():
    ranges = Ranges()
    for at in range(MOST):
        ranges.add(at * 10_000, at * 10_000 + 1)
    ranges.add(500, 501)
    assert stretches(ranges)[:2] == [(0, 501), (10_000, 10_001)]


def test_a_stretch_just_behind_the_last_one_goes_on_with_it():
    ranges = Ranges()
    ranges.add(0, 1)
    ranges.add(1 + NEAR, 2 + NEAR)
    ranges.add(3 + 2 * NEAR, 4 + 2 * NEAR)
    assert stretches(ranges) == [(0, 2 + NEAR), (3 + 2 * NEAR, 4 + 2 * NEAR)]


def test_what_was_passed_counts_by_both_its_ends():
    ranges = Ranges()
    ranges.add(10, 20)
    first = ranges.first()
    ranges.add(2, 3)  # given back while the first stretch is being looked through
    ranges.passed(first[0], 15)
    assert stretches(ranges) == [(2, 3), (15, 20)]
