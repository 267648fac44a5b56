"""Studio's switches, as its table `s_system_configs` has them: one row, a boolean column for each type. Pure.

What cannot be understood (no row, two, a NULL, a column or table that is gone) keeps the last known state and is
reported. A type of which nothing was ever known is *unknown*, which is not off.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mailvane.queue.studio import COLUMNS, Row, read_rows

LOOK_EVERY = 0.5
"""Seconds for which what the table said holds: a change is in force within a second."""


class StudioSwitches:
    """The last known state of each type. `known` is replaced, never changed, so that threads may look at it."""

    def __init__(self, known: Mapping[str, bool] | None = None) -> None:
        self.known: Mapping[str, bool] = MappingProxyType({n: on for n, on in (known or {}).items() if n in COLUMNS})
        self.problem = ""
        """What was strange at the last look, with what holds meanwhile; "" if nothing was."""

    def take(self, text: str) -> None:
        """What the table says (mailvane.queue.studio). "": there is none yet; it will be made with every type off."""
        said: Sequence[Row] | str = read_rows(text) if text else [dict.fromkeys(COLUMNS.values(), False)]
        if isinstance(said, str):
            return self._keep(f"cannot be read: {said}")
        if len(said) != 1:
            return self._keep("has no row; it must have one" if not said else "has more than one row; it must have one")
        states = {name: _state(said[0], column) for name, column in COLUMNS.items()}
        strange = [why for why in states.values() if isinstance(why, str)]
        good = {name: state for name, state in states.items() if isinstance(state, bool)}
        self._now_known({**self.known, **good})
        self.problem = ""
        if strange:
            self._keep("; ".join(strange), [name for name in COLUMNS if name not in good])

    def _keep(self, strange: str, types: list[str] | None = None) -> None:
        kept = [_kept(name, self.known.get(name)) for name in types or ()]
        if not kept:
            kept = ["the last known state goes on" if self.known else "none was ever known, so no such event is taken"]
        self.problem = f"Studio's table s_system_configs {strange}; {', '.join(kept)}"

    def _now_known(self, known: Mapping[str, bool]) -> None:
        if known != self.known:
            self.known = MappingProxyType(dict(known))

    @property
    def on(self) -> frozenset[str]:
        """The types that are recorded."""
        return frozenset(name for name, on in self.known.items() if on)

    @property
    def unknown(self) -> frozenset[str]:
        """The types of which it was never known."""
        return frozenset(COLUMNS) - self.known.keys()


def _state(row: Row, column: str) -> bool | str:
    if column not in row:
        return f"has no column {column}"
    match row[column]:
        case bool(value):
            return value
        case 0 | 1 as number:  # SQLite has no other booleans
            return number == 1
        case None:
            return f"has NULL in {column}"
        case other:
            return f"has {str(other)[:20]!r} in {column}"


def _kept(name: str, on: bool | None) -> str:
    if on is None:
        return f"whether {name} is recorded is not known, so no such event is taken"
    return f"{name} stays {'on' if on else 'off'}, as last known"
