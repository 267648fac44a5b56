"""One oracle for all faults: what was acknowledged arrives, as it was, under one id, and nothing else does.

Events are minted by number, so that each can be told and compared whole wherever it turns up. Producers note what they
offered and what was acknowledged; endpoints note what arrived and what they answered; the books of the queue must agree
with both.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.endpoint import Endpoint, Request
from support.homes import bounce

ODD = 'über "quoted" \\ back\u2028slash <{}> 550 5.1.1'
"""What a careless codec would spoil."""


def mint(number: int, event_type: str = "bounce_all") -> dict[str, Any]:
    """The event of this number; `click_tracking_id` tells it from all others."""
    return bounce(number, event_type, bounce_text=ODD.format(number))


def number_of(event: Mapping[str, Any]) -> int:
    """The number of a minted event; -1 for what nobody minted."""
    told = str(event.get("click_tracking_id"))
    return int(told[3:]) if told.startswith("ct-") and told[3:].isdigit() else -1


def same(event: Mapping[str, Any]) -> bool:
    """Whether an event arrived as it was minted."""
    minted = mint(number_of(event), str(event.get("event_type")))
    return "id" in event and all(event.get(name) == value for name, value in minted.items())


@dataclass(frozen=True)
class Account:
    """What came of it. Sets are of events' numbers; `repeats` counts, by id, what arrived after the first time."""

    offered: int
    acknowledged: int
    accepted: int
    """Events that an endpoint has answered 2xx, each counted once."""
    missing: frozenset[int]
    corrupted: frozenset[int]
    spurious: frozenset[int]
    confused: frozenset[int]
    """Events under two ids, two events under one, or an event with two webhook ids."""
    shared: frozenset[int]
    """Events that two endpoints have answered 2xx."""
    repeats: Mapping[int, int]

    @property
    def repeated(self) -> int:
        return sum(self.repeats.values())

    def assert_right(self) -> None:
        """Nothing missing, corrupted, spurious, confused, or accepted by two endpoints. Repeats are for the test."""
        for what in ("missing", "corrupted", "spurious", "confused", "shared"):
            numbers: frozenset[int] = getattr(self, what)
            assert not numbers, f"{len(numbers)} events {what}, as {sorted(numbers)[:10]}: {self}"

    def __str__(self) -> str:
        return (
            f"{self.offered} offered, {self.acknowledged} acknowledged, {self.accepted} accepted; {len(self.missing)}"
            f" missing, {len(self.corrupted)} corrupted, {len(self.spurious)} spurious, {len(self.confused)} confused,"
            f" {len(self.shared)} at two endpoints, {self.repeated} repeated"
        )


class Oracle:
    """Keeps what was offered and acknowledged, and judges what arrived."""

    def __init__(self) -> None:
        self.offered: set[int] = set()
        self.acknowledged: dict[int, int] = {}
        """Number to id, 0 where the producer was not told."""

    def offers(self, first: int, count: int, event_type: str = "bounce_all") -> list[dict[str, Any]]:
        """Mints events and notes that they are offered."""
        self.offered.update(range(first, first + count))
        return [mint(number, event_type) for number in range(first, first + count)]

    def takes(self, first: int, count: int, ids: Iterable[int] = ()) -> None:
        """Notes that they were acknowledged."""
        told = list(ids) or [0] * count
        self.acknowledged.update(zip(range(first, first + count), told, strict=True))

    def read_log(self, log: Path) -> None:
        """Takes over what a producer has noted (see support/producers.py)."""
        for line in log.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):  # it was killed while it wrote
                continue
            what, first, count, *ids = line.split()
            if what == "offered":
                self.offered.update(range(int(first), int(first) + int(count)))
            elif what == "acknowledged":
                self.takes(int(first), int(count), map(int, ids))

    def account(self, *endpoints: Endpoint) -> Account:
        """Judges what has arrived so far."""
        ids: defaultdict[int, set[int]] = defaultdict(set)
        numbers: defaultdict[int, set[int]] = defaultdict(set)
        webhook_ids: defaultdict[int, set[str]] = defaultdict(set)
        accepted_by: defaultdict[int, set[int]] = defaultdict(set)
        arrivals: Counter[int] = Counter()
        corrupted: set[int] = set()
        for endpoint in endpoints:
            said = {request.number: status for request, status in list(endpoint.answered)}
            for request in list(endpoint.requests):
                for event in request.events:
                    number, event_id = number_of(event), int(event.get("id", 0))
                    ids[number].add(event_id)
                    numbers[event_id].add(number)
                    webhook_ids[number].add(request.webhook_id)
                    arrivals[event_id] += 1
                    if not same(event) or not request.webhook_id.endswith(f"-{event_id}"):
                        corrupted.add(number)
                    if 200 <= said.get(request.number, 0) < 300:
                        accepted_by[number].add(endpoint.port)
        confused = {n for n, of in ids.items() if len(of) > 1}
        confused |= {n for of in numbers.values() if len(of) > 1 for n in of}
        confused |= {n for n, of in webhook_ids.items() if len(of) > 1}
        confused |= {n for n, i in self.acknowledged.items() if i and ids[n] - {i}}
        return Account(
            offered=len(self.offered),
            acknowledged=len(self.acknowledged),
            accepted=len(accepted_by),
            missing=frozenset(self.acknowledged.keys() - accepted_by.keys()),
            corrupted=frozenset(corrupted),
            spurious=frozenset(ids.keys() - self.offered - {n for n in self.acknowledged if not ids[n]}),
            confused=frozenset(confused),
            shared=frozenset(n for n, by in accepted_by.items() if len(by) > 1),
            repeats={i: n - 1 for i, n in arrivals.items() if n > 1},
        )


def ids_in(requests: Iterable[Request]) -> set[int]:
    """The ids of the events that arrived in these requests (of JSON, one event each)."""
    return {int(json.loads(request.body)["id"]) for request in requests}


def assert_books_balance(books: Mapping[str, int], **expected: int) -> None:
    """recorded = delivered + dropped + deleted + waiting; and each that is named is what it should be."""
    gone = books["delivered"] + books["dropped"] + books["deleted"]
    assert books["recorded"] == gone + books["waiting"], f"the books do not balance: {dict(books)}"
    for name, value in expected.items():
        assert books[name] == value, f"{name} should be {value}: {dict(books)}"
