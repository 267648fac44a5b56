"""Recording from a program: `record` returns when the event is on disk.

    with Recorder() as recorder:
        recorder.record(Event(event_type="engine_unsub", email="user@example.com", listid="a1"))

Whoever records at the same moment shares a commit. A recorder belongs to no process: it may be made before a server
forks its workers, each opens the queue for itself at its first event.
"""

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Lock
from types import TracebackType

from mailvane.configuration.places import places_for_recording
from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm
from mailvane.queue.writer import Answer, Appending, promised
from mailvane.recording.loop_session import LoopSession
from mailvane.recording.session import Session, forms, with_gaps, with_tokens


class Recorder:
    """Records events from a program with threads or none. `home` as for the command line: None for the usual place.

    Safe to use from many threads and in servers that fork. Raises HomeMissing and SettingsBroken when made.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self._where = places_for_recording(home)
        self._lock = Lock()
        self._session: Session | None = None
        _recorders.add(self)

    def record(self, event: Event) -> int | None:
        """Records one event and returns its id when it is on disk; None if its type is off.

        Raises EventRejected for an event that is not right, QueueUnavailable when it cannot be written: then it is not
        recorded, or, where the message says "unknown", may be.
        """
        session = self._open()
        if session.look_is_due:
            session.look_at_studio()
        form = session.intake.form_of(event)
        return None if form is None else (self._append(session, [form])[0] or None)

    def record_many(self, events: Iterable[Event], token: str = "") -> list[int | None]:
        """Records events, and returns their ids in the order given when all are on disk.

        Either none is wrong, or none is recorded. Of more than 1,000, an earlier part may be in when a later raises.
        Repeated with the same token within two minutes, nothing is recorded twice; 1 to 64 printable ASCII characters.
        """
        session = self._open()
        if session.look_is_due:
            session.look_at_studio()
        wanted = forms(session.intake, events)
        ids = [i for group, of in with_tokens(wanted, token) for i in self._append(session, group, of)]
        return with_gaps(wanted, ids)

    def _append(self, session: Session, group: list[StoredForm], token: str = "") -> list[int]:
        future: Future[Answer] = Future()
        session.writer.append(Appending(group, token, future.set_result))
        answer = future.result()
        if isinstance(answer, QueueUnavailable):
            raise answer
        return answer

    def _open(self) -> Session:
        session = self._session
        if session is not None:
            return session
        with self._lock:
            if self._session is None:
                self._session = Session(self._where, lambda call: call())
            return self._session

    def _begin_anew(self) -> None:
        """In a forked child: another thread of the parent may have had the lock, and the session is the parent's."""
        self._lock = Lock()
        self._session = None

    def close(self) -> None:
        """Waits until all that was handed in is on disk, and closes the queue."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.end()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncRecorder:
    """As Recorder, for asyncio: `async with AsyncRecorder() as recorder: await recorder.record(event)`.

    For one event loop at a time.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self._where = places_for_recording(home)
        self._session: Session | LoopSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[LoopSession] | None = None
        _recorders.add(self)

    async def record(self, event: Event) -> int | None:
        """See Recorder.record."""
        session = self._session
        if session is None or self._loop is not asyncio.get_running_loop():
            session = await self._open()
        if session.look_is_due:
            await self._look(session)
        form = session.intake.form_of(event)
        if form is None:
            return None
        return (await self._append(session, (form,)))[0] or None

    async def record_many(self, events: Iterable[Event], token: str = "") -> list[int | None]:
        """See Recorder.record_many."""
        session = await self._open()
        if session.look_is_due:
            await self._look(session)
        wanted = forms(session.intake, events)
        ids: list[int] = []
        for group, of in with_tokens(wanted, token):
            ids += await self._append(session, group, of)
        return with_gaps(wanted, ids)

    async def _look(self, session: Session | LoopSession) -> None:
        if isinstance(session, Session):  # it may have to wait for a commit
            await asyncio.to_thread(session.look_at_studio)

    def _append(
        self, session: Session | LoopSession, group: Sequence[StoredForm], token: str = ""
    ) -> asyncio.Future[list[int]]:
        if isinstance(session, LoopSession):
            return session.append(group, token)
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        session.writer.append(promised(group, token, future))
        return future

    async def _open(self) -> Session | LoopSession:
        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is not loop:  # an earlier loop that ended without closing us
            if isinstance(self._session, Session):
                self._session.end()
            self._session = None
        if self._session is not None:
            return self._session
        if (database := self._where.database) is None:  # a file: opened in a moment
            self._loop = loop
            self._session = Session(self._where, lambda call: _post(loop, call), loop.call_soon)
            return self._session
        if self._opening is None or self._loop is not loop:
            self._loop = loop
            self._opening = loop.create_task(self._open_database(database))
        return await asyncio.shield(self._opening)  # others wait for it, too

    async def _open_database(self, database: Callable[[], str]) -> LoopSession:
        """A server may be long in answering."""
        try:
            self._session = session = await LoopSession.open(self._where, database)
        finally:
            self._opening = None
        return session

    def _begin_anew(self) -> None:
        """In a forked child: the session is the parent's."""
        self._session = self._opening = None

    async def close(self) -> None:
        """Waits until all that was handed in is on disk, and closes the queue."""
        opening = self._opening if self._loop is asyncio.get_running_loop() else None
        if opening is not None:
            with contextlib.suppress(QueueUnavailable):
                await asyncio.shield(opening)
        session, self._session = self._session, None
        if isinstance(session, Session):
            await asyncio.to_thread(session.end)
        elif session is not None and self._loop is asyncio.get_running_loop():
            await session.end()

    async def __aenter__(self) -> "AsyncRecorder":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


def _post(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
        loop.call_soon_threadsafe(call)


_recorders: "weakref.WeakSet[Recorder | AsyncRecorder]" = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    for recorder in list(_recorders):
        recorder._begin_anew()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_begin_anew_in_child)
