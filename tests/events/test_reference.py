"""docs/events.md says what the catalogue says."""

from pathlib import Path

from mailvane.events.reference import filled

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_page_has_the_catalogues_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page, "run: python -m mailvane.events.reference docs/events.md"
