"""A server in the test's own event loop that does with each connection what the test says, and a client beside it."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from mailvane.clock import SystemClock
from mailvane.destinations.addresses import Policy
from mailvane.destinations.contract import HttpPost, Outcome, Outgoing
from mailvane.destinations.dial import Limits
from mailvane.destinations.http import HttpDestination

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
QUICK = Limits(connect=0.5, attempt=0.5, resolve=0.4, idle=30.0)
PATIENT = Limits(idle=120.0)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run(loop: str, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test on one of the LOOPS; what it leaves unhandled on the loop fails it."""
    unhandled: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(watched())
    # A server's connection that the client ended in the handshake or in the middle of an answer is the test's making.
    ours = [each for each in unhandled if not isinstance(each.get("exception"), ConnectionError | ssl.SSLError)]
    assert not ours, ours


@dataclass
class Peer:
    """One accepted connection."""

    number: int
    server: "Adversary"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> tuple[bytes, bytes]:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert length, head
        body = await self.reader.readexactly(int(length[1]))
        self.server.requests.append((self.number, head, body))
        return head, body

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError  # uvloop has another exception for it
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Waits until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Behaviour = Callable[[Peer], Awaitable[None]]


@dataclass
class Adversary:
    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[tuple[int, bytes, bytes]] = field(default_factory=list[tuple[int, bytes, bytes]])
    tls: bool = False

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    @property
    def posts(self) -> int:
        return len(self.requests)


@contextlib.asynccontextmanager
async def adversary(behaviour: Behaviour, context: ssl.SSLContext | None = None) -> AsyncIterator[Adversary]:
    """Serves each connection by `behaviour`; closes it when that returns."""
    server = Adversary(tls=context is not None)
    tasks: set[asyncio.Task[Any]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        server.open += 1
        try:
            await behaviour(Peer(server.connections, server, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()
            server.open -= 1
            tasks.discard(task)

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context, limit=2**22)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(*answers: bytes) -> Behaviour:
    """Answers the requests of each connection in turn, the last answer for ever."""

    async def behave(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        while True:
            await peer.request()
            await peer.send(answers[-1])

    return behave


class Names:
    """A resolver that says what the test says; each call takes the next answer, the last one for ever."""

    def __init__(self, *answers: Sequence[str] | OSError, after: float = 0.0) -> None:
        self.answers = answers
        self.after = after
        self.asked: list[tuple[str, int]] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        await asyncio.sleep(self.after)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, OSError):
            raise answer
        return answer


HERE = Names(["127.0.0.1"])


def event(number: int = 7, attempt: int = 1, text: str = "550 user unknown") -> Outgoing:
    members = f'"event_type":"bounce_all","email":"user@example.com","bounce_text":"{text}"'
    return Outgoing(number, attempt, members, "", len(members.encode()))


@contextlib.asynccontextmanager
async def destination(
    url: str,
    *,
    json: bool = True,
    keep_alive: int | None = None,
    limits: Limits = QUICK,
    policy: Policy | None = None,
    names: Names | None = None,
    tls_ca_file: str = "",
    concurrency: int = 64,
    reveal: Callable[[str], str] = lambda value: value,
    user_agent: str = "",
) -> AsyncIterator[HttpDestination]:
    made = HttpDestination(
        HttpPost(url, json, keep_alive, user_agent),
        epoch="k3v9",
        policy=policy or Policy(),
        resolver=names or Names(["127.0.0.1"]),
        clock=SystemClock(),
        reveal=reveal,
        tls_ca_file=tls_ca_file,
        limits=limits,
    )
    made.allow(concurrency)
    try:
        yield made
    finally:
        await made.close()


def attempt(to: HttpDestination, what: Outgoing | None = None) -> asyncio.Future[Outcome]:
    """Sends one event; the future has its outcome. A second answer for it fails."""
    told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    batch = (what or event(),)

    def done(given: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        assert len(given) == len(outcomes) == 1 and given[0] is batch[0]
        told.set_result(outcomes[0])

    to.send(batch, done)
    assert not told.done()
    return told


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop go on until the condition holds (the test's own deadline bounds it)."""
    while not condition():
        await asyncio.sleep(0.005)
