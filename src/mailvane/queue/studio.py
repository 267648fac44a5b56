"""The table of Studio's switches, `s_system_configs`, as both queues have it: one row, a boolean column for each type.

People set it with SQL of their own. Its rows are read as JSON, `[{"event_notification_scomp": true, …}]`, or a string
that says why they cannot be read; what is strange about them is judged by mailvane.recording.studio.
"""

from collections.abc import Callable, Mapping

import apsw
import msgspec

from mailvane.events.catalogue import TYPES
from mailvane.queue.statements import statements

COLUMNS = {t.name: t.column for t in TYPES.values() if t.column}
"""The types that Studio has a switch for, and the names of their columns."""

_SQL = statements("sqlite.sql")
_json = msgspec.json.encode
Row = Mapping[str, object]
_decode: Callable[[str], list[Row] | str] = msgspec.json.Decoder(list[dict[str, object]] | str).decode


def read_rows(text: str) -> list[Row] | str:
    """The rows, or why they cannot be read."""
    return _decode(text)


def assignments(states: Mapping[str, bool]) -> str:
    """What an UPDATE sets, by types. Raises KeyError for one that has no column."""
    return ", ".join(f"{COLUMNS[name]} = {'TRUE' if on else 'FALSE'}" for name, on in states.items())


def states_in(rows: str) -> dict[str, bool]:
    """What rows say, as far as it is clear: for another queue that takes them over."""
    said = read_rows(rows) if rows else []
    if isinstance(said, str) or len(said) != 1:
        return {}
    return {name: bool(said[0][column]) for name, column in COLUMNS.items() if said[0].get(column) in (0, 1)}


def rows_in_sqlite(db: apsw.Connection) -> str:
    """The rows (two at most: more than one is strange)."""
    try:
        cursor = db.execute(_SQL["studio_rows"])
        names = [name for name, _ in cursor.get_description()] if (first := cursor.fetchone()) else []
        rows = [first, *cursor] if first else []
        return _json([{n: _plain(v) for n, v in zip(names, row, strict=True)} for row in rows]).decode()
    except apsw.SQLError as e:  # somebody took the table away
        return _json(str(e)).decode()


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def switch_in_sqlite(db: apsw.Connection, states: Mapping[str, bool]) -> None:
    """Inside a transaction. Makes the row where somebody took it away."""
    if db.execute(_SQL["no_studio_row"]).fetchall() == [(1,)]:
        db.execute(_SQL["mend_studio"])
    db.execute(_SQL["set_studio"].format(assignments=assignments(states)))
