"""A flood of tiny requests at `mailvane run`. A million of them: tests/proof/test_floods.py."""

from collections.abc import Callable
from pathlib import Path

from support.endpoint import Endpoint
from support.flood import flood
from support.homes import Home


def test_m15_twenty_thousand_tiny_requests_keep_nobody_from_recording(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path
) -> None:
    flood(make_home, endpoint, tmp_path, 20_480)
