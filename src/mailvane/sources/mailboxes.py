"""Mail is taken from Maildirs as long as the process runs: read, understood, recorded, and only then removed.

    lies in new ──► read ──► events on disk ──► removed
                     │            │
                     │            └ the queue is away: it stays, and is tried again
                     └ not to be understood, or refused: moved to .CouldNotProcess

Recording and removing cannot be one step: where the process dies between the two, the mail is taken once more. Its
token makes that harmless for as long as the queue remembers tokens (two minutes); after that its events come twice. At
least once, then, and one mail at a time.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailvane.clock import Clock
from mailvane.errors import MailvaneError, QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.sources.mail import MailMeaning, events_of
from mailvane.sources.maildir import ASIDE, Letter, NewMail, NoMail

LOOK_EVERY = 1.0
"""Seconds between two looks at a folder that has nothing new."""
AGAIN_AFTER = 60.0
"""Seconds after which something that could not be dealt with is looked at again."""
TURN = 500
"""Mails that are taken from a folder before the next folder has its turn."""
QUEUE_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds that nothing is taken while the queue is away: after the first failure, the second …"""
REST_BEYOND = 0.02
"""Seconds: a mail that takes longer to understand is followed by a rest as long, for what else this process does."""

SET_ASIDE = "could_not_process"
"""What a mail is counted as, beside its kinds, that was moved to `.CouldNotProcess`."""

Record = Callable[[Sequence[Event], str], Awaitable[int]]
"""Records the events of a mail with its token, and gives how many of their types are on, when all is on disk."""

log = logging.getLogger("mailvane")


@dataclass
class _Box:
    """A Maildir, and what is known of it."""

    path: Path
    trouble: str = ""
    """Why nothing can be taken from it."""
    again: float = 0.0
    """When it is looked at again (monotonic)."""
    left: dict[str, "_Left"] = field(default_factory=dict[str, "_Left"])
    recorded: dict[str, str] = field(default_factory=dict[str, str])
    """Tokens of mails whose events are on disk and which could not be removed, by name."""


@dataclass
class _Left:
    """Something in `new` that cannot be dealt with: why, and when it is looked at again."""

    why: str
    again: float


