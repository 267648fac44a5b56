"""A million tiny requests at `mailvane run`: answered, in bounded memory, and others record meanwhile."""

from collections.abc import Callable
from pathlib import Path

from support.endpoint import Endpoint
from support.flood import flood
from support.homes import Home


def test_m15_a_million_tiny_requests(make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path) -> None:
    flood(make_home, endpoint, tmp_path, 1_000_000)
