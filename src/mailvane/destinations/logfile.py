"""Events appended to a file, one JSON object a line: the legacy object, as it is POSTed.

A line is on disk before its event counts as delivered: a crash may repeat a line, with the same id, and loses none.
What several batches bring while the disk is busy is written and synced together. The disk is a thread's business: a
file that hangs holds up nobody but those who wait for it.

No line has a line's end inside: JSON escapes the control characters, and the three characters beyond ASCII that some
readers take for one (U+0085, U+2028, U+2029) are escaped here.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from mailvane.clock import Clock
from mailvane.destinations import logfile_rotation as rotation
from mailvane.destinations.contract import Done, Failure, LogFile, Outcome, Outgoing
from mailvane.destinations.logfile_file import AppendedFile, CannotWrite
from mailvane.destinations.texts import clean
from mailvane.errors import MailvaneError
from mailvane.events.codecs import LEGACY_JSON

GROUP_EVENTS = 2_000
GROUP_BYTES = 4 * 1024 * 1024
"""What is written and synced at once, about: a batch is never torn apart."""
CLOSE_GRACE = 1.0
"""Seconds that `close` waits for what is being written."""
_HEAD, _MIDDLE, _END = f"{LEGACY_JSON.decode()}\n".split("%b")
_LINE_ENDS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}

CLOSED = "the log file was closed"
Answered = Callable[[str], None]
"""Told "" when the lines are on disk, else why they are not."""

log = logging.getLogger("mailvane.processor")


def lines_of(batch: Sequence[Outgoing]) -> bytes:
    """The lines of these events."""
    text = "".join([piece for event in batch for piece in (_HEAD, str(event.id), _MIDDLE, event.body, _END)])
    if not text.isascii():
        for char, escape in _LINE_ENDS.items():
            text = text.replace(char, escape)
    return text.encode()


class LogFileDestination:
    """One log file. `reveal` turns a reference (`@file:`, `@env:`), which the filename may be, into what it stands for,
    and leaves everything else alone; it raises MailvaneError."""

    batch_limit = 1_000

    def __init__(self, spec: LogFile, *, clock: Clock, reveal: Callable[[str], str]) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[Sequence[Outgoing], Answered]] = []
        self._under_way: list[tuple[Sequence[Outgoing], Answered]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._begins = False
        self._closed = False
        self._disk = _Disk(spec, clock, reveal)

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        """See Destination."""
        begun = self._clock.monotonic()

        def answered(why: str) -> None:
            failure = None if not why else Failure.CLOSED if why == CLOSED else Failure.UNWRITABLE
            outcome = Outcome(failure, text=clean(why), seconds=self._clock.monotonic() - begun)
            done(batch, [outcome] * len(batch))

        self.append(batch, answered)

    def append(self, batch: Sequence[Outgoing], answered: Answered) -> None:
        """Writes a batch, whole or not at all; of an empty one nothing but that the file can be written."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._closed:
            self._loop.call_soon(answered, CLOSED)
            return
        self._waiting.append((batch, answered))
        if not self._under_way and not self._begins:
            self._begins = True
            self._loop.call_soon(self._begin)  # with what else comes in this turn of the loop

    def _begin(self) -> None:
        self._begins = False
        if self._under_way or not self._waiting:
            return
        events = size = taken = 0
        for batch, _ in self._waiting:
            if events >= GROUP_EVENTS or size >= GROUP_BYTES:
                break
            taken += 1
            events += len(batch)
            size += sum([len(event.body) for event in batch])
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._under_way = group
        self._idle.clear()
        lines = lines_of([event for batch, _ in group for event in batch])
        self._disk.do(lambda: self._write(lines))

    def _write(self, lines: bytes) -> None:
        """In the disk's thread."""
        try:
            self._disk.append(lines)
            why = ""
        except MailvaneError as e:
            why = str(e)
        except Exception as e:  # a defect of ours must reach who waits, not end the thread
            log.exception("a log file could not be written")
            why = f"the log file could not be written: {e!r}"
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._written, why)

    def _written(self, why: str) -> None:
        group, self._under_way = self._under_way, []
        self._begin()  # the disk works while the answers are worked on
        if not self._under_way:
            self._idle.set()
        for _, answered in group:
            answered(why)

    def reopen(self) -> None:
        """Lets go of the file: what stands at its path is opened for the next line (for log rotation by others)."""
        if not self._closed:
            self._disk.do(self._disk.let_go)

    def allow(self, concurrency: int) -> None:
        """See Destination. There is one file, whatever may be outstanding."""

    async def close(self) -> None:
        """See Destination; what is being written has a moment to get to the disk, so that it need not come again."""
        self._closed = True
        waiting, self._waiting = self._waiting, []
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_GRACE):
                    await self._idle.wait()
        self._disk.end()
        left, self._under_way = self._under_way, []
        for _, answered in [*left, *waiting]:
            answered(CLOSED)


class _Disk:
    """The file and its rotation, in a thread of their own that ends with the process if it must."""

    def __init__(self, spec: LogFile, clock: Clock, reveal: Callable[[str], str]) -> None:
        self._spec = spec
        self._clock = clock
        self._reveal = reveal
        self._file: AppendedFile | None = None
        self._last = 0.0
        self._rotation_failed = ""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._tidying: threading.Thread | None = None

    def do(self, job: Callable[[], None]) -> None:
        """Does it in the thread, after what was asked for before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mailvane-logfile", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def end(self) -> None:
        """Ends the thread when it has done all that it was asked for."""
        if self._thread is not None:
            self.do(self.let_go)
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    # In the thread.

    def append(self, lines: bytes) -> None:
        """Raises MailvaneError."""
        file = self._current()
        file.ready()
        now = self._clock.wall()
        # What stood there before this process wrote to it is as old as the file says.
        if rotation.due(self._spec, file.size, len(lines), max(self._last, file.written), now):
            self._rotate(file, now)
        if lines:
            file.append(lines)
            self._last = now

    def let_go(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # everything in it is on disk
                self._file.close()

    def _current(self) -> AppendedFile:
        path = self._reveal(self._spec.filename)
        if self._file is None or self._file.path != path:
            if not os.path.isabs(path):
                raise CannotWrite(f"the log file's name {self._spec.filename} leads to no absolute path")
            self.let_go()
            self._file = AppendedFile(path)
            self._last = 0.0
            self._tidy()
        return self._file

    def _rotate(self, file: AppendedFile, now: float) -> None:
        try:
            rotation.rotate(file.path, now)
        except OSError as e:
            # A file that grows is better than events that wait.
            if self._rotation_failed != (why := e.strerror or str(e)):
                log.error("%s cannot be rotated, it grows on: %s; see who may write in its folder", file.path, why)
            self._rotation_failed = why
            return
        self._rotation_failed = ""
        self._last = 0.0
        file.ready()
        self._tidy()

    def _tidy(self) -> None:
        """Compressing takes long: lines do not wait for it."""
        if self._file is None or (self._tidying is not None and self._tidying.is_alive()):
            return
        if not (self._spec.rotate_bytes or self._spec.rotate_daily):
            return
        self._tidying = threading.Thread(
            target=_tidy, args=(self._file.path, self._spec), name="mailvane-logfile-tidy", daemon=True
        )
        self._tidying.start()


def _tidy(path: str, spec: LogFile) -> None:
    try:
        rotation.tidy(path, spec)
    except OSError as e:
        log.error("the older files of %s could not be put in order, they stay as they are: %s", path, e.strerror or e)