class MailTaker:
    """Takes mail from `maildirs`. `counted` is called with the kind of each mail that was taken, or SET_ASIDE.

    For one event loop: `run` in a task, then `stop`.
    """

    def __init__(
        self,
        maildirs: Sequence[Path],
        record: Record,
        bounce_text_length: int,
        clock: Clock,
        counted: Callable[[str], None],
    ) -> None:
        self._boxes = [_Box(path) for path in maildirs]
        self._record = record
        self._text_length = bounce_text_length
        self._clock = clock
        self._counted = counted
        self._stopping = asyncio.Event()
        self._queue_failed = 0
        self._queue_trouble = ""
        self._task: asyncio.Task[None] | None = None
        self._tally: Counter[str] = Counter()

    @property
    def problems(self) -> list[str]:
        """What is wrong now, for people."""
        return [box.trouble for box in self._boxes if box.trouble]

    def summary(self) -> str:
        """What was taken since this was last asked; "" for nothing."""
        tally, self._tally = self._tally, Counter()
        return ", ".join(f"{kind} {count}" for kind, count in sorted(tally.items()))

    async def run(self) -> None:
        """Returns after `stop`."""
        self._task = asyncio.current_task()
        while not self._stopping.is_set():
            more = False
            try:
                for box in self._boxes:
                    if box.again <= self._clock.monotonic():
                        more |= await self._turn(box)
            except QueueUnavailable as e:
                await self._wait_for_queue(e)
            except Exception:  # the border: a defect of ours must not end it for good
                log.exception("taking mail failed unexpectedly, and goes on")
                await self._pause(QUEUE_WAITS[-1])
            else:
                if not more:
                    await self._pause(LOOK_EVERY)

    async def stop(self, grace: float) -> None:
        """Lets the mail in hand be done with for `grace` seconds; it stays where it is if that is not enough."""
        self._stopping.set()
        if self._task is not None and not self._task.done():
            _, unfinished = await asyncio.wait([self._task], timeout=grace)
            for task in unfinished:
                task.cancel()

    # Folders

    async def _turn(self, box: _Box) -> bool:
        """Takes the oldest mails of a folder; whether there may be more. Raises QueueUnavailable."""
        try:
            with NewMail(box.path) as new:
                if not new.can_be_emptied:
                    raise PermissionError(f"user {os.geteuid()} may not remove mails from {box.path}/new")
                now = self._clock.monotonic()
                waiting = {name for name, left in box.left.items() if left.again > now}
                # Beside the event loop: the folder may have a million entries, or be on another machine.
                listing = await asyncio.to_thread(new.oldest, TURN, waiting)
                for name in waiting - listing.left:
                    del box.left[name]
                    box.recorded.pop(name, None)
                self._well(box)
                for name in listing.oldest:
                    if self._stopping.is_set():
                        return False
                    await self._take(box, new, name)
                return len(listing.oldest) == TURN
        except QueueUnavailable:
            raise
        except (OSError, RuntimeError) as e:  # RuntimeError: no thread is to be had now
            self._troubled(box, e)
            return False

    def _well(self, box: _Box) -> None:
        if box.trouble:
            log.info("mail is taken from %s again", box.path)
        box.trouble = ""

    def _troubled(self, box: _Box, error: Exception) -> None:
        why = str(error)
        if isinstance(error, OSError) and error.strerror:
            why = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
        trouble = f"no mail is taken from {box.path}: {why}; what is there stays, and is looked at again"
        if trouble != box.trouble:
            log.error("%s", trouble)
        box.trouble = trouble
        box.again = self._clock.monotonic() + QUEUE_WAITS[-1]

    # Mails

    async def _take(self, box: _Box, new: NewMail, name: str) -> None:
        """Deals with one mail, whatever it is. Raises QueueUnavailable, and then it is as it was."""
        try:
            letter = new.read(name)
        except FileNotFoundError:
            return  # somebody else took it
        except NoMail as e:
            return self._leave(box, name, f"it is {e}, and nothing is done with it")
        except OSError as e:
            # Of a mail that may be quite right: rights can be given, and what failed may pass.
            return self._leave(box, name, f"it cannot be read ({e.strerror}); is it for user {os.geteuid()} to read?")
        if box.recorded.get(name) != letter.token:
            began = self._clock.monotonic()
            try:
                meaning = events_of(letter.raw, None, self._text_length, int(self._clock.wall()))
                took = self._clock.monotonic() - began
                await self._record_all(meaning, letter)
            except QueueUnavailable:
                raise
            except MemoryError:
                return self._leave(box, name, "there is no memory for it")
            except Exception as e:  # the border: no mail may keep others from being taken
                return self._set_aside(box, new, name, str(e) if isinstance(e, MailvaneError) else repr(e))
            await asyncio.sleep(took if took > REST_BEYOND else 0)
            if meaning.kind in {"bounce", "complaint", "unsubscribe"} and not meaning.events:
                # It was meant for us: somebody may find out more than we did.
                return self._set_aside(box, new, name, f"{meaning.kind}: {meaning.reason}")
            self._count(meaning.kind)
            if not meaning.events:
                log.info("%s: removed, for it means nothing: %s: %s", _shown(box, name), meaning.kind, meaning.reason)
            box.recorded[name] = letter.token
        try:
            new.remove(name)
        except OSError as e:
            return self._leave(box, name, f"its events are recorded, but it cannot be removed: {e.strerror}; remove it")
        box.recorded.pop(name, None)
        box.left.pop(name, None)

    async def _record_all(self, meaning: MailMeaning, letter: Letter) -> None:
        if not meaning.events:
            return
        await self._record(meaning.events, letter.token)
        if self._queue_failed:
            log.info("mails are recorded again")
        self._queue_failed, self._queue_trouble = 0, ""

    def _count(self, kind: str) -> None:
        self._tally[kind] += 1
        self._counted(kind)

    def _set_aside(self, box: _Box, new: NewMail, name: str, why: str) -> None:
        try:
            new.set_aside(name)
        except OSError as e:
            return self._leave(box, name, f"it could not be processed ({why}), nor moved to {ASIDE}: {e.strerror}")
        box.left.pop(name, None)
        self._count(SET_ASIDE)
        log.warning("%s: could not be processed, and was moved to %s: %s", _shown(box, name), ASIDE, why)

    def _leave(self, box: _Box, name: str, why: str) -> None:
        before = box.left.get(name)
        if before is None or before.why != why:
            log.warning("%s: left alone: %s", _shown(box, name), why)
        box.left[name] = _Left(why, self._clock.monotonic() + AGAIN_AFTER)

    # Waiting

    async def _wait_for_queue(self, error: QueueUnavailable) -> None:
        wait = QUEUE_WAITS[min(self._queue_failed, len(QUEUE_WAITS) - 1)]
        self._queue_failed += 1
        if str(error) != self._queue_trouble:
            log.error("mails stay where they are until the queue takes events again: %s", error)
        self._queue_trouble = str(error)
        await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _shown(box: _Box, name: str) -> str:
    return str(box.path / "new" / name)
