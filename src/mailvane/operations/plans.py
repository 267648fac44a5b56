"""The legacy file as the processor's source of plans: what changes is told, what is good is kept with the queue."""

import logging
from collections.abc import Callable
from dataclasses import replace

from mailvane.clock import Clock, SystemClock
from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.watch import ConfigState, LegacyFile, Look
from mailvane.processor.plan import Plan

DIFFERS = (
    "the configuration file says something else than the configuration that another process delivered by until now;"
    " that one goes on until the file changes"
)

log = logging.getLogger("mailvane.configuration")


def kept_plan(text: str | None) -> Plan | None:
    """The plan that is kept with a queue, None if there is none that can be used."""
    return None if text is None else read_legacy(text.encode("utf-8", "replace"), resolve=None).plan


class LegacyPlans:
    """A PlanSource. `keep` is called with the text of each new good file.

    `before`: the plan that another process delivered by until now. Where the file says something else, that one goes on
    until the file changes.
    """

    def __init__(
        self, file: LegacyFile, keep: Callable[[str], None], before: Plan | None = None, clock: Clock | None = None
    ) -> None:
        self._file = file
        self._keep = keep
        self._before = before
        self._instead: Look | None = None
        self._clock = clock or SystemClock()
        self.plan: Plan | None = None
        """The last good plan, None if there never was one."""
        self.state = ConfigState("none")
        self.warnings: tuple[str, ...] = ()

    def look(self) -> Plan | None:
        """See PlanSource.look."""
        look = self._file.look()
        if self._before is not None:
            look = self._as_before(look, self._before)
        if look.changed:
            self._tell(look.state)
            for warning in set(look.warnings) - set(self.warnings):
                log.warning("%s", warning)
        self.state, self.warnings = look.state, look.warnings
        if look.keep is not None:
            self._keep(look.keep)
        if look.plan is None or look.plan is self.plan:
            return None
        self.plan = look.plan
        return look.plan

    def _as_before(self, look: Look, before: Plan) -> Look:
        first = self._instead is None
        if self._instead is not None and not look.changed:
            return self._instead
        if first and look.keep is not None:
            look = replace(look, state=ConfigState("stale", self._clock.wall(), DIFFERS))
        elif first or look.state.kind != "stale":
            self._before = None
            return look
        look = replace(look, plan=before, keep=None)
        self._instead = replace(look, changed=False)
        return look

    def _tell(self, state: ConfigState) -> None:
        match state.kind:
            case "current":
                log.info("configuration read")
            case "stale" if state.report == DIFFERS:
                log.warning("configuration: %s", state.report)
            case "stale":
                log.error("configuration not usable, the last good one goes on:\n%s", state.report)
            case "none":
                log.error("no usable configuration, events stay in the queue:\n%s", state.report)
