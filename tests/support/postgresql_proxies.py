"""What may stand between a program and PostgreSQL: a connection that is cut at the worst moment, a proxy that pools."""

import asyncio
import contextlib
import itertools
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

READY = b"Z\x00\x00\x00\x05"
"""ReadyForQuery, without the state of the transaction: what was asked is done."""
SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Asked = asyncio.Future[tuple[bytes, bytes]]


class _Listener:
    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        """How many were made so far."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._quietly((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, client: Streams) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await self.serve(client)
            finally:
                client[1].close()

    async def serve(self, client: Streams) -> None:
        raise NotImplementedError

    def through(self, url: str) -> str:
        """A URL of the server that leads here."""
        credentials, _, rest = url.partition("@")
        return f"{credentials}@127.0.0.1:{self.port}/{rest.partition('/')[2]}"


class CuttingProxy(_Listener):
    """Passes everything on, until it is told to do something bad."""

    def __init__(self, server_port: int) -> None:
        super().__init__()
        self._server_port = server_port
        self.cut_answer = 0
        """So many answers are swallowed and their connections cut, each once the server has done what it was asked."""
        self.hold_request = False
        """The next request is kept back and its connection cut; `release` sends it to the server all the same."""
        self.silent = asyncio.Event()
        """Set: nothing is passed on any more, and nothing closed."""
        self.cuts = 0
        self.held = asyncio.Event()
        self._release = asyncio.Event()
        self.released = asyncio.Event()

    async def release(self) -> None:
        """Sends what was held; returns when the server has done it, or refused to."""
        self._release.set()
        await self.released.wait()

    async def serve(self, client: Streams) -> None:
        server = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            ways = [self._requests(client, server), self._answers(server, client)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            server[1].close()

    async def _requests(self, client: Streams, server: Streams) -> None:
        while data := await client[0].read(1 << 16):
            await self._hang_if_silent()
            if self.hold_request:
                self.hold_request = False
                client[1].close()
                self.held.set()
                await self._release.wait()
                server[1].write(data)
                await asyncio.get_running_loop().create_future()
            server[1].write(data)
            await server[1].drain()

    async def _answers(self, server: Streams, client: Streams) -> None:
        while data := await server[0].read(1 << 16):
            await self._hang_if_silent()
            if client[1].is_closing():  # its request was held
                if READY in data:
                    self.released.set()
                continue
            if self.cut_answer and READY in data:
                self.cut_answer -= 1
                self.cuts += 1
                return
            client[1].write(data)
            await client[1].drain()

    async def _hang_if_silent(self) -> None:
        if self.silent.is_set():
            await asyncio.get_running_loop().create_future()


class Pooler(_Listener):
    """A proxy that gives each transaction whichever session is free, as pgbouncer does with pool_mode = transaction; or
    each client a session of its own (pool_mode = session).

    It speaks to the server by its Unix socket, where nobody is asked for a password.
    """

    def __init__(self, folder: Path, server_port: int, by_session: bool = False) -> None:
        super().__init__()
        self._by_session = by_session
        self._socket = str(folder / f".s.PGSQL.{server_port}")
        self._free: list[Streams] = []
        self._keys = itertools.count(1)

    async def serve(self, client: Streams) -> None:
        length, kind = struct.unpack("!ii", await client[0].readexactly(8))
        while kind == SSL_REQUEST:
            client[1].write(b"N")
            length, kind = struct.unpack("!ii", await client[0].readexactly(8))
        if kind == CANCEL_REQUEST:
            return
        startup = struct.pack("!ii", length, kind) + await client[0].readexactly(length - 8)
        server, greeting = await self._session(startup)
        free = [] if self._by_session else self._free
        free.append(server)
        key = struct.pack("!cIII", b"K", 12, 900_000 + next(self._keys), 1)  # its own, not that of a backend
        client[1].write(greeting + key + READY + b"I")
        asked = asyncio.ensure_future(_message(client[0]))
        try:
            while True:
                asked = await self._transaction(client, startup, asked, free)
        finally:
            asked.cancel()

    async def _transaction(self, client: Streams, startup: bytes, asked: Asked, free: list[Streams]) -> Asked:
        """Passes on what is asked and answered until a transaction is over; what the client asks next."""
        kind, _ = await asked
        if kind == b"X":
            raise asyncio.IncompleteReadError(b"", None)
        server = free.pop() if free else (await self._session(startup))[0]
        answered = asyncio.ensure_future(_message(server[0]))
        try:
            while True:
                await asyncio.wait([asked, answered], return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    server[1].write(asked.result()[1])
                    asked = asyncio.ensure_future(_message(client[0]))
                if answered.done():
                    kind, message = answered.result()
                    client[1].write(message)
                    if kind == b"Z" and message.endswith(b"I"):
                        free.append(server)
                        return asked
                    answered = asyncio.ensure_future(_message(server[0]))
        finally:
            answered.cancel()

    async def _session(self, startup: bytes) -> tuple[Streams, bytes]:
        server = await asyncio.open_unix_connection(self._socket)
        server[1].write(startup)
        greeting, kind = b"", b""
        while kind != b"Z":
            kind, said = await _message(server[0])
            greeting += said if kind in b"RS" else b""
        return server, greeting


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A message: its type, and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Waits until something outside of the program holds; fails when it never does."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
