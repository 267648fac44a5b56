"""The API as it is served, over a real service on a home of its own, and a client that says what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from mailvane.configuration.home import init
from mailvane.configuration.settings import load_settings
from mailvane.operations.service import Service
from mailvane.operations.taking_over import take_ownership
from mailvane.web.bounds import Bounds
from mailvane.web.server import Running, serve
from support.homes import LEAVES

Json = Any
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
EVENT: dict[str, Json] = {"event_type": "bounce_all", "email": "user@example.com", "listid": "a1"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> Reply:
        """The next answer. Raises ConnectionError if there is none."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        except asyncio.IncompleteReadError as e:
            raise ConnectionError(f"no whole answer: {e.partial[:200]!r}") from e
        return Reply(int(head[0].split()[1]), headers, body)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        await self.say(request(method, path, body, **headers))
        return await self.reply()

    async def ended(self) -> bytes:
        """Waits until the server has closed; returns what came before."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.transport.abort()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request's bytes; underscores in names of headers are dashes, an empty value leaves the header out."""
    given: dict[str, str] = {"host": "localhost"}
    if body or method == "POST":
        given |= {"content-length": str(len(body)), "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@dataclass
class Served:
    home: Path
    service: Service
    running: Running
    clients: list[Client] = field(default_factory=list[Client])
    """Those that still have a connection at the end of the test; it ends with the test."""

    async def client(self, by_socket: bool = False) -> Client:
        if by_socket:
            client = Client(*await asyncio.open_unix_connection(self.running.socket_path, limit=2**24))
        else:
            client = Client(*await asyncio.open_connection("127.0.0.1", self.running.port, limit=2**24))
        self.clients.append(client)
        return client

    async def ask(self, method: str, path: str, body: bytes = b"", by_socket: bool = False, **headers: str) -> Reply:
        """One request on a connection of its own."""
        client = await self.client(by_socket)
        try:
            return await client.ask(method, path, body, **headers)
        finally:
            client.close()
            self.clients.remove(client)

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, document: Json, **options: Any) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return await self.ask("POST", path, body, **options)

    async def record(self, *events: Mapping[str, Json]) -> list[int]:
        reply = await self.post("/v1/events", list(events))
        assert reply.status == 202, reply.body
        return [result["id"] for result in reply.json["results"]]


@asynccontextmanager
async def served(
    folder: Path,
    *,
    conf: str = "",
    enable: Sequence[str] = ("bounce_all",),
    rules: Mapping[str, Json] = LEAVES,
    deliver: bool = True,
    start: bool = True,
    prepare: Callable[[Path], object] = lambda home: None,
    tcp: bool = True,
    listen: str = "127.0.0.1:0",
    bounds: Bounds | None = None,
) -> AsyncIterator[Served]:
    """The API of a new home; stopped at the end."""
    home = folder / "h"
    init(home)
    with (home / "mailvane.conf").open("a") as file:
        file.write(f"\nhttp_listen {listen}\n{conf}\n")
    for name in enable:
        (home / "control" / f"record_events.simplemh.{name}").write_text("1\n")
    (home / "control" / "event_processor.json").write_text(json.dumps(rules))
    prepare(home)
    settings = load_settings(home)
    service = Service(settings, await take_ownership(settings, "mailvane run"))
    delivering: asyncio.Task[None] | None = None
    if start:
        await service.start(deliver)
        if deliver:
            delivering = asyncio.create_task(service.deliver())
    running = await serve(service, tcp, bounds)
    it = Served(home, service, running)
    try:
        yield it
    finally:
        for client in it.clients:
            client.close()
        await running.stop(5.0)
        await service.stop(1.0)
        if delivering is not None:
            await delivering


def run(test: Callable[[], Awaitable[None]], loop: str = "uvloop") -> None:
    """Runs a test in an event loop, for a minute at most."""

    async def main() -> None:
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
