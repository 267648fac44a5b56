"""The switches. Here are the control files that say which of Engine's events are recorded, read again whenever they
change; Studio's are in `studio`, and come in from the queue's database.

A file per type, first line `1` for on, `0` for off; absent or empty is off too. What cannot be understood keeps the
last known state and is reported. So does an empty file at first: `echo 1 >` truncates before it writes, so that empty
means off only if it is still empty a tenth of a second later.

The last known state outlives the process (the caller keeps `state()` in the queue's database and hands it to the next
one). With neither a good file nor a kept state a type is *unknown*, which is not off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mailvane.clock import Clock, SystemClock
from mailvane.queue.studio import COLUMNS
from mailvane.recording.control_files import (
    ATTEMPT,
    RULES_LIMIT,
    SWITCH_LIMIT,
    SWITCHED,
    State,
    Strange,
    rules_in,
    switch_in,
)
from mailvane.recording.gate import AttemptRules, Gate
from mailvane.recording.regular import ABSENT, Fingerprint, Unreadable, fingerprint, read_regular
from mailvane.recording.studio import StudioSwitches

EMPTY_IS_OFF_AFTER = 0.1
"""Seconds for which an empty file must stay empty."""
CONFIRM_AFTER = 0.05
"""Seconds after which a file that was just read is read once more: two writes in one tick of the file system's clock
leave the same times and, often, the same size."""

_MAKE_ONE = ". Make it (in an empty one every type is off), or name another by control_directory in mailvane.conf"


class _Kept(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    on: list[str] = []
    off: list[str] = []
    delivery_attempt: AttemptRules | None = None
    studio: dict[str, bool] = {}


@dataclass
class _Watched:
    event_type: str
    path: Path
    known: State | None = None
    seen: Fingerprint | None = None
    confirm_at: float | None = None
    empty_since: float | None = None
    problem: str = ""

    def undecided(self) -> bool:
        return self.empty_since is not None and self.known != self.off()

    def off(self) -> State:
        return AttemptRules() if self.event_type == ATTEMPT else False

    def look(self, now: float) -> bool:
        """True if anything about this switch may have changed."""
        seen = fingerprint(self.path)
        confirm = self.confirm_at is not None and now >= self.confirm_at
        if seen == self.seen and not confirm and not (self.undecided() and self._empty_long_enough(now)):
            return False
        if seen != self.seen:
            self.empty_since = None
        # A second reading that finds the same is not confirmed again.
        self.confirm_at = None if confirm and seen == self.seen else now + CONFIRM_AFTER
        self.seen = seen
        self._read(now)
        return True

    def _read(self, now: float) -> None:
        if self.seen == ABSENT and not self.path.is_symlink():
            self.known, self.problem, self.empty_since = self.off(), "", None
            return
        try:
            data = read_regular(self.path, RULES_LIMIT if self.event_type == ATTEMPT else SWITCH_LIMIT).data
            if not data:
                self.empty_since = now if self.empty_since is None else self.empty_since
                if self._empty_long_enough(now):
                    self.known = self.off()
                self.problem = ""
                return
            self.known = rules_in(data) if self.event_type == ATTEMPT else switch_in(data)
            self.problem, self.empty_since = "", None
        except Unreadable as error:
            self.problem, self.empty_since = f"{self.path} {error.why}", None
        except Strange as error:
            self.problem, self.empty_since = f"{self.path} {error}", None

    def _empty_long_enough(self, now: float) -> bool:
        return self.empty_since is not None and now - self.empty_since >= EMPTY_IS_OFF_AFTER


@dataclass
class Switches:
    """The switches of both sides. Not safe for use by several threads at once, but for `studio`.

    `kept` is what `state()` gave in this process or an earlier one, None if there was none.
    """

    directory: Path
    kept: str | None = None
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self._files = [_Watched(name, self.directory / switch) for name, switch in SWITCHED.items()]
        self.studio = StudioSwitches()
        self._studio_was: Mapping[str, bool] | None = None
        self._gate: Gate | None = None
        self._problem = ""
        self._take_over(self.kept)

    def look(self) -> Gate:
        """The gate as of now. Costs eight stats when nothing changed."""
        if not self.directory.is_dir():
            return self._without_directory()
        now = self.clock.monotonic()
        changed = [watched.look(now) for watched in self._files]
        if self._gate is None or any(changed) or self._problem or self.studio.known is not self._studio_was:
            self._problem = ""
            self._gate = self._make()
        return self._gate

    @property
    def problems(self) -> tuple[str, ...]:
        """What was strange at the last look, a sentence each, with what holds meanwhile."""
        own = [self._problem] if self._problem else []
        own += [f"{w.problem}; {_meanwhile(w)}" for w in self._files if w.problem and not self._problem]
        return (*own, self.studio.problem) if self.studio.problem else tuple(own)

    @property
    def undecided_for(self) -> float | None:
        """Seconds after which a look can tell of an empty file whether it means off; None if there is none."""
        now = self.clock.monotonic()
        left = [
            max(0.0, w.empty_since + EMPTY_IS_OFF_AFTER - now)
            for w in self._files
            if w.empty_since is not None and w.undecided()
        ]
        return max(left, default=None)

    def state(self) -> str:
        """The last known switches, for keeping; the same text as long as they are the same."""
        rules = next((w.known for w in self._files if isinstance(w.known, AttemptRules)), None)
        kept = _Kept(
            on=[w.event_type for w in self._files if w.known is True],
            off=[w.event_type for w in self._files if w.known is False],
            delivery_attempt=rules,
            studio={name: self.studio.known[name] for name in COLUMNS if name in self.studio.known},
        )
        return msgspec.json.encode(kept).decode()

    def _take_over(self, kept: str | None) -> None:
        if not kept:
            return
        try:
            last = msgspec.json.decode(kept, type=_Kept)
        except msgspec.DecodeError:
            # Written by another version: as good as none; the files are read in a moment anyway.
            return
        self.studio = StudioSwitches(last.studio)
        for watched in self._files:
            if watched.event_type == ATTEMPT:
                watched.known = last.delivery_attempt
            elif watched.event_type in last.on or watched.event_type in last.off:
                watched.known = watched.event_type in last.on

    def _without_directory(self) -> Gate:
        known = any(w.known is not None for w in self._files)
        why = "is no folder" if self.directory.exists() else "is missing"
        holds = "the last known switches go on" if known else "no switch is known, so no event is taken"
        self._problem = f"the control directory {self.directory} {why}; {holds}{'' if known else _MAKE_ONE}"
        self._gate = self._make()
        return self._gate

    def _make(self) -> Gate:
        rules = next((w.known for w in self._files if isinstance(w.known, AttemptRules)), AttemptRules())
        on = [w.event_type for w in self._files if w.known is True]
        self._studio_was = self.studio.known
        return Gate(
            engine=frozenset([*on, ATTEMPT] if rules.enabled else on),
            studio=self.studio.on,
            unknown=frozenset(w.event_type for w in self._files if w.known is None),
            unknown_of_studio=self.studio.unknown,
            attempts=rules,
        )


def _meanwhile(watched: _Watched) -> str:
    known = watched.known
    if known is None:
        return f"whether {watched.event_type} is recorded is not known, so no such event is taken"
    on = known.enabled if isinstance(known, AttemptRules) else known
    return f"{watched.event_type} stays {'on' if on else 'off'}, as last known"
