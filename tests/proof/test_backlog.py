"""A million events wait when `mailvane run` starts."""

from collections.abc import Callable

from support.backlog import start_over
from support.endpoint import Endpoint
from support.homes import LEAVES, Home


def test_d16_delivery_begins_at_once_over_a_million_waiting_events(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    start_over(home, endpoint, 1_000_000, delivered=100_000)
