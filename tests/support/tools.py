"""Programs that tests run: a test whose tool is missing fails and says so; it is never skipped."""

import pytest

import need


def tool(name: str) -> str:
    """The path of a program from PATH or .tools; fails the test if it is in neither."""
    found = need.find(name)
    if found is None:
        pytest.fail(f"{name} is missing: `make test` gets it (python3 scripts/need.py {name})", pytrace=False)
    return str(found)
