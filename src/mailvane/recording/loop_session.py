"""What an event loop needs to record into PostgreSQL. The driver lives in the loop itself: a thread between the two
would cost more than everything else."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from mailvane.clock import SystemClock
from mailvane.errors import QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.recording.intake import Intake
from mailvane.recording.session import COMMAND, Where, known
from mailvane.recording.switches import Switches


class LoopSession:
    """As Session, in one event loop. Made by `open`."""

    intake: Intake
    append: Callable[[Sequence[StoredForm], str], asyncio.Future[list[int]]]
    """The ids of the events, when they are on disk; "" is no token. See Queue.append."""
    look_is_due = False
    """As Session's: a task looks at Studio's switches."""

    def __init__(self, where: Where, database: Callable[[], str]) -> None:
        # Only now: the driver takes longer to load than most commands take.
        from mailvane.queue.postgresql import record_in_postgresql

        self._where = where
        self._commits = known(lambda: record_in_postgresql(database(), COMMAND, self._judge))
        self.append = self._commits.appending
        self._keeping: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, where: Where, database: Callable[[], str]) -> "LoopSession":
        """Asks the queue for the switches that it keeps. Raises QueueUnavailable."""
        session = cls(where, database)
        try:
            switches = Switches(where.control_directory, await session._commits.kept("switches"))
            switches.studio.take(await session._commits.studio_rows())
        except BaseException:
            await session.end()
            raise
        session.intake = Intake(switches, where.server_id, SystemClock(), session._keep)
        following = session.intake.follow_studio(session._commits.studio_rows)
        session._following = asyncio.get_running_loop().create_task(following)
        return session

    def _judge(self, event: bytes) -> StoredForm | None:
        """Of what people recorded inside their own transactions. Raises EventRejected, QueueUnavailable."""
        return self.intake.form_in(event)

    def _keep(self, state: str) -> None:
        async def keep() -> None:
            # Where nobody can keep them now, the next change or the next process will.
            with contextlib.suppress(QueueUnavailable):
                await self._commits.keep("switches", state)

        task = asyncio.get_running_loop().create_task(keep())
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def end(self) -> None:
        """Waits until all that was handed in is on disk, and closes the queue."""
        if self._following is not None:
            self._following.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping)
        await self._commits.close()
