"""A proxy in front of a server that cuts a connection in the moment that a test names."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self


class CuttingProxy:
    """Listens in the test's event loop, inside `async with`, and passes everything on.

    After `cut_answer_to(what)` the first answer that follows on a request for which `what` holds is swallowed, and both
    sides are cut: the server has done what it was asked, and the client never hears of it. `cut` is then set.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._what: Callable[[bytes], bool] | None = None
        self._swallow = False
        self.cut = asyncio.Event()
        self.connections = 0
        self.port = 0
        self._serving: list[asyncio.Task[None]] = []

    def cut_answer_to(self, what: Callable[[bytes], bool]) -> None:
        self._what = what
        self.cut.clear()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)

        async def ask() -> None:
            while data := await from_client.read(65536):
                if self._what is not None and self._what(data):
                    self._what, self._swallow = None, True
                to_server.write(data)
                await to_server.drain()

        async def answer() -> None:
            while data := await from_server.read(65536):
                if self._swallow:
                    self._swallow = False
                    to_client.transport.abort()
                    self.cut.set()
                    return
                to_client.write(data)
                await to_client.drain()

        own = asyncio.current_task()
        assert own
        self._serving.append(own)
        tasks: list[asyncio.Task[None]] = []
        with contextlib.suppress(OSError, asyncio.CancelledError):
            tasks = [asyncio.ensure_future(ask()), asyncio.ensure_future(answer())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        to_client.close()
        to_server.close()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
