"""Each test of a destination runs on the standard library's event loop and on uvloop's."""

import pytest

from destinations.adversary import LOOPS


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return request.param
