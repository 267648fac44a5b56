"""`mailvane record`: events as JSON go into the queue, a thousand a commit; bad ones are told by number."""

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from select import select

from mailvane.cli.catalogue_help import types_and_fields
from mailvane.cli.output import count, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.record_input import LINE_LIMIT, Broken, Input, Piece
from mailvane.configuration.places import places_for_recording
from mailvane.errors import EventRejected, MailvaneError, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.contract import APPEND_LIMIT
from mailvane.queue.writer import Answer, Appending
from mailvane.recording.session import Session, groups

ON_THEIR_WAY = 8
"""Groups that are handed in before the first is waited for: the next is parsed while the disk is busy."""
LOOK_EVERY = 0.02
"""Seconds between two looks at what was handed in, while there is nothing to read."""


@dataclass
class _Totals:
    recorded: int = 0
    disabled: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class _Group:
    """Events that were handed in together, and where they stood."""

    first: int
    last: int
    size: int
    answer: "Future[Answer]"


class NotRecorded(MailvaneError):
    """The queue could not be written; the text says which lines are not in it."""


@dataclass
class _Recording:
    """One input on its way into the queue."""

    session: Session
    totals: _Totals
    prefix: str
    unit: str = "line"
    _forms: list[StoredForm] = field(default_factory=list[StoredForm])
    _numbers: list[int] = field(default_factory=list[int])
    _waiting: deque[_Group] = field(default_factory=deque[_Group])
    _failed: QueueUnavailable | None = None
    _lost: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def take(self, source: Input) -> None:
        """Records all of it. Raises NotRecorded when the queue cannot be written."""
        number = 0
        for piece in source.pieces():
            self.unit = source.unit
            if isinstance(piece, Broken):
                self._reject(piece.reason)
                continue
            number = piece.number
            self._judge(piece)
            if len(self._forms) >= APPEND_LIMIT:
                self._hand_in()
            if self._failed is not None:
                rest = (self._numbers or [number + 1])[0]
                self._lost.append((rest, f"{rest} and after"))
                break
        else:
            self._hand_in()
        while self._waiting:
            self._wait()
        if self._failed is not None:
            lost = ", ".join(text for _, text in sorted(self._lost))
            raise NotRecorded(f"{self.prefix}not recorded: {self.unit}s {lost}: {self._failed}")

    def _judge(self, piece: Piece) -> None:
        if piece.text is None:
            return self._reject(f"{self.unit} {piece.number}: is longer than {LINE_LIMIT:,} bytes; no event may be")
        if self.session.look_is_due:
            self.session.look_at_studio()
        try:
            form = self.session.intake.form_in(piece.text)
        except (EventRejected, QueueUnavailable) as error:  # unavailable: it is not known whether its type is on
            return self._reject(f"{self.unit} {piece.number}: {error}")
        if form is None:
            self.totals.disabled += 1
        else:
            self._forms.append(form)
            self._numbers.append(piece.number)

    def read(self, descriptor: int, size: int) -> bytes:
        """What is there. While nothing is, events that were read do not wait for a thousand of their kind."""
        while not select([descriptor], [], [], 0)[0]:
            while self._waiting and self._waiting[0].answer.done():
                self._wait()
            if self._forms and not self._waiting:
                self._hand_in()
            select([descriptor], [], [], LOOK_EVERY if self._waiting or self._forms else None)
        return os.read(descriptor, size)

    def _hand_in(self) -> None:
        at = 0
        for part in groups(self._forms):
            future: Future[Answer] = Future()
            numbers = self._numbers[at : at + len(part)]
            self._waiting.append(_Group(numbers[0], numbers[-1], len(part), future))
            self.session.writer.append(Appending(part, "", future.set_result))
            at += len(part)
        self._forms, self._numbers = [], []
        while len(self._waiting) > ON_THEIR_WAY:
            self._wait()

    def _wait(self) -> None:
        group = self._waiting.popleft()
        answer = group.answer.result()
        if isinstance(answer, QueueUnavailable):
            self._failed = self._failed or answer
            self._lost.append((group.first, f"{group.first} to {group.last}"))
            return
        recorded = sum(1 for i in answer if i)
        self.totals.recorded += recorded
        self.totals.disabled += group.size - recorded  # switched off by the time the queue's owner saw them

    def _reject(self, reason: str) -> None:
        self.totals.rejected += 1
        tell(self.prefix + reason)


def _record(args: argparse.Namespace) -> int:
    files: Sequence[str] = args.files or ["-"]
    session = Session(places_for_recording(args.home), _at_once)
    totals, failed = _Totals(), False
    try:
        for file in files:
            recording = _Recording(session, totals, f"{file}: " if len(files) > 1 else "")
            try:
                with _opened(file) as descriptor:
                    recording.take(Input(partial(recording.read, descriptor)))
            except (OSError, NotRecorded) as error:
                failed = True
                tell(str(error) if isinstance(error, NotRecorded) else f"{file}: {error.strerror or error}")
                if isinstance(error, NotRecorded):
                    break
    finally:
        session.end()
    if args.json:
        say_json({"recorded": totals.recorded, "disabled": totals.disabled, "rejected": totals.rejected})
    else:
        say(f"{count(totals.recorded, 'event')} recorded, {totals.disabled:,} of types that are off, "
            f"{totals.rejected:,} rejected")  # fmt: skip
    return 1 if failed or totals.rejected else 0


def _at_once(call: Callable[[], None]) -> None:
    call()


@contextmanager
def _opened(file: str) -> Generator[int, None, None]:
    if file == "-":
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by the caller: `<&-`
            raise OSError("standard input is closed")
        yield 0
        return
    with open(file, "rb", buffering=0) as stream:
        yield stream.fileno()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="files to read; - or none: standard input")


RECORD = Spec(
    about="Records events: JSON objects, one a line, or one array as the whole input. Returns when all is on disk, "
    "with a line on standard error for each event that is rejected (`line 7: …`; in an array `event 7: …`); "
    "the others are recorded. Events of types that are off are counted, not recorded. Exit status 1 if any "
    "was rejected.\n\n"
    "An event has at least event_type and email; event_time is now unless given; the queue gives the id.",
    examples=[
        (
            'echo \'{"event_type": "engine_unsub", "email": "user@example.com", "listid": "a1"}\' | mailvane record',
            "one event",
        ),
        ("mailvane record --json events.ndjson", 'prints {"recorded": 200000, "disabled": 0, "rejected": 0}'),
    ],
    arguments=_arguments,
    run=_record,
    notes=types_and_fields,
)
