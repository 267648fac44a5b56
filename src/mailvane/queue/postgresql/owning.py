"""Owning delivery: an advisory lock, held by the very session that settles.

The lock goes when the session goes, and the session goes within five seconds when its process dies, stops or is cut
off: the server ends it when it hears nothing (keepalives, idle_session_timeout; the owner says something every second).
Each settlement checks inside its transaction that its session has the lock and its term is the one in force.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from mailvane.clock import Chance, system_chance
from mailvane.errors import OwnershipLost, QueueOwned, QueueTooNew, QueueUnavailable
from mailvane.queue.contract import ATTEMPTS_KEPT, Settled, Settlement
from mailvane.queue.history import Remembered, remembered, storable
from mailvane.queue.moving import MOVED_TO, refuse_moved
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.connection import SQL, Connection, connect, who_is_in_the_way
from mailvane.queue.postgresql.errors import Disconnected, SharedSessions, TryAgain, shared_sessions, told
from mailvane.queue.postgresql.line import SHORT, TRIES
from mailvane.queue.postgresql.schema import ensure_schema

T = TypeVar("T")

HEARTBEAT = 1.0
SILENCE = "4s"
"""How long the server waits for a word of the owner."""
ANSWER_SECONDS = 3.0
"""How long the owner waits for the server's."""
SETTLE_SECONDS = 30.0
LOCK_SECONDS = 2.0
STAND_BY = 0.5

log = logging.getLogger("mailvane.queue")


class Ownership:
    """Delivery, owned. Made by `take`. `lost` is called once, in the event loop, when it is ours no longer; everything
    raises OwnershipLost from then on."""

    def __init__(self, address: Address, connection: Connection, term: int, epoch: str) -> None:
        self.address = address
        self.term = term
        self.epoch = epoch
        self.lost: Callable[[OwnershipLost], None] | None = None
        self.after_another = False
        """Whether somebody else had it when it was asked for."""
        self.heard: Callable[[int, str], None] | None = None
        """Told what is notified on the queue's channel: by which backend, and what."""
        self._connection = connection
        self._chance: Chance = system_chance()
        self._lock = asyncio.Lock()
        self._why: OwnershipLost | None = None
        self._given_back = False
        self._loop = asyncio.get_running_loop()
        connection.add_termination_listener(self._ended)
        self._beating = self._loop.create_task(self._beat())

    @classmethod
    async def take(cls, address: Address, command: str, moves: bool = False) -> "Ownership":
        """Raises QueueOwned, naming who owns it; QueueUnavailable, also for a queue that was moved away, unless it is
        taken to be moved (`moves`)."""
        connection = await _session(address, command)
        try:
            with told(address.shown):
                return await cls.take_by(connection, address, moves)
        except BaseException:
            connection.terminate()
            raise

    @classmethod
    async def take_by(cls, connection: Connection, address: Address, moves: bool = False) -> "Ownership":
        """As `take`, by a session that is there, and stays as it was if somebody else owns the queue."""
        if not moves:
            refuse_moved(await connection.fetchval(SQL["kept"], MOVED_TO), address.shown)
        if not await connection.fetchval(SQL["try_to_own"]):
            await connection.fetch(SQL["end_silent_owner"], SILENCE)
            row = await connection.fetchrow(SQL["owner"])
            who = f"{row[0] or 'a session'}, connected from {row[1]}" if row is not None else "another process"
            raise QueueOwned(f"the queue at {address.shown} belongs to {who}; one process at a time delivers")
        if not await connection.fetchval(SQL["owns"]):
            raise shared_sessions(address.shown)
        if connection.get_server_version() >= (14,):
            await connection.fetchval(SQL["end_idle_session"], SILENCE)
        await connection.fetch(SQL["plan_by_index"])
        await _renew_epoch_elsewhere(connection)
        term = int(await connection.fetchval(SQL["take_term"]))
        epoch = str(await connection.fetchval(SQL["kept"], "epoch"))
        ownership = cls(address, connection, term, epoch)
        channel = str(await connection.fetchval(SQL["channel"]))
        await connection.add_listener(channel, lambda _c, pid, _channel, payload: ownership._hear(pid, payload))
        return ownership

    def _ended(self, _connection: object) -> None:
        self._loop.call_soon(self._lose, "the session ended")

    def _hear(self, pid: int, payload: str) -> None:
        if self.heard is not None:
            self.heard(pid, payload)

    async def settle(self, what: Settlement, term: int, keep: bool, now: int) -> Settled:
        """As OwnedQueue.settle; `now` is the wall clock in milliseconds."""
        failed = what.failed
        row = await self.run(
            lambda c: c.fetchrow(
                SQL["settle"], term, now, keep, list(what.delivered), list(what.dropped),
                [f.id for f in failed], [f.attempts for f in failed], [f.due for f in failed],
                [storable(f.error) for f in failed], [_encoded(remembered(f, now)) for f in failed], ATTEMPTS_KEPT,
            )
        )  # fmt: skip
        assert row is not None
        return Settled(int(row[0]), int(row[1]), tuple(sorted(set(row[2] or ()))))

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Work of the owner's, on the session that holds the lock; tried again while others are in its way."""
        async with self._lock:
            for attempt in range(1, TRIES + 1):
                if self._why is not None:
                    raise self._why
                try:
                    with told(self.address.shown):
                        async with asyncio.timeout(SETTLE_SECONDS):
                            return await work(self._connection)
                except TryAgain as e:
                    if attempt == TRIES:
                        who = await who_is_in_the_way(self._connection)
                        raise QueueUnavailable(f"{e}; in the way: {who}" if who else str(e)) from e
                    await asyncio.sleep(SHORT * 2**attempt * (0.5 + self._chance.random()))
                except (Disconnected, OwnershipLost) as e:
                    raise self._lose(str(e)) from e
                except asyncio.CancelledError:
                    self._lose("a settlement was cut short")
                    raise
        raise AssertionError

    async def _beat(self) -> None:
        while self._why is None:
            await asyncio.sleep(HEARTBEAT)
            if self._lock.locked():  # something is on its way, and will tell
                continue
            async with self._lock:
                try:
                    with told(self.address.shown):
                        async with asyncio.timeout(ANSWER_SECONDS):
                            owns = await self._connection.fetchval(SQL["owns"])
                except TryAgain:
                    continue
                except (QueueUnavailable, OwnershipLost) as e:
                    self._lose(str(e))
                    return
                if not owns:
                    self._lose("the session that held it is another one now")

    def _lose(self, why: str) -> OwnershipLost:
        if self._why is None:
            self._why = OwnershipLost(f"delivery is no longer owned by this process: {why}")
            self._connection.terminate()
            if self.lost is not None and not self._given_back:
                self.lost(self._why)
        return self._why

    async def give_back(self) -> None:
        """Ends the session, and the lock with it."""
        self._given_back = True
        self._beating.cancel()
        async with self._lock:
            if self._why is None:
                self._why = OwnershipLost("delivery was given back")
                with contextlib.suppress(QueueUnavailable, OwnershipLost), told(self.address.shown):
                    await self._connection.close(timeout=1.0)


