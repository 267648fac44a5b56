"""From a target of the plan to the destination that sends to it, by what `mailvane.conf` says."""

from collections.abc import Callable
from weakref import WeakSet

from mailvane.clock import Clock
from mailvane.configuration.secrets import is_reference, resolve_secret
from mailvane.configuration.settings import Settings
from mailvane.destinations.addresses import Policy, SystemResolver
from mailvane.destinations.contract import Destination, HttpPost, LogFile, SqlStatement, Target
from mailvane.destinations.dial import Limits
from mailvane.destinations.http import HttpDestination
from mailvane.destinations.logfile import LogFileDestination
from mailvane.destinations.sql import SqlDestination


class Connecting:
    """`epoch` gives that of the queue, `limits` the deadlines of attempts, where they are not the usual ones."""

    def __init__(self, settings: Settings, clock: Clock, epoch: Callable[[], str], limits: Limits | None) -> None:
        self._settings = settings
        self._clock = clock
        self._epoch = epoch
        self._limits = limits
        self._logs: WeakSet[LogFileDestination] = WeakSet()

    def connect(self, target: Target) -> Destination:
        match target:
            case HttpPost():
                return self._http(target)
            case LogFile():
                return self.open_log(target)
            case SqlStatement():
                return self._sql(target)

    def open_log(self, target: LogFile) -> LogFileDestination:
        opened = LogFileDestination(target, clock=self._clock, reveal=resolve_secret)
        self._logs.add(opened)
        return opened

    def reopen_logs(self) -> None:
        """Lets go of log files: what stands at their paths is opened for the next line."""
        for opened in list(self._logs):
            opened.reopen()

    def _sql(self, target: SqlStatement) -> Destination:
        return SqlDestination(
            target,
            epoch=self._epoch(),
            policy=self._policy(),
            resolver=SystemResolver(),
            clock=self._clock,
            reveal=resolve_secret,
            tls_ca_file=self._tls_ca_file(),
            limits=self._limits,
        )

    def _http(self, target: HttpPost) -> Destination:
        return HttpDestination(
            target,
            epoch=self._epoch(),
            policy=self._policy(),
            resolver=SystemResolver(),
            clock=self._clock,
            reveal=lambda url: resolve_secret(url) if is_reference(url) else url,
            tls_ca_file=self._tls_ca_file(),
            limits=self._limits,
        )

    def _policy(self) -> Policy:
        s = self._settings
        return Policy(s.destination_networks, s.allow_networks, s.deny_networks)

    def _tls_ca_file(self) -> str:
        return str(self._settings.tls_ca_file or "")
