"""The connections of one endpoint: opened gradually, kept, used again last in first out, watched by one tick.

This is the hot path. An answer's callback gives the next request to the connection that it came on, and those of one
turn of the loop go out together; deadlines cost nothing until the tick looks at what is in flight, every 100 ms. What
is given to `submit` is answered exactly once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from mailvane.clock import Clock
from mailvane.destinations.connection import BufferedConnection, Connection
from mailvane.destinations.contract import Done, Failure, Outcome, Outgoing
from mailvane.destinations.dial import Dialler, Limits, NoConnection
from mailvane.destinations.http_head import Heads
from mailvane.destinations.http_protocol import AnswerReader, Verdict
from mailvane.destinations.http_request import Endpoint, RequestForm

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
_READ_BYTES = 16 * 1024
_OPENED_AT_ONCE = 4
_MOST_OPENED_AT_ONCE = 64
_KNOWN_ANSWERS = 256
_KNOWN_ANSWER_BYTES = 1024
_FRESH_SECONDS = 0.002
"""A connection that was free for longer is asked whether the other side has closed it."""
_SHORT_SECONDS = 1.0
"""How long no connection is opened beside those that are open after we had no descriptor for one."""
_UNKEPT_LIMIT = 3
_UNKEPT_SECONDS = 60.0
"""An endpoint that closed that many connections unannounced before a second answer gets one request on each for so
long."""


class Job(msgspec.Struct, frozen=True, gc=False):
    """A batch that waits for a connection since `started` (monotonic)."""

    batch: Sequence[Outgoing]
    done: Done
    started: float


class Connections:
    """The connections of one endpoint, and the batches that wait for one.

    `forms` gives the endpoint and the requests' form anew for each connection (a URL may hang on a file that changes);
    it may raise NoConnection. `keep`: how many connections may be used more than once.
    """

    def __init__(
        self,
        forms: Callable[[], tuple[Endpoint, RequestForm]],
        dialler: Dialler,
        limits: Limits,
        clock: Clock,
        form_encoded: bool,
        keep: int | None,
    ) -> None:
        self.view = memoryview(bytearray(_READ_BYTES))
        self.answers: dict[bytes, Verdict] = {}
        self._forms = forms
        self._form: RequestForm | None = None
        self._dialler = dialler
        self._limits = limits
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._form_encoded = form_encoded
        self._heads = Heads()
        self._keep = keep
        self._kept = 0
        self._allowed = 1
        self._open: set[Connection] = set()
        self._free: list[Connection] = []
        self._waiting: deque[Job] = deque()
        self._outbox: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._opened_at_once = _OPENED_AT_ONCE
        self._problem: NoConnection | None = None
        self._short_until = 0.0
        self._unkept = 0
        self._unkept_until = 0.0
        self._ticking = False
        self._closed = False
        self._now = 0.0
        """The time while an answer is told, so that what it leads to need not ask again; else 0."""

    def submit(self, batch: Sequence[Outgoing], done: Done) -> None:
        """Sends a batch on a free connection, or as soon as there is one."""
        now = self._now or self._monotonic()
        free = self._free
        while free:
            connection = free.pop()
            if now - connection.freed > _FRESH_SECONDS and connection.stale():
                self.discard(connection)
                continue
            self._start(connection, batch, done, now)
            return
        if self._closed:
            closed = Outcome(Failure.CLOSED, text="the destination is closed")
            asyncio.get_running_loop().call_soon(done, batch, [closed] * len(batch))
            return
        self._waiting.append(Job(batch, done, now))
        self._tick_on()
        self._open_more()

    def _start(self, connection: Connection, batch: Sequence[Outgoing], done: Done, started: float) -> None:
        """Requests go out together when the loop has nothing else at hand: sent one by one, each would have to wake the
        endpoint, which costs as much as all the rest of it.
        """
        connection.batch = batch
        connection.done = done
        connection.started = started
        connection.queued = True
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._send)
        self._outbox.append(connection)

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, []
        for connection in outbox:
            batch = connection.batch
            if connection.queued and batch is not None:
                connection.queued = False
                try:
                    connection.write(connection.request(batch[0]))
                except RuntimeError:  # uvloop's word for a connection that broke, before it tells by connection_lost
                    self._again(connection)

    def _again(self, connection: Connection) -> None:
        """Nothing of the request has gone out, so another connection may take it."""
        batch, connection.batch, connection.queued = connection.batch, None, False
        if batch is not None:
            self._waiting.appendleft(Job(batch, connection.done, connection.started))
            self._tick_on()
        self.discard(connection)

    def allow(self, count: int) -> None:
        """From now on at most that many connections; free ones beyond are closed at once, others when they are free."""
        self._allowed = max(1, count)
        self._unsettle()
        while self._free and len(self._open) > self._allowed:
            self.discard(self._free[0])
        self._open_more()

    async def close(self) -> None:
        """Answers what is outstanding with CLOSED and drops all connections."""
        self._closed = True
        self._unsettle()
        opening, waiting = list(self._opening), list(self._waiting)
        self._waiting.clear()
        for task in opening:
            task.cancel()
        now = self._monotonic()
        verdict = Verdict(Failure.CLOSED, 0, "the destination was closed before an answer came")
        for connection in list(self._open):
            if connection.batch is None:
                self.discard(connection)
            else:
                self.answered(connection, verdict)
        for job in waiting:
            job.done(job.batch, (_outcome(verdict, now - job.started),))
        await asyncio.gather(*opening, return_exceptions=True)

    # What connections say

    def reader(self) -> AnswerReader:
        return AnswerReader(self._form_encoded, self._heads)

    def remember(self, data: bytes, verdict: Verdict) -> None:
        """See Pool."""
        if len(data) <= _KNOWN_ANSWER_BYTES:
            if len(self.answers) >= _KNOWN_ANSWERS:
                self.answers.clear()
            self.answers[data] = verdict

    def answered(self, connection: Connection, verdict: Verdict) -> None:
        """Frees the connection, gives it to who waits, and tells the outcome: in this order, so that what the callback
        sends finds it."""
        batch, done = connection.batch, connection.done
        if batch is None:
            return
        connection.batch = connection.reader = None
        connection.queued = False
        now = self._monotonic()
        seconds = now - connection.started
        if verdict.reusable and not connection.unsent() and (connection.settled or self._keeps(connection, now)):
            self._free_or_busy(connection, now)
        else:
            self.discard(connection)
        failure = verdict.failure
        text = verdict.text if failure is None else connection.to.mask(verdict.text)
        self._now = now
        try:
            done(batch, (Outcome(failure, verdict.status, text, verdict.retry_after, seconds),))
        finally:
            self._now = 0.0

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """See Pool."""
        if connection.queued:
            self._again(connection)
            return
        why = f"the connection was lost before the answer was whole{f' ({error})' if error else ''}"
        self.answered(connection, self._reader_at_end(connection).cut(Failure.RESET, why))

    def ended(self, connection: Connection) -> None:
        """See Pool."""
        if connection.queued:
            self._again(connection)
        else:
            self.answered(connection, self._reader_at_end(connection).ended())

    def _reader_at_end(self, connection: Connection) -> AnswerReader:
        if connection.reader is None and connection.served == 1:  # no answer to the second request on it
            self._unkept += 1
            if self._unkept >= _UNKEPT_LIMIT:
                self._unkept_until = self._monotonic() + _UNKEPT_SECONDS
        return connection.reader or self.reader()

    def discard(self, connection: Connection) -> None:
        """See Pool."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        self._kept -= connection.kept
        if connection in self._free:
            self._free.remove(connection)
        connection.transport.abort()
        self._open_more()

    def _free_or_busy(self, connection: Connection, now: float) -> None:
        """Gives a connection to who has waited longest, if anybody waits."""
        connection.freed = now
        if not self._waiting:
            self._free.append(connection)
            return
        job = self._waiting.popleft()
        self._start(connection, job.batch, job.done, job.started)

    def _keeps(self, connection: Connection, now: float) -> bool:
        """Whether a connection that was just answered may carry another request."""
        connection.served += 1
        if self._closed or connection.form is not self._form or len(self._open) > self._allowed:
            return False
        if connection.kept:
            self._unkept = 0
            connection.settled = True
            return True
        if now < self._unkept_until or (self._keep is not None and self._kept >= self._keep):
            return False
        connection.kept = True
        self._kept += 1
        return True

    # Opening

    def _open_more(self) -> None:
        """Opens connections for those who wait: a few at a time, more as it goes well."""
        if self._short_until and self._open and self._monotonic() < self._short_until:
            return
        wanted = min(len(self._waiting), self._opened_at_once, self._allowed - len(self._open))
        while len(self._opening) < wanted and not self._closed:
            task = asyncio.get_running_loop().create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_one(self) -> None:
        try:
            to, form = self._forms()
            self._use(form)
            plain = not to.tls and not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
            connection = (Connection if plain else BufferedConnection)(self, to, form)
            await self._dialler.dial(to, lambda: connection)
        except Exception as error:
            # The border of the task: whatever it is, who waits must be told.
            if isinstance(error, NoConnection):
                problem = error
            else:
                log.exception("a connection could not be opened")
                problem = NoConnection(Failure.CONNECT, f"an error in mailvane itself: {type(error).__name__}")
            self._opened_at_once = _OPENED_AT_ONCE
            self._problem = problem
            self._ended()
            if problem.ours and self._open:  # says nothing about the endpoint: who waits gets one that is open
                now = self._monotonic()
                if now >= self._short_until:
                    log.warning("%d connections, and no further one for now: %s", len(self._open), problem.text)
                    self._short_until = now + _SHORT_SECONDS
                return
            if self._waiting:
                self._fail(self._waiting.popleft(), problem)
            self._open_more()
            return
        self._opened_at_once = min(self._opened_at_once + 1, _MOST_OPENED_AT_ONCE)
        self._problem = None
        self._ended()
        self._open.add(connection)
        if connection.gone:
            self.discard(connection)
        else:
            self._free_or_busy(connection, self._monotonic())
        self._open_more()

    def _ended(self) -> None:
        """This opening is over (its task ends a little later)."""
        task = asyncio.current_task()
        if task is not None:
            self._opening.discard(task)

    def _use(self, form: RequestForm) -> None:
        if form is self._form:
            return
        self._form = form
        self._unsettle()
        for connection in list(self._free):
            self.discard(connection)

    def _unsettle(self) -> None:
        for connection in self._open:
            connection.settled = False

    def _fail(self, job: Job, problem: NoConnection) -> None:
        seconds = self._monotonic() - job.started
        job.done(job.batch, (Outcome(problem.failure, text=problem.text, seconds=seconds),))

    # The tick

    def _tick_on(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._tick()

    def _tick(self) -> None:
        """Ends what is overdue; moves the time in requests on; stops itself when there is nothing left to watch."""
        now = self._monotonic()
        if self._form is not None:
            self._form.at(int(self._wall()))
        for connection in list(self._open):
            if connection.batch is None:
                if now - connection.freed > self._limits.idle:
                    self.discard(connection)
            elif now - connection.started > self._limits.attempt:
                reader = connection.reader or self.reader()
                why = f"no whole answer within {self._limits.attempt:.3g} s"
                self.answered(connection, reader.cut(Failure.TIMEOUT, why))
        overdue = self._limits.connect + 2 * TICK_SECONDS
        while self._waiting and now - self._waiting[0].started > overdue:
            problem = self._problem or NoConnection(
                Failure.CONNECT, f"no connection became free within {self._limits.connect:.3g} s"
            )
            self._fail(self._waiting.popleft(), problem)
        if self._open or self._waiting or self._opening:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        else:
            self._ticking = False


def _outcome(verdict: Verdict, seconds: float) -> Outcome:
    return Outcome(verdict.failure, verdict.status, verdict.text, verdict.retry_after, seconds)