async def _session(address: Address, command: str) -> Connection:
    connection = await connect(address, command, lock_timeout=LOCK_SECONDS)
    try:
        await ensure_schema(connection, address)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def stand_by(
    address: Address, command: str, waits: Callable[[str], None] | None = None, chance: Chance | None = None
) -> Ownership:
    """Waits until delivery is free, and takes it. `waits` is told why it waits, whenever that changes.

    It asks again and again, a jittered half second apart: a statement that waited for the lock would keep the server
    from cleaning up. Raises QueueTooNew and SharedSessions, which waiting does not mend.
    """
    luck = chance or system_chance()
    connection: Connection | None = None
    said, pause, after_another = "", STAND_BY, False
    try:
        while True:
            try:
                if connection is None or connection.is_closed():
                    connection = await _session(address, command)
                with told(address.shown):
                    ownership = await Ownership.take_by(connection, address)
                connection = None
                ownership.after_another = after_another
                return ownership
            except QueueOwned as e:
                pause, why, after_another = STAND_BY, str(e), True
            except (QueueTooNew, SharedSessions):
                raise
            except QueueUnavailable as e:
                if connection is not None:
                    connection.terminate()
                connection = None
                pause, why = min(pause * 2, 4 * STAND_BY), str(e)
            if waits is not None and why != said:
                waits(why)
            said = why
            await asyncio.sleep(pause * (0.5 + luck.random()))
    finally:
        if connection is not None:
            connection.terminate()


async def _renew_epoch_elsewhere(connection: Connection) -> None:
    """A database that was restored, or a stand-by that took over, may lack what was recorded last, and would give its
    ids again: a new epoch tells receivers that these are other events."""
    try:
        async with connection.transaction():
            identity = str(await connection.fetchval(SQL["identity"]))
            before = await connection.fetchval(SQL["kept"], "identity")
            if identity != before:
                if before is not None:
                    log.warning(
                        "the database is another server's than before (%s, was %s): new epoch", identity, before
                    )
                    await connection.execute(SQL["renew_epoch"])
                await connection.execute(SQL["keep"], "identity", identity)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFunctionError) as e:
        log.info("the server does not tell which one it is: %s", e)


def _encoded(attempt: Remembered) -> str:
    return msgspec.json.encode(attempt).decode()
