"""The connections of one endpoint: kept, used again last in first out, watched by one tick.

This is the hot path. What happens in one turn of the event loop is dealt with at its end, together: answers are told,
what follows on them takes the connections that they came on, and all requests go out. Sent one by one, each would have
to wake the endpoint, and each answer the lane, which costs as much as all the rest of it. Deadlines cost nothing until
the tick looks at what is in flight, every 100 ms. What is given to `submit` is answered exactly once.
"""

import asyncio
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
from mailvane.destinations.openings import Openings

TICK_SECONDS = 0.1
_READ_BYTES = 16 * 1024
_KNOWN_ANSWERS = 256
_KNOWN_ANSWER_BYTES = 1024
_FRESH_SECONDS = 0.002
"""A connection that was free for longer is asked whether the other side has closed it."""
_UNKEPT_LIMIT = 3
_UNKEPT_SECONDS = 60.0
"""An endpoint that closed that many connections unannounced before a second answer gets one request on each for so
long."""


class Job(msgspec.Struct, frozen=True, gc=False):
    """An event that waits for a connection since `started` (monotonic)."""

    event: Outgoing
    done: Done
    started: float


class Connections:
    """The connections of one endpoint, and the events that wait for one.

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
        self._answered: list[Connection] = []
        self._outbox: list[Connection] = []
        self._openings = Openings(self._make, dialler, clock, self._opened, self._not_opened)
        self._unkept = 0
        self._unkept_until = 0.0
        self._ticking = False
        self._closed = False
        self._now = 0.0
        """The time while answers are told, so that what they lead to need not ask again; else 0."""

    def submit(self, batch: Sequence[Outgoing], done: Done) -> None:
        """Sends each event of a batch on a free connection, or as soon as there is one."""
        now = self._now or self._monotonic()
        free, fresh = self._free, now - _FRESH_SECONDS
        for event in batch:
            connection = free.pop() if free and free[-1].freed >= fresh else self._take_free(now)
            if connection is not None:
                self._start(connection, event, done, now)
            elif self._closed:
                closed = Outcome(Failure.CLOSED, text="the destination is closed")
                asyncio.get_running_loop().call_soon(done, (event,), (closed,))
            else:
                self._waiting.append(Job(event, done, now))
        if self._waiting:
            self._tick_on()
            self._open_more()

    def _take_free(self, now: float) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if now - connection.freed <= _FRESH_SECONDS or not connection.stale():
                return connection
            self.discard(connection)
        return None

    def _start(self, connection: Connection, event: Outgoing, done: Done, started: float) -> None:
        """Puts a request on a connection; it goes out at the end of the turn."""
        connection.event = event
        connection.done = done
        connection.started = started
        connection.queued = True
        if not self._outbox and not self._now:
            asyncio.get_running_loop().call_soon(self._send)
        self._outbox.append(connection)

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, []
        for connection in outbox:
            if connection.queued and connection.event is not None:
                connection.queued = False
                connection.expects = True
                try:
                    connection.write(connection.request(connection.event))
                except RuntimeError:  # uvloop's word for a connection that broke, before it tells by connection_lost
                    self._again(connection)

    def _again(self, connection: Connection) -> None:
        """Nothing of the request has gone out, so another connection may take it."""
        event, connection.event, connection.queued, connection.expects = connection.event, None, False, False
        if event is not None:
            self._waiting.appendleft(Job(event, connection.done, connection.started))
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
        waiting = list(self._waiting)
        self._waiting.clear()
        now = self._monotonic()
        verdict = Verdict(Failure.CLOSED, 0, "the destination was closed before an answer came")
        for connection in list(self._open):
            if connection.event is None:
                self.discard(connection)
            else:
                self.answered(connection, verdict)
        self._tell()
        for job in waiting:
            job.done((job.event,), (Outcome(verdict.failure, text=verdict.text, seconds=now - job.started),))
        await self._openings.close()

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
        """See Pool."""
        if connection.event is None or connection.verdict is not None:
            return
        connection.verdict = verdict
        connection.queued = connection.expects = False
        if not self._answered:
            asyncio.get_running_loop().call_soon(self._tell)
        self._answered.append(connection)

    def _tell(self) -> None:
        """Frees the connections that were answered in this turn, gives them to who waits, and tells the outcomes: in
        this order, so that what the callback sends finds them. Then all that is to go out goes."""
        answered, self._answered = self._answered, []
        now = self._monotonic()
        told: dict[Done, tuple[list[Outgoing], list[Outcome]]] = {}
        done, events, outcomes = None, list[Outgoing](), list[Outcome]()
        for connection in answered:
            event, verdict = connection.event, connection.verdict
            if event is None or verdict is None:
                continue
            connection.event = connection.reader = connection.verdict = None
            seconds = now - connection.started
            if (
                verdict.reusable
                and not connection.gone
                and not connection.unsent()
                and (connection.settled or self._keeps(connection, now))
            ):
                connection.freed = now
                self._free.append(connection)
            else:
                self.discard(connection)
            text = verdict.text if verdict.failure is None else connection.to.mask(verdict.text)
            if connection.done is not done:
                done = connection.done
                events, outcomes = told.setdefault(done, ([], []))
            events.append(event)
            outcomes.append(Outcome(verdict.failure, verdict.status, text, verdict.retry_after, seconds))
        self._now = now
        try:
            self._serve_who_waits(now)
            for done, (events, outcomes) in told.items():
                done(events, outcomes)
        finally:
            self._now = 0.0
            self._send()

    def _serve_who_waits(self, now: float) -> None:
        while self._waiting and (connection := self._take_free(now)) is not None:
            job = self._waiting.popleft()
            self._start(connection, job.event, job.done, job.started)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """See Pool."""
        if connection.verdict is not None:
            return
        if connection.queued:
            self._again(connection)
            return
        why = f"the connection was lost before the answer was whole{f' ({error})' if error else ''}"
        self.answered(connection, self._reader_at_end(connection).cut(Failure.RESET, why))

    def ended(self, connection: Connection) -> None:
        """See Pool."""
        if connection.queued:
            self._again(connection)
        elif connection.verdict is None:
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
        if not self._closed:
            self._openings.want(min(len(self._waiting), self._allowed - len(self._open)), bool(self._open))

    def _make(self) -> tuple[Endpoint, Connection]:
        to, form = self._forms()
        if form is not self._form:
            self._form = form
            self._unsettle()
            for connection in list(self._free):
                self.discard(connection)
        plain = not to.tls and not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
        return to, (Connection if plain else BufferedConnection)(self, to, form)

    def _opened(self, connection: Connection) -> None:
        self._open.add(connection)
        if connection.gone:
            self.discard(connection)
        else:
            connection.freed = now = self._monotonic()
            self._free.append(connection)
            self._serve_who_waits(now)
        self._open_more()

    def _not_opened(self, problem: NoConnection) -> None:
        if problem.ours and self._open:  # says nothing about the endpoint: who waits gets one that is open
            self._openings.rest(len(self._open), problem)
            return
        if self._waiting:
            self._fail(self._waiting.popleft(), problem)
        self._open_more()

    def _unsettle(self) -> None:
        for connection in self._open:
            connection.settled = False

    def _fail(self, job: Job, problem: NoConnection) -> None:
        seconds = self._monotonic() - job.started
        job.done((job.event,), (Outcome(problem.failure, text=problem.text, seconds=seconds),))

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
            if connection.event is None:
                if now - connection.freed > self._limits.idle:
                    self.discard(connection)
            elif now - connection.started > self._limits.attempt:
                reader = connection.reader or self.reader()
                why = f"no whole answer within {self._limits.attempt:.3g} s"
                self.answered(connection, reader.cut(Failure.TIMEOUT, why))
        overdue = self._limits.connect + 2 * TICK_SECONDS
        while self._waiting and now - self._waiting[0].started > overdue:
            problem = self._openings.problem or NoConnection(
                Failure.CONNECT, f"no connection became free within {self._limits.connect:.3g} s"
            )
            self._fail(self._waiting.popleft(), problem)
        if self._open or self._waiting or len(self._openings):
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        else:
            self._ticking = False
