"""A flood of tiny requests over many connections, and what others and the process make of it meanwhile."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from support.endpoint import Endpoint
from support.homes import Home, bounce, posts_to
from support.oracle import Oracle, assert_books_balance
from support.producers import Producers

CONNECTIONS = 40
AHEAD = 16
MEMORY_KIB = 150 * 1024


def tiny() -> bytes:
    """As many requests as may be sent ahead; the type of their events is off."""
    body = json.dumps(bounce(1, "scomp")).encode()
    post = (
        b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    )
    return (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" + post % (len(body), body)) * (AHEAD // 2)


async def pour(port: int, requests: int) -> int:
    """How many were answered by 200 or 202; all of them are answered."""
    batch, good = tiny(), 0

    async def one() -> None:
        nonlocal good
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // CONNECTIONS // AHEAD):
            writer.write(batch)
            told = b""
            while told.count(b"HTTP/1.1 ") < AHEAD:
                more = await reader.read(65_536)
                assert more, "cut off"
                told += more
            good += told.count(b"HTTP/1.1 20")
        writer.transport.abort()

    await asyncio.gather(*[one() for _ in range(CONNECTIONS)])
    return good


def flood(make_home: Callable[..., Home], endpoint: Endpoint, folder: Path, requests: int) -> None:
    """Every request of the flood is answered, others record and their events arrive, and memory stays bounded."""
    oracle = Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    process = home.run()
    with Producers(home, folder) as producers:
        producers.start("http", "socket", "recorder", pace=0.01)
        producers.wait_for("acknowledged", 10)
        before = producers.noted("acknowledged")
        good = asyncio.run(pour(home.port, requests))
        meanwhile = producers.noted("acknowledged") - before
        producers.stop()
        assert not producers.refusals()
        producers.tell(oracle)
    print(f"\n{good:,} requests of a flood, {meanwhile:,} events recorded by others meanwhile,", end=" ")
    print(f"VmHWM {process.peak_memory_kib() // 1024} MiB")
    assert good == requests // CONNECTIONS // AHEAD * CONNECTIONS * AHEAD
    assert meanwhile > requests // 1_000
    assert process.peak_memory_kib() < MEMORY_KIB
    books = home.wait_until_empty()["books"]
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats
    assert_books_balance(books, recorded=account.accepted)
