"""What became of events, as statements on SQLite: delivered and dropped ones are removed, failures remembered."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import apsw
import msgspec

from mailvane.queue.contract import ATTEMPTS_KEPT, Settled, Settlement
from mailvane.queue.history import remembered, storable
from mailvane.queue.statements import statements

SETTLE_LIMIT = 5_000
"""Ids in one transaction: what it writes must fit into the ballast."""
KEEPING_LIMIT = 1_000
"""The same where delivered events are kept: their bodies are written once more."""
SHORT_RUN = 8
"""Up to so many consecutive ids each is named; more of them are a range."""

_SQL = statements("sqlite.sql")
_json = msgspec.json.encode


def settle(db: apsw.Connection, what: Settlement, now: int, keep: bool) -> Settled:
    """Inside a transaction of the caller's. `now`: wall clock, milliseconds; `keep`: delivered events are kept."""
    if keep and what.delivered:
        db.execute(_SQL["keep_delivered"], (_json(list(what.delivered)).decode(), now))
    delivered = _remove(db, what.delivered)
    dropped = _remove(db, what.dropped)
    for n, book in ((delivered, "delivered"), (dropped, "dropped")):
        if n:
            db.execute(_SQL["add_to_book"], (n, book))
    if what.failed:
        rows = [(f.id, f.attempts, f.due, storable(f.error), remembered(f, now)) for f in what.failed]
        db.execute(_SQL["defer"], (_json(rows).decode(), now, ATTEMPTS_KEPT))
    return Settled(delivered, dropped)


def _remove(db: apsw.Connection, ids: Sequence[int]) -> int:
    """Removes these ids and nothing between them: a range only where each id of it is named."""
    before = db.total_changes()
    single: list[int] = []
    undeferred = 0
    for first, last in _runs(sorted(ids)):
        if last - first < SHORT_RUN:
            single.extend(range(first, last + 1))
            continue
        db.execute(_SQL["remove_range"], (first, last))
        removed = db.total_changes()
        db.execute(_SQL["undefer_range"], (first, last))
        undeferred += db.total_changes() - removed
    if single:
        text = _json(single).decode()
        db.execute(_SQL["remove_ids"], (text,))
        removed = db.total_changes()
        db.execute(_SQL["undefer_ids"], (text,))
        undeferred += db.total_changes() - removed
    return db.total_changes() - before - undeferred


def _runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive ids, first and last, of an ascending sequence."""
    if not ids:
        return
    ends = [i for i, (a, b) in enumerate(pairwise(ids)) if b - a != 1]
    first = 0
    for end in [*ends, len(ids) - 1]:
        yield ids[first], ids[end]
        first = end + 1
