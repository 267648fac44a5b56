"""What the wholes share."""

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def queue(request: pytest.FixtureRequest) -> str:
    """Runs a test on both queues: the URL of one in PostgreSQL, "" for one in SQLite."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
