"""Serves the API on TCP and on the Unix socket in home, in the event loop that the service lives in.

uvicorn's protocol is used, not its server: that one takes the signals, wakes ten times a second and serves one address.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from uvicorn import Config

from mailvane.configuration.listen import Listen
from mailvane.configuration.places import places_of
from mailvane.errors import MailvaneError
from mailvane.operations.service import Service
from mailvane.queue.sockets import within_limit
from mailvane.web.api import Api
from mailvane.web.app import create_app
from mailvane.web.bounds import Bounds
from mailvane.web.door import Door
from mailvane.web.protocol import Connection

BACKLOG = 128
"""Connections that may wait to be accepted. As often asyncio's own loop tries in a row when descriptors run out."""
LOCAL_IDLE = 300
"""Seconds that a program on this machine may keep a connection without using it: recorders keep theirs."""

log = logging.getLogger("mailvane.web")


class CannotServe(MailvaneError):
    """An address or the socket in home cannot be listened on; the text names it."""


@dataclass
class Running:
    """The API while it is served. `port` is the TCP port, 0 without TCP; `socket_path` "" without a Unix socket."""

    port: int
    socket_path: str
    _api: Api
    _doors: Sequence[Door]
    _servers: Sequence[asyncio.Server]

    async def stop(self, grace: float) -> None:
        """Takes no more connections and requests, waits `grace` seconds for those under way, and ends them all."""
        self._api.stopping = True
        for server in self._servers:
            server.close()
        if self.socket_path:
            with contextlib.suppress(OSError):
                os.unlink(self.socket_path)
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        for connection in self._connections():
            connection.shutdown()
        while tasks := [task for door in self._doors for task in door.state.tasks]:
            if (left := end - loop.time()) <= 0:
                log.warning("%d requests did not end in time and are cut off", len(tasks))
                break
            await asyncio.wait(tasks, timeout=left)
        while any(c.transport.get_write_buffer_size() for c in self._connections()) and loop.time() < end:
            await asyncio.sleep(0.01)  # answers that are on their way
        for connection in self._connections():
            connection.cut()

    def _connections(self) -> list[Connection]:
        return [connection for door in self._doors for connection in door.connections]


async def serve(service: Service, tcp: bool = True, bounds: Bounds | None = None) -> Running:
    """Serves a service, best one that has started: until then it answers 503. There is a socket if it has the lock.

    Raises CannotServe.
    """
    bounds = bounds or Bounds()
    api = Api(service)
    config = Config(
        create_app(api),
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.load()
    doors = (Door(config, bounds, local=False), Door(config, replace(bounds, idle_seconds=LOCAL_IDLE), local=True))
    servers: list[asyncio.Server] = []
    port, path = 0, places_of(service.settings).socket
    try:
        if tcp:
            servers.append(await _on_tcp(service.settings.http_listen, doors[0]))
            port = servers[0].sockets[0].getsockname()[1]
        if service.has_lock:
            listener = _unix_listener(path)
            servers.append(
                await asyncio.get_running_loop().create_unix_server(doors[1].connection, sock=listener, backlog=BACKLOG)
            )
        else:
            path = ""
    except BaseException:
        for server in servers:
            server.close()
        raise
    return Running(port, path, api, doors, servers)


async def _on_tcp(listen: Listen, door: Door) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            door.connection, listen.host, listen.port, backlog=BACKLOG, reuse_address=True
        )
    except socket.gaierror as e:
        raise CannotServe(f"http_listen {listen}: the name does not resolve ({e.strerror})") from e
    except OSError as e:
        raise CannotServe(f"http_listen {listen}: {_why_not(e)}") from e


def _why_not(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the address is in use by another process; end that, or choose another port in mailvane.conf"
        case errno.EACCES:
            return "this user may not listen there; choose a port above 1023 in mailvane.conf"
        case errno.EADDRNOTAVAIL:
            return "this machine does not have the address"
        case _:
            return error.strerror or str(error)


def _unix_listener(path: str) -> socket.socket:
    """The socket in home, bound and closed to others but the group. What an ended process left there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # Whoever made the one that is there has ended: it had queue.lock, which is ours now.
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise CannotServe(f"{path} is in the way: it is no socket; remove it")
            os.unlink(path)
        with within_limit(path) as reachable:
            listener.bind(reachable)
        os.chmod(path, 0o660)  # before anybody can connect, which takes `listen`
    except BaseException as e:
        listener.close()
        if isinstance(e, OSError):
            raise CannotServe(f"{path}: {e.strerror}; is the home there, and ours to write?") from e
        raise
    return listener
