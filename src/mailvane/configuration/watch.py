"""Notices when `event_processor.json` changes, and gives a plan only for a file that is right.

A broken, empty, half-written or missing file changes nothing: the last good plan goes on, told once per change. The
last good text outlives the process: the caller keeps it with the queue and hands it in at the next start.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mailvane.clock import Clock, SystemClock
from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.mistakes import render
from mailvane.configuration.secrets import Resolve, resolve_secret
from mailvane.configuration.text import SIZE
from mailvane.processor.plan import Plan
from mailvane.recording.regular import Contents, Fingerprint, Unreadable, fingerprint, read_regular

CONFIRM_AFTER = 0.05
"""Seconds after which a file that was just read is read once more: two writes in one tick of the file system's clock
may leave the same times and size."""

WORLD_WRITABLE = 0o002


@dataclass(frozen=True)
class ConfigState:
    """How the plan in force stands to the file.

    `current`: it is the file's. `stale`: the file is not usable, the last good one holds; `since` is when that was seen
    or, of a file that a new process finds broken, when it was written (wall clock, seconds), `report` the mistakes as
    people see them. `none`: there never was a good one.
    """

    kind: Literal["current", "stale", "none"]
    since: float | None = None
    report: str = ""


@dataclass(frozen=True)
class Look:
    """What a look at the file found. A run goes by the plan of one look, whatever happens to the file meanwhile.

    `changed`: this look found something new, to be told once. `keep`: the text of a new good file, to be kept with the
    queue; None if there is nothing to keep. `warnings`: who else can write the file.
    """

    plan: Plan | None
    state: ConfigState
    changed: bool = False
    keep: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """One reading of the file; two that are equal tell nothing new."""

    data: bytes | None
    plan: Plan | None
    text: str
    report: str
    warnings: tuple[str, ...] = ()


class LegacyFile:
    """The legacy configuration of one home, looked at before each run.

    `kept_text` is the last good text, as an earlier `Look.keep` gave it; None if there was none.
    """

    def __init__(
        self,
        path: Path,
        kept_text: str | None = None,
        clock: Clock | None = None,
        resolve: Resolve = resolve_secret,
    ) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._resolve = resolve
        self._kept = kept_text
        self._kept_fault = ""
        self._seen: tuple[Fingerprint, ...] | None = None
        self._confirm_at: float | None = None
        self._found: _Found | None = None
        self._secret_files: tuple[Path, ...] = ()
        self._look = Look(self._kept_plan(), ConfigState("none"))

    def look(self) -> Look:
        """Costs one stat (and one for each file that a reference leads to) when nothing changed."""
        now = self._clock.monotonic()
        # Taken before the reading: what is written after it is seen as a change.
        seen = self._fingerprints()
        changed = seen != self._seen
        if not changed and (self._confirm_at is None or now < self._confirm_at):
            return self._look
        found, steady = self._read()
        self._seen = (seen[0], *(fingerprint(path) for path in self._secret_files))
        # A file that is being written right now is read again at the next look.
        self._confirm_at = now if not steady else now + CONFIRM_AFTER if changed else None
        if found == self._found:
            return self._look
        since = self._broken_since(found)
        self._found = found
        news = self._good(found) if found.plan is not None else self._bad(found, since)
        self._look = replace(news, changed=False, keep=None)
        return news

    def _fingerprints(self) -> tuple[Fingerprint, ...]:
        return (fingerprint(self._path), *(fingerprint(path) for path in self._secret_files))

    def _read(self) -> tuple[_Found, bool]:
        try:
            contents = read_regular(self._path, SIZE)
        except Unreadable as error:
            return _Found(None, None, "", str(error)), True
        legacy = read_legacy(contents.data, self._resolve)
        self._secret_files = legacy.secret_files
        report = render(legacy.mistakes, legacy.text, str(self._path))
        found = _Found(contents.data, legacy.plan, legacy.text, report, _warnings(self._path, contents))
        return found, contents.steady

    def _good(self, found: _Found) -> Look:
        keep = None if found.text == self._kept else found.text
        self._kept = found.text
        return Look(found.plan, ConfigState("current"), True, keep, found.warnings)

    def _broken_since(self, found: _Found) -> float:
        """The time for `since`: now, but for a file that broke before this process looked, when it was written."""
        now = self._clock.wall()
        if self._found is not None or self._seen is None or found.data is None or found.text == self._kept:
            return now
        return min(now, self._seen[0].modified_ns / 1e9)

    def _bad(self, found: _Found, now: float) -> Look:
        plan, before = self._look.plan, self._look.state
        if plan is None:
            report = "\n".join(r for r in (found.report, self._kept_fault) if r)
            return Look(None, ConfigState("none", report=report), True, warnings=found.warnings)
        since = before.since if before.kind == "stale" else now
        return Look(plan, ConfigState("stale", since, found.report), True, warnings=found.warnings)

    def _kept_plan(self) -> Plan | None:
        if self._kept is None:
            return None
        # References were good when the text was accepted; a secret that is away now is told when it is needed.
        legacy = read_legacy(self._kept.encode("utf-8", "replace"), resolve=None)
        if legacy.plan is None:
            self._kept_fault = "the last good configuration, kept with the queue, cannot be used either:\n" + render(
                legacy.mistakes, legacy.text, "kept"
            )
        return legacy.plan


def _warnings(path: Path, contents: Contents) -> tuple[str, ...]:
    found: list[str] = []
    if contents.mode & WORLD_WRITABLE:
        found.append(f"{path} can be written by every user of this machine; chmod o-w {path}")
    if contents.owner not in {0, os.geteuid()}:
        found.append(f"{path} belongs to another user (uid {contents.owner}), who decides where events go")
    return tuple(found)
