"""The documentation is what the declarations say."""

from pathlib import Path

from mailvane.configuration.directives import DIRECTIVES
from mailvane.configuration.legacy_keys import ANY_DESTINATION, DESTINATIONS, FILE, MATCHES, RULE
from mailvane.configuration.reference import filled
from mailvane.recording.control_files import SWITCHED

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_page_has_every_table_as_declared():
    assert filled(PAGE) == PAGE


def test_every_key_directive_destination_and_switch_is_on_the_page():
    there = [k.name for keys in (FILE, RULE, MATCHES, ANY_DESTINATION) for k in keys.keys if k.kind != "later"]
    for name in [*there, *DESTINATIONS, *DIRECTIVES, *SWITCHED, *SWITCHED.values()]:
        assert f"`{name}" in PAGE, name
