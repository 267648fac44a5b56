"""Events run through a statement of the operator's, in a database of theirs: a batch in one transaction.

Values are bound, never pasted. A batch that fails because of an event is halved until that event stands alone: the
others go through, each part is answered as soon as it is committed, and the event is told to be the reason. What is
wrong with the statement or the server fails the whole batch at once. A connection that ends in or after the COMMIT
leaves it open whether the batch is there: it counts as failed, and is repeated. docs/destinations-sql.md shows the
unique key and the statement that make a repeat harmless.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from mailvane.clock import Clock
from mailvane.destinations.addresses import Policy, Resolver
from mailvane.destinations.contract import Done, Failure, Outcome, Outgoing, SqlStatement
from mailvane.destinations.dial import Limits
from mailvane.destinations.sql_connect import Connector
from mailvane.destinations.sql_driver import Problem, Session
from mailvane.destinations.sql_values import Binding, Values
from mailvane.destinations.texts import clean

BATCH = 500
PART_CHARACTERS = 1024 * 1024
"""Of bodies, in one transaction: MySQL takes no message above `max_allowed_packet`, 4 MiB or more."""
IDLE = 60.0
"""Seconds after which a connection that nothing was sent on is closed."""
GOOD_BYE = 1.0

log = logging.getLogger(__name__)


class _Job:
    """A batch on its way: its rows, and which of its events have no answer yet.

    Answers go out in the loop's next turn, so that the batch behind has gone to the server by then.
    """

    def __init__(self, batch: Sequence[Outgoing], done: Done) -> None:
        self.batch = batch
        self.rows: dict[int, Values] = {}
        self.began = 0.0
        self._done = done
        self._open = dict.fromkeys(range(len(batch)))
        self._loop = asyncio.get_running_loop()

    def parts(self) -> list[list[int]]:
        """The places of events that go together, the first at the end: all, if they are not very large."""
        made: list[list[int]] = [[]]
        size = 0
        for n in self.rows:
            length = len(self.batch[n].body)
            if made[-1] and size + length > PART_CHARACTERS:
                made.append([])
                size = 0
            made[-1].append(n)
            size += length
        return [part for part in reversed(made) if part]

    def answer(self, which: Sequence[int], outcome: Outcome) -> None:
        """Answers some of its events alike."""
        for n in which:
            del self._open[n]
        self._loop.call_soon(self._done, [self.batch[n] for n in which], [outcome] * len(which))

    def answer_rest(self, outcome: Outcome) -> None:
        """Answers all that have no answer yet."""
        if self._open:
            self.answer(list(self._open), outcome)


class SqlDestination:
    """One statement in one database, over one connection. `reveal` turns references into what they stand for, and
    leaves everything else alone; it raises MailvaneError with a text that holds no secret."""

    batch_limit = BATCH

    def __init__(
        self,
        spec: SqlStatement,
        *,
        epoch: str,
        policy: Policy,
        resolver: Resolver,
        clock: Clock,
        reveal: Callable[[str], str],
        tls_ca_file: str = "",
        limits: Limits | None = None,
    ) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._binding = Binding(spec.bind, epoch)
        self._connector = Connector(spec, policy, resolver, reveal, tls_ca_file, self._limits)
        self._session: Session | None = None
        self._waiting: deque[_Job] = deque()
        self._current: _Job | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._closed = False

    def allow(self, concurrency: int) -> None:
        """See Destination. There is one connection: a second batch waits, and goes the moment the first has ended."""

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        """See Destination."""
        loop = asyncio.get_running_loop()
        self._waiting.append(self._job(batch, done))
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._closed:
            loop.call_soon(self._answer_closed)
        elif self._task is None:
            self._task = loop.create_task(self._work())

    async def close(self) -> None:
        """See Destination."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        task, session = self._task, self._session
        self._task = self._session = None
        if task is not None:
            # What is under way is broken off: nobody waits for its end.
            if session is not None:
                session.abort()
            task.cancel()
            await asyncio.wait([task], timeout=GOOD_BYE)
        elif session is not None:
            await _leave(session)
        self._answer_closed()
        await asyncio.sleep(0)  # the answers go out
        if self._leaving is not None:
            await self._leaving

    def _answer_closed(self) -> None:
        closed = Outcome(Failure.CLOSED, text="the destination was closed")
        jobs = [self._current, *self._waiting]
        self._current = None
        self._waiting.clear()
        for job in jobs:
            if job is not None:
                job.answer_rest(closed)

    async def _work(self) -> None:
        while self._waiting:
            self._current = job = self._waiting.popleft()
            job.began = self._clock.monotonic()
            if (problem := await self._try(job)) is not None:
                self._drop()
                job.answer_rest(self._outcome(job, problem))
            self._current = None
        self._task = None
        if self._session is not None:
            self._idle = asyncio.get_running_loop().call_later(IDLE, self._part)

    async def _try(self, job: _Job) -> Problem | None:
        """Delivers a batch; what failed it, or the rest of it."""
        deadline = asyncio.timeout(self._limits.attempt)
        try:
            async with deadline:
                await self._deliver(job)
        except Problem as problem:
            return problem
        except TimeoutError as error:
            if deadline.expired():
                return Problem(Failure.TIMEOUT, f"not committed within {self._limits.attempt:g} s")
            return Problem(Failure.RESET, str(error) or "the connection was lost")
        except Exception as error:  # the border of the task: an event without an answer would wait for ever
            log.exception("a batch was not delivered")
            return Problem(Failure.PROTOCOL, str(error) or repr(error))
        return None

    async def _deliver(self, job: _Job) -> None:
        rows = job.rows
        parts = job.parts()
        while parts:
            which = parts.pop()
            session = await self._connected()
            try:
                await session.run([rows[n] for n in which])
            except Problem as problem:
                if problem.failure is not Failure.EVENT:
                    raise
                if len(which) == 1:
                    job.answer(which, self._outcome(job, problem))
                else:
                    middle = len(which) // 2
                    parts += [which[middle:], which[:middle]]
            else:
                job.answer(which, Outcome(None, seconds=self._clock.monotonic() - job.began))

    def _job(self, batch: Sequence[Outgoing], done: Done) -> _Job:
        """With the values of each event: they are made while the server is at work on another batch."""
        job, values = _Job(batch, done), self._binding.values
        for n, event in enumerate(batch):
            try:
                job.rows[n] = values(event)
            except msgspec.MsgspecError as error:
                job.answer([n], Outcome(Failure.EVENT, text=clean(f"the event cannot be read: {error}")))
        return job

    def _outcome(self, job: _Job, problem: Problem) -> Outcome:
        text = problem.text
        for secret in self._connector.secrets:
            text = text.replace(secret, "***")
        return Outcome(problem.failure, text=clean(text), seconds=self._clock.monotonic() - job.began)

    # The connection.

    async def _connected(self) -> Session:
        """The connection, opened if there is none. Raises Problem."""
        if self._session is not None and not self._session.alive:
            self._drop()
        if self._session is None:
            self._session = await self._connector.open()
        return self._session

    def _part(self) -> None:
        """Ends a connection that nothing was sent on for a while."""
        session, self._session, self._idle = self._session, None, None
        if session is not None:
            self._leaving = asyncio.get_running_loop().create_task(_leave(session))

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.abort()


async def _leave(session: Session) -> None:
    """Says good-bye, and waits no longer than that takes."""
    try:
        async with asyncio.timeout(GOOD_BYE):
            await session.close()
    except TimeoutError:
        session.abort()
