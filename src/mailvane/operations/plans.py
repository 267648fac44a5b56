"""The legacy file as the processor's source of plans: what changes is told, what is good is kept with the queue."""

import logging
from collections.abc import Callable

from mailvane.configuration.watch import ConfigState, LegacyFile
from mailvane.processor.plan import Plan

log = logging.getLogger("mailvane.configuration")


class LegacyPlans:
    """A PlanSource. `keep` is called with the text of each new good file."""

    def __init__(self, file: LegacyFile, keep: Callable[[str], None]) -> None:
        self._file = file
        self._keep = keep
        self.plan: Plan | None = None
        """The last good plan, None if there never was one."""
        self.state = ConfigState("none")
        self.warnings: tuple[str, ...] = ()

    def look(self) -> Plan | None:
        """See PlanSource.look."""
        look = self._file.look()
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

    def _tell(self, state: ConfigState) -> None:
        match state.kind:
            case "current":
                log.info("configuration read")
            case "stale":
                log.error("configuration not usable, the last good one goes on:\n%s", state.report)
            case "none":
                log.error("no usable configuration, events stay in the queue:\n%s", state.report)
