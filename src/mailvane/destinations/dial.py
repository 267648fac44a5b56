"""From a name to a connection: resolved, each address judged, the judged one connected to, TLS with the name kept."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import aiofastnet

from mailvane.destinations import tls
from mailvane.destinations.addresses import Policy, Resolver
from mailvane.destinations.contract import Failure
from mailvane.destinations.http_request import Endpoint

ADDRESSES_LIMIT = 8
_SHORT_OF_SOMETHING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Seconds: for a connection, with name and TLS; for a whole attempt; for the name alone; idle before it is closed.

    Many servers close connections that were idle for five seconds: ours are closed before that, so that a request and
    that end do not meet.
    """

    connect: float = 10.0
    attempt: float = 30.0
    resolve: float = 5.0
    idle: float = 4.0


class NoConnection(Exception):
    """There is no connection, for this reason. `ours`: this process or machine is short of something."""

    def __init__(self, failure: Failure, text: str, ours: bool = False) -> None:
        super().__init__(text)
        self.failure = failure
        self.text = text
        self.ours = ours


async def addresses(
    policy: Policy, resolver: Resolver, host: str, port: int, seconds: float, http: bool = True
) -> tuple[list[str], list[str]]:
    """The host's addresses that may be connected to, and why others may not.

    With `http` false a port that is known for another service is none to be suspicious of. Raises NoConnection if there
    are none.
    """
    try:
        async with asyncio.timeout(seconds):
            found = await resolver.resolve(host, port)
    except TimeoutError:
        raise NoConnection(Failure.DNS, f"the name server did not answer for {host}") from None
    except OSError as error:
        raise NoConnection(Failure.DNS, f"{host}: {error.strerror or error}") from None
    if not found:
        raise NoConnection(Failure.DNS, f"{host} has no address")
    allowed: list[str] = []
    refused: list[str] = []
    for ip in dict.fromkeys(found):
        reason = policy.judge(ip, port if http else None)
        if reason is None:
            allowed.append(ip)
        else:
            refused.append(reason)
    if not allowed:
        raise NoConnection(Failure.ADDRESS, f"{host}: {'; '.join(refused[:ADDRESSES_LIMIT])}")
    return allowed[:ADDRESSES_LIMIT], refused


class Dialler:
    """Makes connections. No proxy variable is obeyed: nothing here reads one."""

    def __init__(self, policy: Policy, resolver: Resolver, limits: Limits, tls_ca_file: str = "") -> None:
        self._policy = policy
        self._resolver = resolver
        self._limits = limits
        self._tls_ca_file = tls_ca_file
        self._context: ssl.SSLContext | None = None
        self._refused: list[str] = []

    async def dial(self, to: Endpoint, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connects the protocol that `protocol` makes. Raises NoConnection."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.connect
        addresses = await self._addresses(to)
        for left in range(len(addresses), 0, -1):
            ip = addresses[-left]
            share = max(0.0, deadline - loop.time()) / left
            try:
                connected = await self._connect(ip, to.port, share)
            except NoConnection as problem:
                if left == 1:
                    raise
                log.debug("%s; trying the next address of %s", problem.text, to.host)
            else:
                await self._speak(connected, to, protocol, max(0.0, deadline - loop.time()))
                return

    async def _addresses(self, to: Endpoint) -> list[str]:
        """The host's addresses that may be connected to. Raises NoConnection if there are none."""
        seconds = min(self._limits.resolve, self._limits.connect)
        allowed, refused = await addresses(self._policy, self._resolver, to.host, to.port, seconds)
        if refused != self._refused and refused:
            log.warning("%s: left out of its addresses: %s", to.host, "; ".join(refused[:ADDRESSES_LIMIT]))
        self._refused = refused
        return allowed

    async def _connect(self, ip: str, port: int, seconds: float) -> socket.socket:
        connecting: socket.socket | None = None
        try:
            connecting = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
            connecting.setblocking(False)
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(connecting, (ip, port))
        except BaseException as error:
            if connecting is not None:
                connecting.close()
            if isinstance(error, TimeoutError) and not error.errno:
                text = f"no connection to {ip} port {port} within {seconds:.3g} s"
            elif isinstance(error, OSError):
                text = f"{ip} port {port}: {os.strerror(error.errno) if error.errno else error}"
            else:
                raise
            raise NoConnection(Failure.CONNECT, text, ours=error.errno in _SHORT_OF_SOMETHING) from None
        return connecting

    async def _speak(
        self, connected: socket.socket, to: Endpoint, protocol: Callable[[], asyncio.BaseProtocol], seconds: float
    ) -> None:
        """Hands the connection to the protocol, after the TLS handshake if there is one."""
        loop = asyncio.get_running_loop()
        try:
            if not to.tls:
                await loop.create_connection(protocol, sock=connected)
                return
            async with asyncio.timeout(seconds):
                name = to.host.rstrip(".")
                await aiofastnet.create_connection(
                    loop, protocol, sock=connected, ssl=self._tls(), server_hostname=name
                )
        except BaseException as error:
            connected.close()
            if isinstance(error, ssl.SSLError):
                raise NoConnection(Failure.TLS, f"{to.host}: {tls.reason(error)}") from None
            if isinstance(error, TimeoutError):
                raise NoConnection(Failure.TIMEOUT, f"{to.host}: the TLS handshake did not end in time") from None
            if isinstance(error, OSError):
                raise NoConnection(Failure.TLS, f"{to.host}: the connection ended in the TLS handshake") from None
            raise

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = tls.client_context(self._tls_ca_file)
            except OSError as error:
                text = f"tls_ca_file {self._tls_ca_file}: {error.strerror or error}"
                raise NoConnection(Failure.TLS, text) from None
        return self._context
