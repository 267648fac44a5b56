"""Recording from a program without an event loop: what the thread of its Writer (mailvane.queue.writer) writes to."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from mailvane.errors import QueueUnavailable
from mailvane.queue.forking import ClosedBeforeForks
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.appending import PATIENCE, Appender, Judge
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.line import Line
from mailvane.queue.postgresql.recording import recording_line
from mailvane.queue.writer import Answer, Group

T = TypeVar("T")

FIRST_PATIENCE = 2.0
"""Seconds for which a server that was away from the beginning is waited for: whoever calls a command waits, too."""
FIRST_ANSWER = 4
"""Seconds for which one that says nothing is."""

_forks = ClosedBeforeForks()


class PostgreSQLStore:
    """What the writing thread of a program writes to (mailvane.queue.writer.Store), and what the program keeps.

    The session is closed before a fork and opened again when it is needed: parent and child must not share it.
    """

    def __init__(self, address: Address, command: str, judge: Judge | None = None) -> None:
        self._address = address
        self._command = command
        self._judge = judge
        self._runner: asyncio.Runner | None = None
        self._line: Line | None = None
        self._appender: Appender | None = None
        _forks.add(self)

    def append(self, groups: Sequence[Group]) -> Sequence[Answer]:
        """As Appender.append, and moves what is in the inbox."""

        async def work(appender: Appender) -> list[Answer]:
            assert self._line is not None
            answers = await appender.append(groups, self._patience(self._line))
            with contextlib.suppress(QueueUnavailable):  # these are in
                await appender.move_inbox()
            return answers

        return self._do(work)

    def kept(self, name: str) -> str | None:
        """See Queue.kept. Raises QueueUnavailable."""
        return self._do(lambda _: self._with_line(lambda connection: connection.fetchval(SQL["kept"], name)))

    def keep(self, name: str, value: str) -> None:
        """See Queue.keep."""
        self._do(lambda _: self._with_line(lambda connection: connection.execute(SQL["keep"], name, value)))

    def studio_rows(self) -> str:
        """See Queue.studio_rows. Raises QueueUnavailable."""
        return str(self._do(lambda _: self._with_line(lambda connection: connection.fetchval(SQL["studio_rows"]))))

    def idle(self) -> None:
        """A session that is not used costs nobody anything."""

    def close(self) -> None:
        with _forks.in_use:
            self.close_connection()

    def _with_line(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        assert self._line is not None
        return self._line.run(work, self._patience(self._line))

    @staticmethod
    def _patience(line: Line) -> float:
        """A restart is waited for; a server that has been away for long, or all the time, is not."""
        return max(0.0, (PATIENCE if line.was_up else FIRST_PATIENCE) - line.down_for)

    def _do(self, work: Callable[[Appender], Coroutine[Any, Any, T]]) -> T:
        with _forks.in_use:
            if self._runner is None or self._appender is None:
                self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
                self._line, self._appender = self._runner.run(self._open())
            return self._runner.run(work(self._appender))

    async def _open(self) -> tuple[Line, Appender]:
        line = recording_line(self._address, self._command)
        line.first_answer = FIRST_ANSWER
        return line, Appender(line, self._judge)

    def close_connection(self) -> None:
        """It is opened again when it is needed. In a thread of its own: who forks may be in an event loop."""
        runner, line = self._runner, self._line
        self._runner = self._line = self._appender = None
        if runner is None:
            return

        def end() -> None:
            with runner:
                if line is not None:
                    runner.run(line.close())

        ending = threading.Thread(target=end, name="mailvane-closes-session")
        ending.start()
        ending.join()
