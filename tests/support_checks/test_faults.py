"""docs/faults.md is made of tests/faults.toml and of the tests that carry the ids."""

import faults


def test_each_fault_has_a_test_and_the_page_names_it() -> None:
    text, without = faults.page()
    assert not without, f"no test is named after {', '.join(without)}"
    assert faults.PAGE.read_text(encoding="utf-8") == text, "run: python scripts/faults.py"
