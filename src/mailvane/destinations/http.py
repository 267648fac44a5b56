"""Events POSTed to an HTTP(S) endpoint, one each, after the legacy configuration's rules.

JSON: the legacy object; any 2xx is success as soon as its head is whole. Form: the legacy fields; the answer's body
must contain the word `ok` as well. Every request carries `webhook-id` (the queue's epoch and the event's id, the same
over retries), `webhook-timestamp`, and `mailvane-attempt`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mailvane.clock import Clock
from mailvane.destinations.addresses import Policy, Resolver
from mailvane.destinations.connections import Connections
from mailvane.destinations.contract import Done, Failure, HttpPost, Outgoing
from mailvane.destinations.dial import Dialler, Limits, NoConnection
from mailvane.destinations.http_request import Endpoint, RequestForm, endpoint
from mailvane.errors import MailvaneError
from mailvane.version import __version__


class HttpDestination:
    """One endpoint. `reveal` turns a reference (`@file:`, `@env:`), which URL and user agent may be, into what it
    stands for, and leaves everything else alone; it raises MailvaneError with a text that holds no secret."""

    batch_limit = 1

    def __init__(
        self,
        spec: HttpPost,
        *,
        epoch: str,
        policy: Policy,
        resolver: Resolver,
        clock: Clock,
        reveal: Callable[[str], str],
        tls_ca_file: str = "",
        user_agent: str = f"mailvane/{__version__}",
        limits: Limits | None = None,
    ) -> None:
        self._spec = spec
        self._epoch = epoch
        self._clock = clock
        self._reveal = reveal
        self._user_agent = user_agent
        self._revealed = ("", "")
        self._current: tuple[Endpoint, RequestForm] | None = None
        limits = limits or Limits()
        self._connections = Connections(
            self._forms,
            Dialler(policy, resolver, limits, tls_ca_file),
            limits,
            clock,
            form_encoded=not spec.json,
            keep=spec.keep_alive,
        )
        self.send: Callable[[Sequence[Outgoing], Done], None] = self._connections.submit
        """See Destination. What `done` sends takes the connection that just became free."""

    def allow(self, concurrency: int) -> None:
        """See Destination."""
        self._connections.allow(concurrency)

    async def close(self) -> None:
        """See Destination."""
        await self._connections.close()

    def _forms(self) -> tuple[Endpoint, RequestForm]:
        """The endpoint and the requests' form, made anew when a reference leads elsewhere."""
        try:
            url, agent = revealed = self._reveal(self._spec.url), self._reveal(self._spec.user_agent)
            if self._current is None or revealed != self._revealed:
                to = endpoint(url, secret=url != self._spec.url)
                if agent != self._spec.user_agent:
                    to = to.hiding(agent)
                spec = replace(self._spec, user_agent=agent)
                now = int(self._clock.wall())
                self._current = to, RequestForm(spec, to, self._epoch, self._user_agent, now)
                self._revealed = revealed
        except (MailvaneError, ValueError) as problem:
            raise NoConnection(Failure.CONNECT, str(problem)) from None
        return self._current
