"""docs/faults.md is made of tests/faults.toml and of the tests that carry the ids."""

from pathlib import Path

import pytest

import faults


def test_each_fault_has_a_test_and_the_page_names_it() -> None:
    text, without = faults.page()
    assert not without, f"no test is named after {', '.join(without)}"
    assert faults.PAGE.read_text(encoding="utf-8") == text, "run: python scripts/faults.py"


RESULTS = """<testsuites><testsuite timestamp="2026-11-26T16:00:16.5+00:00">
<testcase classname="tests.a" name="test_h1_h2_it_goes_on[x]" time="0.1"/>
<testcase classname="tests.a" name="test_h1_another" time="0.1">{failed}</testcase>
<testcase classname="tests.b" name="test_of_no_fault" time="0.1"><failure message="x">x</failure></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("failed", "ids", "wrong"),
    [
        ("", ["h1", "h2"], []),
        ('<failure message="no">no</failure>', ["h1", "h2"], ["failed: tests.a test_h1_another"]),
        ("", ["h1", "h2", "d9"], ["d9 was not run"]),
    ],
)
def test_a_run_is_noted_with_what_failed_and_what_was_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: str, ids: list[str], wrong: list[str]
) -> None:
    monkeypatch.setattr(faults, "ids_of_faults", lambda: ids)
    results = tmp_path / "results.xml"
    results.write_text(RESULTS.format(failed=failed))
    run, said = faults.noted(results)
    assert (run["began"], run["cases"], run["passed"], said) == ("2026-11-26 16:00", 2, {"h1": 2, "h2": 1}, wrong)
