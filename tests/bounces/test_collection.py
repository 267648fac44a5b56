"""The whole collection of real mails: how much is understood, and that it does not get less.

The floors are what was reached when they were written; a change that gets below one has made something worse.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from mailvane.bounces import MailFacts, read_mail

DATA = Path(__file__).parents[1] / "data" / "bounces"
KINDS = {
    "bounce": "bounce_all",
    "complaint": "scomp",
    "unsubscribe": "engine_unsub",
    "auto_reply": "none",
    "none": "none",
}


@dataclass(frozen=True)
class Label:
    file: str
    index: int
    recipient: str
    event: str
    bounce_type: str
    bounce_code: str


@cache
def labels() -> tuple[Label, ...]:
    with (DATA / "labels.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Label(
                row["file"],
                int(row["index"]),
                row["recipient"].lower(),
                row["event"],
                row["bounce_type"],
                row["bounce_code"],
            )
            for row in csv.DictReader(file)
            if row["event"]
        )


@cache
def facts_of(file: str) -> MailFacts:
    return read_mail((DATA / "mails" / file).read_bytes())


def failures() -> Iterator[tuple[Label, str, str, bool]]:
    """Each labelled failure with type and code that we gave, and whether its recipient was found."""
    for label in labels():
        if label.event != "bounce_all":
            continue
        people = {person.address.lower(): person for person in facts_of(label.file).recipients}
        found = people.get(label.recipient)
        others = list(people.values())
        person = found or (others[min(label.index, len(others)) - 1] if others else None)
        verdict = person.verdict if person else None
        yield (
            label,
            verdict.bounce_type if verdict else "o",
            str(verdict.bounce_code) if verdict else "0",
            found is not None,
        )


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_every_mail_is_read() -> None:
    assert len({label.file for label in labels()}) > 320
    for label in labels():
        assert facts_of(label.file).reason


def test_what_a_mail_is() -> None:
    files = {label.file: label.event for label in labels()}
    assert share([KINDS[facts_of(file).kind] == event for file, event in files.items()]) >= 0.94


def test_recipients_are_found() -> None:
    assert share([found for *_, found in failures()]) >= 0.90


def test_hard_is_told_from_not_hard() -> None:
    seen = [(label.bounce_type == "h", kind == "h") for label, kind, _, _ in failures()]
    assert share([wanted == got for wanted, got in seen]) >= 0.95
    assert share([wanted for wanted, got in seen if got]) >= 0.93, "an address was given up that works"
    assert share([got for wanted, got in seen if wanted]) >= 0.95


def test_types_and_codes() -> None:
    assert share([label.bounce_type == kind for label, kind, _, _ in failures()]) >= 0.89
    assert share([label.bounce_code == code for label, _, code, _ in failures()]) >= 0.85


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("not-a-bounce-01.eml", "none"),
        ("rfc3834-01.eml", "auto_reply"),
        ("rfc3834-03.eml", "auto_reply"),
        ("rfc3834-05.eml", "auto_reply"),
    ],
)
def test_mails_that_are_no_bounce(file: str, kind: str) -> None:
    assert (facts_of(file).kind, facts_of(file).recipients) == (kind, ())
