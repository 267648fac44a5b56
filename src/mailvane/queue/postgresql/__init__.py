"""The queue in PostgreSQL: many processes record, one owns delivery, others stand by.

What holds it together
    The *ordering lock*: whoever adds events takes it before ids are drawn and has it until the commit, so that events
    become visible in the order of their ids, whoever recorded them. It is taken and given back within one statement: a
    process that stops or dies never keeps it. The *ownership lock*: held by the very session that settles; who has it
    delivers.

Who writes what
    recorders     `appending`: groups share a commit, one round trip each. `SharedCommits` in an event loop,
                  `PostgreSQLStore` in the thread of a program
    people        `SELECT mailvane_record('{…}')` in a transaction of their own puts an event into `inbox`; the next
                  recorder moves it. Deleting through the view `events` works at any time
    the owner     settles (`owning`): never under the ordering lock, and never waiting for a row that somebody else has
    commands      act directly, and leave `orders` for the owner

What each fault does
    the server restarts           recorders wait for ten seconds, then refuse; the owner has lost its session, discards
                                  what it does not know to be settled, and takes part again
    a commit's answer is lost     it is sent again with its own token, and is in once
    the owner dies, stops, is     the server ends its session within four seconds; a stand-by takes the lock. Its later
      cut off                     settlements are refused: its session is gone, its term is old
    a stand-by server takes over  what it has is delivered; a new epoch tells receivers that ids may come again
    the server is read-only       nothing is recorded or delivered, and everybody says why
    a person's session holds rows settling passes over them and says so; they stay held and are tried again
    a proxy pools by transaction  refused when it is met, and in each settlement should it slip in later

Here are the ways in. Each names its process to the server by `command`, as people will read it.
"""

from collections.abc import Callable

from mailvane.queue.postgresql.address import Address, parse_address
from mailvane.queue.postgresql.appending import Judge
from mailvane.queue.postgresql.connection import connect
from mailvane.queue.postgresql.errors import Disconnected
from mailvane.queue.postgresql.orders import Order
from mailvane.queue.postgresql.owned import OwnedPostgreSQLQueue
from mailvane.queue.postgresql.owning import Ownership, stand_by
from mailvane.queue.postgresql.queue import PostgreSQLQueue
from mailvane.queue.postgresql.recording import SharedCommits
from mailvane.queue.postgresql.schema import refuse_unfit
from mailvane.queue.postgresql.store import PostgreSQLStore

__all__ = [
    "Address",
    "Disconnected",
    "Judge",
    "Order",
    "OwnedPostgreSQLQueue",
    "PostgreSQLQueue",
    "PostgreSQLStore",
    "SharedCommits",
    "look_at_postgresql",
    "open_postgresql",
    "own_postgresql",
    "parse_address",
    "record_in_postgresql",
    "stand_by_postgresql",
    "store_in_postgresql",
]  # fmt: skip


async def open_postgresql(url: str, command: str, judge: Judge | None = None) -> PostgreSQLQueue:
    """For a process that records in an event loop (with `judge` it moves the inbox, too), and for a command.

    Raises BadAddress, QueueUnavailable, QueueTooNew.
    """
    queue = PostgreSQLQueue(parse_address(url), command, judge)
    try:
        await queue.open()
    except BaseException:
        await queue.close()
        raise
    return queue


async def own_postgresql(url: str, command: str, judge: Judge | None = None) -> OwnedPostgreSQLQueue:
    """For a process that delivers, at once or not at all. Raises QueueOwned, and as `open_postgresql`."""
    address = parse_address(url)
    return OwnedPostgreSQLQueue(address, command, await Ownership.take(address, command), judge)


async def stand_by_postgresql(
    url: str, command: str, judge: Judge | None = None, waits: Callable[[str], None] | None = None
) -> OwnedPostgreSQLQueue:
    """For a process that delivers as soon as nobody else does; `waits` is told what it waits for.

    Raises BadAddress, QueueTooNew, SharedSessions.
    """
    address = parse_address(url)
    return OwnedPostgreSQLQueue(address, command, await stand_by(address, command, waits), judge)


def record_in_postgresql(url: str, command: str, judge: Judge | None = None) -> SharedCommits:
    """For a program that records in an event loop, and does nothing else. Nothing is opened yet."""
    return SharedCommits(parse_address(url), command, judge)


def store_in_postgresql(url: str, command: str, judge: Judge | None = None) -> PostgreSQLStore:
    """For a program without an event loop: what the thread of its Writer writes to. Nothing is opened yet."""
    return PostgreSQLStore(parse_address(url), command, judge)


async def look_at_postgresql(url: str, command: str) -> None:
    """Whether a queue could be there; makes nothing. Raises BadAddress, Disconnected if nobody answers there, and
    QueueUnavailable with what is in the way: another encoding than UTF8, relations that are not ours."""
    address = parse_address(url)
    connection = await connect(address, command, writes=False)
    try:
        await refuse_unfit(connection, address)
    finally:
        await connection.close(timeout=1.0)
