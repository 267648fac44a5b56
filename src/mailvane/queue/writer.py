"""One writer a process: gathers what all producers hand in while the disk is busy, and commits it together.

Each producer waits for its own commit. Whatever else writes (settling, keeping, deleting) takes its turn in the same
thread, so that the connection is never used by two.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import msgspec

from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm

GROUP_EVENTS = 4_096
GROUP_BYTES = 4 * 1024 * 1024
HALVED = 32
"""Producers that come together from which on two halves of them take turns."""
LINGER = 0.002
"""Seconds after a commit for which the store is not told that nothing follows."""

log = logging.getLogger("mailvane.queue")

Group = tuple[Sequence[StoredForm], str]
Answer = list[int] | QueueUnavailable


class Store(Protocol):
    """What the writer writes to."""

    def append(self, groups: Sequence[Group]) -> Sequence[Answer]: ...

    def idle(self) -> None:
        """Nothing follows for now."""
        ...


class Appending(msgspec.Struct, eq=False):
    """Events that a producer handed in; `answered` is called once, with ids or what went wrong."""

    events: Sequence[StoredForm]
    token: str
    answered: Callable[[Answer], None]


Answered = Sequence[tuple[Appending, Answer]]


def promised(events: Sequence[StoredForm], token: str, future: asyncio.Future[list[int]]) -> Appending:
    """Events whose answer goes to a future; to none that was given up meanwhile."""

    def answered(answer: Answer) -> None:
        if future.done():
            return
        if isinstance(answer, QueueUnavailable):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    return Appending(events, token, answered)


def next_group(waiting: deque[Appending], waited: bool) -> list[Appending]:
    """Takes out what the next commit has.

    `waited`: the disk had nothing to do while all of them made up their minds. From now on it has one half of them
    while the other half does.
    """
    taken: list[Appending] = []
    count = size = 0
    most = len(waiting) // 2 if waited and len(waiting) >= HALVED else len(waiting)
    while len(taken) < most and count < GROUP_EVENTS and size < GROUP_BYTES:
        one = waiting.popleft()
        taken.append(one)
        count += len(one.events)
        for event in one.events:
            size += len(event.body)
    return taken


class Writer:
    """The writing thread. `post` carries a call to where the producers live; `committed` is called there per commit.

    `soon` is given where the producers live in an event loop: it calls something at the end of the loop's turn. What
    they hand in during one turn then comes to the writer at once: woken by the first of them it would fight the others
    for Python's lock, at each step of the database anew.
    """

    def __init__(
        self,
        store: Store,
        post: Callable[[Callable[[], None]], object],
        committed: Callable[[Answered], None] | None = None,
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._soon = soon
        self._turn: list[Appending] = []
        self._store = store
        self._post = post
        self._committed = committed
        self._appends: deque[Appending] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = True
        self._waited = False
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="mailvane-writer", daemon=True)
        self._thread.start()

    def append(self, appending: Appending) -> None:
        """Hands events in; from any thread, or from the loop's where there is one."""
        if self._soon is None or self._ended:
            self._come(appending)
            return
        self._turn.append(appending)
        if len(self._turn) == 1:
            self._soon(self._end_turn)

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        if turn:
            self._come(*turn)

    def _come(self, *appendings: Appending) -> None:
        self._appends.extend(appendings)
        self._ring()
        if self._ended and not self._thread.is_alive():
            self._refuse_late_ones()

    def order(self, order: Callable[[], None]) -> None:
        """Hands in anything else that writes; what it raises is only logged."""
        self._orders.append(order)
        self._ring()

    def end(self) -> None:
        """Ends the thread when everything handed in is done, and waits for that."""
        self._end_turn()
        self._ended = True
        self._bell.put(None)
        self._thread.join()
        self._end_turn()
        self._refuse_late_ones()

    def _refuse_late_ones(self) -> None:
        """Nobody waits for ever on a writer that has ended; whoever comes late sees to what is left."""
        with contextlib.suppress(IndexError):
            while True:
                self._appends.popleft().answered(QueueUnavailable("the recorder was closed; nothing was recorded"))

    def _ring(self) -> None:
        if self._asleep:  # who rings twice does no harm
            self._asleep = False
            self._bell.put(None)

    def _work(self) -> None:
        while True:
            self._asleep = True
            if not self._appends and not self._orders:
                if self._ended:
                    return
                self._wait()
            self._asleep = False
            while self._appends or self._orders:
                if self._appends:
                    self._commit(self._take())
                if self._orders:
                    self._do(self._orders.popleft())

    def _wait(self) -> None:
        """What producers hand in when they have their answer comes at once; after that the store may rest."""
        self._waited = True
        try:
            self._bell.get(timeout=LINGER)
        except Empty:
            self._do(self._store.idle)
            self._bell.get()

    @staticmethod
    def _do(order: Callable[[], None]) -> None:
        try:
            order()
        except Exception:  # a defect of ours must not end the thread that all producers wait for
            log.exception("an order to the queue failed")

    def _take(self) -> list[Appending]:
        waited, self._waited = self._waited, False
        return next_group(self._appends, waited)

    def _commit(self, taken: list[Appending]) -> None:
        answers: Sequence[Answer]
        try:
            answers = self._store.append([(one.events, one.token) for one in taken])
        except QueueUnavailable as e:
            answers = [e] * len(taken)
        except Exception as e:  # a defect of ours must not leave producers waiting for ever
            log.exception("events could not be written")
            answers = [QueueUnavailable(f"the queue could not be written: {e!r}")] * len(taken)
        answered = list(zip(taken, answers, strict=True))
        self._post(lambda: self._answer(answered))

    def _answer(self, answered: Answered) -> None:
        for appending, answer in answered:
            appending.answered(answer)
        if self._committed is not None:
            self._committed(answered)
