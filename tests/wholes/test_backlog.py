"""Many events wait when `mailvane run` starts: it starts at once, delivers at once, and takes little memory."""

from collections.abc import Callable

from support.backlog import start_over
from support.endpoint import Endpoint
from support.homes import LEAVES, Home


def test_d16_delivery_begins_at_once_over_100_000_waiting_events(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    start_over(home, endpoint, 100_000, delivered=2_000)
