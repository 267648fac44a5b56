"""docs/reliability.md names tests that are there."""

import re
from pathlib import Path

HERE = Path(__file__).parents[2]
PAGE = (HERE / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_promise_names_tests_that_are_there() -> None:
    named = re.findall(r"\[(test_\w+)\]\(\.\./(\S+?)\)", PAGE)
    gone = [
        f"{name} in {file}"
        for name, file in named
        if not re.search(rf"^\s*(?:async )?def {name}\(", (HERE / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert gone == []
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert rows and all("](" in row for row in rows), "a promise without a test"
