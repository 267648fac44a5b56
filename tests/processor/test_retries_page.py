"""docs/retries.md tells what the code does: its tables and numbers are compared with the code's own."""

import re
from pathlib import Path

from mailvane.clock import system_chance
from mailvane.destinations.contract import Failure
from mailvane.processor import circuit, concurrency, schedule

PAGE = (Path(__file__).parents[2] / "docs" / "retries.md").read_text()
TEXT = " ".join(PAGE.split())


def table(name: str) -> list[list[str]]:
    """The rows of a table of the page, without its head."""
    match = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert match, f"docs/retries.md has no table {name}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in match[1].splitlines()[2:]]


def seconds(value: float) -> str:
    return f"{value / 3600:g} h" if value >= 3600 else f"{value:g} s"


def test_the_floors_are_those_of_the_code():
    class NoChance:
        def random(self) -> float:
            return 0.0

    shown = [(row[0], row[2], row[3]) for row in table("floors")]
    assert shown == [
        (
            f"`{failure}`",
            seconds(schedule.next_delay(failure, 1, "", 0.0, NoChance())),
            seconds(schedule.next_delay(failure, 1_000, "", 0.0, NoChance())),
        )
        for failure in schedule.FLOORS
    ]
    assert all(row[1] for row in table("floors")), "each class says what happened"


def test_the_circuit_is_that_of_the_code():
    assert table("circuit") == [
        [state.value, signal.value, to.value] for state, row in circuit.TABLE.items() for signal, to in row.items()
    ]


def test_the_numbers_are_those_of_the_code():
    waits = list(dict.fromkeys(circuit.wait_before(n) for n in range(20)))
    told_floor = schedule.next_delay(Failure.THROTTLED, 1, "0", 0.0, system_chance()) // 5 * 5
    for sentence in (
        f"after {', '.join(f'{w:g}' for w in waits)} s, then every {circuit.LONGEST_WAIT:g} s",
        f"{circuit.IN_A_ROW} different events failed with no success between them",
        f"more than half of the last {circuit.WINDOW} attempts failed",
        f"so it takes {circuit.WINDOW // 2 + 1})",
        f"for `throttled` {told_floor:g} s: its {schedule.FLOORS[Failure.THROTTLED]:g} s are for",
        f"not more than {schedule.RETRY_AFTER_CAP / 3600:g} h",
        f"gets {concurrency.START} events at a time at first and up to {concurrency.CEILING} later",
        f"After every {concurrency.MEASURE_EVERY:g} s of full use",
        f"starts from {concurrency.START} again",
    ):
        assert sentence in TEXT
    rests = " or ".join(f"`{f}`" for f in Failure if f in circuit.RESTS)
    assert f"it answered {rests} with a `Retry-After`" in TEXT


def test_the_steps_of_concurrency_are_those_of_the_code():
    grace, shrink_grace = concurrency.GROW_GRACE * 1_000, concurrency.SHRINK_GRACE * 1_000
    rows = [row[0] for row in table("concurrency")]
    assert rows == [
        f"below {concurrency.GROW_BELOW:g} times the best, or within {grace:g} ms of it",
        "between",
        f"above {concurrency.SHRINK_ABOVE:g} times the best, and more than {shrink_grace:g} ms above it",
        " or ".join(f"`{f}`" for f in Failure if f in concurrency.OVERLOADED),
    ]
