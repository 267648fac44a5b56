"""Rules change places over a million events, half of which stay left; new ones are not behind them."""

from collections.abc import Callable

from support.endpoint import Endpoint
from support.filling import ADDRESSED, reorder
from support.homes import Home
from support.oracle import Oracle, assert_books_balance

MILLION = 1_000_000
BOUND = 10.0


def test_rules_change_places_over_a_million_events_half_of_which_stay(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home, oracle = make_home(enable=["bounce_all", "scomp", "unsub", "click"]), Oracle()
    process = reorder(home, endpoint, oracle, MILLION, BOUND)
    print(f"VmHWM {process.peak_memory_kib() / 1024:.0f} MiB", flush=True)
    left = MILLION // 2
    books = home.status()["books"]
    assert_books_balance(books, recorded=MILLION + 3, dropped=left - ADDRESSED, delivered=ADDRESSED + 3, waiting=left)
    oracle.acknowledged = {n: i for n, i in oracle.acknowledged.items() if n >= left}  # the rest is left
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats
