"""The `logfile` object of event_processor.json: beside destinations and alone, and each of its mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.secrets import resolve_secret
from mailvane.destinations.contract import LogFile
from mailvane.processor.plan import Drop, Match, Plan, Route

RULES = [{"matches": {"all": True}, "destination": {"type": "drop_from_queue"}}]


def plan_of(document: dict[str, Any]) -> Plan:
    read = read_legacy(json.dumps(document).encode(), None)
    assert read.plan is not None, read.mistakes
    return read.plan


def mistakes(text: str) -> list[tuple[int, str]]:
    """Column and text of each."""
    read = read_legacy(text.encode(), resolve_secret)
    assert (read.plan is None) == bool(read.mistakes)
    return [(m.column, m.message) for m in read.mistakes]


def test_alone_it_is_the_only_destination():
    target = LogFile("/var/log/events.log")
    assert plan_of({"logfile": {"filename": "/var/log/events.log"}}) == Plan(
        (Route("logfile /var/log/events.log", Match(), target),)
    )


def test_beside_destinations_it_takes_what_they_took():
    for options in ({}, {"rotate_bytes": 2**20, "rotate_daily": True, "keep": 1, "compress": False}):
        plan = plan_of({"event_destinations": RULES, "logfile": {"filename": "/x.log", **options}})
        assert plan == Plan((Route("drop_from_queue", Match(), Drop()),), LogFile("/x.log", **options))


@pytest.mark.parametrize(
    ("members", "at", "message"),
    [
        ("", 13, '"logfile" lacks "filename": the absolute path of a file'),
        ('"filename": 7', 26, '"filename" must be the absolute path of a file; the number 7 is here'),
        ('"filename": "events.log"', 26, "from the root: it begins with /"),
        ('"filename": ""', 26, "from the root: it begins with /"),
        ('"filename": "/var/log/"', 26, '"filename" names a folder; name a file in it'),
        ('"filename": "/var/log/.."', 26, '"filename" names a folder; name a file in it'),
        ('"filename": "/x\\n"', 26, "a character that cannot be printed"),
        ('"filename": "/x\\u0000"', 26, "a character that cannot be printed"),
        (f'"filename": "/{"x" * 221}"', 26, "is too long"),
        (f'"filename": "{"/x" * 2_001}"', 26, "is too long"),
        ('"filename": "@file:where"', 26, "must be absolute: @file:/PATH"),
        ('"filename": "@env:NO_SUCH_VARIABLE"', 26, "leads to nothing"),
        ('"filename": "/x", "rotate_bytes": 5', 48, "0, or a whole number from 1048576 (1 MiB); the number 5 is here"),
        ('"filename": "/x", "rotate_bytes": -1', 48, "the number -1 is here"),
        ('"filename": "/x", "rotate_bytes": true', 48, "true is here"),
        ('"filename": "/x", "rotate_daily": 1', 48, "must be true or false; the number 1 is here"),
        ('"filename": "/x", "keep": 0', 40, "must be a whole number from 1; the number 0 is here"),
        ('"filename": "/x", "keep": 10001', 40, "may be at most 10,000; the number 10001 is here"),
        ('"filename": "/x", "compress": "gzip"', 44, 'must be true or false; the string "gzip" is here'),
        ('"filename": "/x", "rotate_dayly": true', 32, 'did you mean "rotate_daily"?'),
        ('"filename": "/x", "event_type": "scomp"', 32, 'it belongs into "matches"'),
    ],
)
def test_each_mistake_has_its_place(members: str, at: int, message: str):
    text = '{"logfile": {' + members + "}}"
    ((column, told),) = mistakes(text)
    assert column == at and message in told


def test_its_own_keys_elsewhere_are_told_where_they_belong():
    ((_, told),) = mistakes('{"logfile": {"filename": "/x"}, "keep": 5}')
    assert '"keep" is no key of the file; it belongs into "logfile"' in told
    ((_, told),) = mistakes('{"logfile": "/x"}')
    assert '"logfile" must be an object; the string "/x" is here' in told


def test_a_mistake_in_it_does_not_hide_those_of_the_rules():
    assert len(mistakes('{"logfile": {"filename": "x"}, "event_destinations": []}')) == 2


def test_a_reference_is_judged_by_what_it_leads_to(tmp_path: Path):
    secret = tmp_path / "where"
    secret.write_text("/var/log/events.log\n")
    text = json.dumps({"logfile": {"filename": f"@file:{secret}"}})
    read = read_legacy(text.encode(), resolve_secret)
    assert read.plan == Plan((Route(f"logfile @file:{secret}", Match(), LogFile(f"@file:{secret}")),))
    assert read.secret_files == (secret,)
    secret.write_text("events.log\n")
    ((_, told),) = mistakes(text)
    assert "leads to will not do" in told and "begins with /" in told
