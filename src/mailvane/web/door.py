"""One listener's door: how many connections there may be, and who goes when there are more."""

import resource

from uvicorn import Config
from uvicorn.server import ServerState

from mailvane.web.bounds import Bounds, Phase
from mailvane.web.protocol import Connection


class Door:
    """One listener's connections: how many there may be, and who goes when there are more."""

    def __init__(self, config: Config, bounds: Bounds, local: bool) -> None:
        self.bounds = bounds
        self.state = ServerState()
        self._config = config
        self._app_state = {"local": local}
        # The rest of the descriptors is for the queue and the destinations.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = bounds.connections if files == resource.RLIM_INFINITY else min(bounds.connections, files // 3)

    def connection(self) -> Connection:
        return Connection(self, self._config, self._app_state)

    @property
    def connections(self) -> list[Connection]:
        return [c for c in self.state.connections if isinstance(c, Connection)]

    def has_room(self, now: float) -> bool:
        """Whether the connection that just came may stay; one that has kept us waiting for long goes for it."""
        if len(self.state.connections) <= self._most:
            return True
        staying = [c for c in self.connections if not c.leaving]
        if len(staying) <= self._most:
            return True
        waiting = [c for c in staying if c.phase is not Phase.WORKING]
        slowest = min(waiting, key=lambda c: c.waiting_since, default=None)
        if slowest is None or now - slowest.waiting_since < self.bounds.patience:
            return False
        slowest.cut()
        return True

    @property
    def overrun(self) -> bool:
        """Whether there are so many that one cannot even be told so."""
        return len(self.state.connections) > self._most + self._most // 4
