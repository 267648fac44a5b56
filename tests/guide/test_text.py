"""The commands that are typed are the guide's own."""

import json

import pytest

from guide.text import FILE, NotTheGuide, guide


def test_the_blocks_are_found_by_what_the_guide_says_of_them() -> None:
    found = guide()
    assert found.engine_switches == (
        "cd /var/hvmail/control/",
        "echo 1 > record_events.simplemh.scomp",
        "echo 1 > record_events.simplemh.bounce_all",
        "echo 1 > record_events.simplemh.bounce_bad_address",
        "echo 1 > record_events.simplemh.unsub",
    )
    assert found.psql == "/var/hvmail/postgres/default/bin/psql -U greenarrow"
    assert found.logout == r"\d"
    assert [line.split()[0] for line in found.apply_changes] == ["svc", "sleep", "svstat"]
    assert found.apply_changes[1] == "sleep 7"
    assert found.check_syntax == "hvmail_event_processor --check-syntax"


def test_the_sql_is_as_printed_to_its_blanks() -> None:
    first, *columns = guide().studio_switches.splitlines()
    assert first == "UPDATE s_system_configs "
    assert columns[0] == "SET event_notification_studio_click = TRUE,"
    assert columns[-1] == "    event_notification_scomp = TRUE;"
    assert len(columns) == 6


def test_the_configuration_is_as_printed_and_whole() -> None:
    text = guide().configuration
    assert json.loads(text)["event_destinations"] == [
        {
            "matches": {"all": True},
            "destination": {"type": "http_post", "url": "https://my-hook-server.exampledomain.com/notification"},
        }
    ]
    assert '      "matches": { \n         "all": true \n' in text


def test_all_that_is_taken_stands_in_the_guide_as_a_whole_paragraph() -> None:
    found = guide()
    text = FILE.read_text(encoding="utf-8")
    lines = (found.engine_switches, (found.psql,), (found.logout,), found.apply_changes, (found.check_syntax,))
    blocks = ["".join(f"{line}\n" for line in block) for block in lines]
    assert [b for b in (*blocks, found.studio_switches, found.configuration) if f"\n\n{b}\n" not in text] == []


@pytest.mark.parametrize("change", [(b"sleep 7", b"sleep 1"), (b"\n", b"\r\n"), (b"Email", b"email")])
def test_a_changed_guide_is_noticed(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(NotTheGuide, match="SHA-256"):
        guide(FILE.read_bytes().replace(*change))
