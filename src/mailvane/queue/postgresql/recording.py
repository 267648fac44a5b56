"""Recording in an event loop: what many producers hand in while the server is busy shares the next commit."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.appending import PATIENCE, Appender, Judge
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.line import Line
from mailvane.queue.postgresql.schema import ensure_schema
from mailvane.queue.writer import Answer, Answered, Appending, next_group, promised

T = TypeVar("T")

TRIAL_PATIENCE = 4.0
"""Seconds for which a trial waits: longer than any pause between two attempts to connect."""
SLOW, SLOW_AN_EVENT = 1e-3, 20e-6
"""Seconds from which on a commit waits for a disk longer than producers and server need for the next one."""
SLOW_DISK = 4
"""Slow commits in a row from which on it is the disk, and no hiccup."""
LOOK_EVERY = 1.0
"""Seconds after which the inbox is looked into though nobody said that something is there."""

log = logging.getLogger("mailvane.queue")


def recording_line(address: Address, command: str, heard: Callable[[str], None] | None = None) -> Line:
    """A session that adds events. `heard` is told what is notified on the queue's channel."""

    async def set_up(connection: Connection) -> None:
        await ensure_schema(connection, address)
        await connection.fetch(SQL["plan_by_index"])
        if heard is not None:
            tell = heard
            channel = str(await connection.fetchval(SQL["channel"]))
            await connection.add_listener(channel, lambda _connection, _pid, _channel, payload: tell(payload))

    return Line(address, command, set_up)


class SharedCommits:
    """One commit at a time, of all that came meanwhile. Made in a running event loop, and ended there by `close`.

    `committed` is called after each commit with what was answered, `moved` with the first id that was given to what
    came from the inbox, and how many that is.
    """

    def __init__(
        self,
        address: Address,
        command: str,
        judge: Judge | None,
        committed: Callable[[Answered], None] | None = None,
        moved: Callable[[int, int], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._line = recording_line(address, command, self._heard if judge is not None else None)
        self._appender = Appender(self._line, judge, moved)
        self._moves = judge is not None
        self._committed = committed
        self._waiting: deque[Appending] = deque()
        self._bell = asyncio.Event()
        self._ended = False
        self._trouble = ""
        self._lookers: list[asyncio.Future[None]] = []
        self._task = self._loop.create_task(self._work())

    @property
    def fresh_from(self) -> int:
        """See Appender; of the commit that `committed` is being told of."""
        return self._appender.fresh_from

    def appending(self, events: Sequence[StoredForm], token: str = "") -> asyncio.Future[list[int]]:
        """As Queue.append, without a coroutine of its own: for who has many."""
        future: asyncio.Future[list[int]] = self._loop.create_future()
        if self._ended:
            future.set_exception(QueueUnavailable("the recorder was closed; nothing was recorded"))
            return future
        self._waiting.append(promised(events, token, future))
        self._bell.set()
        return future

    @property
    def pid(self) -> int:
        """Of the backend that commits."""
        return self._line.pid

    async def kept(self, name: str) -> str | None:
        """See Queue.kept; by the session that records, so that who only records needs no other."""
        return await self._line.run(lambda connection: connection.fetchval(SQL["kept"], name), self._patience)

    async def keep(self, name: str, value: str) -> None:
        """See Queue.keep."""
        await self._line.run(lambda connection: connection.execute(SQL["keep"], name, value), self._patience)

    async def studio_rows(self) -> str:
        """See Queue.studio_rows."""
        return str(await self._line.run(lambda connection: connection.fetchval(SQL["studio_rows"]), self._patience))

    @property
    def _patience(self) -> float:
        """Of a server that has been away for so long already nobody waits for the return."""
        return 0.0 if self._ended else max(0.0, PATIENCE - self._line.down_for)

    async def try_to_write(self) -> None:
        """Writes something that is no event, by the session that events would go by. Raises QueueUnavailable."""
        await self._line.run(lambda connection: connection.execute(SQL["keep"], "tried", ""), TRIAL_PATIENCE)

    async def look_into_inbox(self) -> None:
        """Returns when what was in the inbox is moved, or cannot be now."""
        if not self._moves or self._ended:
            return
        looked: asyncio.Future[None] = self._loop.create_future()
        self._lookers.append(looked)
        self._appender.inbox_waits = True
        self._bell.set()
        await looked

    def _heard(self, payload: str) -> None:
        if payload == "i":
            self._appender.inbox_waits = True
            self._bell.set()

    async def _work(self) -> None:
        next_look, waited, slow = 0.0, False, 0
        while not (self._ended and not self._waiting):
            if self._waiting:
                if slow >= SLOW_DISK:  # who was just answered may come along: the turns cost less than another commit
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                taken, waited = next_group(self._waiting, waited and slow < SLOW_DISK), False
                began = self._loop.time()
                await self._commit(taken)
                count = sum([len(one.events) for one in taken])
                slow = slow + 1 if self._loop.time() - began > SLOW + SLOW_AN_EVENT * count else 0
            else:
                waited = True
                self._bell.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY if self._moves else None):
                        await self._bell.wait()
            if self._moves and not self._ended:
                if (now := self._loop.time()) >= next_look:
                    next_look = now + LOOK_EVERY
                    self._appender.inbox_waits = True
                if self._appender.inbox_waits or self._lookers:
                    await self._move()

    async def _commit(self, taken: list[Appending]) -> None:
        answers: Sequence[Answer]
        try:
            answers = await self._appender.append([(one.events, one.token) for one in taken], self._patience)
        except QueueUnavailable as e:
            answers = [e] * len(taken)
        except asyncio.CancelledError:
            for one in taken:
                one.answered(QueueUnavailable("the recorder was ended: whether it was recorded is unknown"))
            raise
        except Exception as e:  # a defect of ours must not leave producers waiting for ever
            log.exception("events could not be written")
            answers = [QueueUnavailable(f"the queue could not be written: {e!r}")] * len(taken)
        answered = list(zip(taken, answers, strict=True))
        self._loop.call_soon(self._answer, answered)  # the server has its next group before that

    def _answer(self, answered: Answered) -> None:
        for appending, answer in answered:
            appending.answered(answer)
        if self._committed is not None:
            self._committed(answered)

    async def _move(self) -> None:
        lookers, self._lookers = self._lookers, []
        try:
            while await self._appender.move_inbox() and lookers and self._appender.inbox_waits:
                pass
        except QueueUnavailable as e:
            if str(e) != self._trouble:
                log.warning("the inbox cannot be moved now: %s", e)
            self._trouble = str(e)
        except Exception:  # a defect of ours must not end the task that all producers wait for
            log.exception("the inbox could not be moved")
        else:
            self._trouble = ""
            if self._appender.inbox_waits:
                self._bell.set()
        finally:
            for looked in lookers:
                if not looked.done():
                    looked.set_result(None)

    async def close(self) -> None:
        """Ends when all that was handed in is written, or cannot be."""
        self._ended = True
        self._bell.set()
        await asyncio.wait([self._task])
        for looked in self._lookers:
            looked.cancel()
        await self._line.close()
