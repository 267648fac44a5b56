"""The writing connection with its ballast: what is done to a SQLite queue on a disk that has little room, or none."""

import contextlib
from collections.abc import Sequence

import apsw

from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Settled, Settlement
from mailvane.queue.sqlite import SQLiteWriter
from mailvane.queue.sqlite_errors import DiskFull
from mailvane.queue.sqlite_settling import KEEPING_LIMIT, SETTLE_LIMIT
from mailvane.queue.writer import Answer, Group

SETTLE_LITTLE = 50
"""Ids in one transaction once the disk is full."""
GIVE_BACK_LITTLE = 256
"""Pages that are given back at once where there is little room: what the log takes for them fits into the ballast's."""


class BallastedStore:
    """The writing connection with its ballast: recording stops while the ballast is gone, settling frees it."""

    def __init__(self, writer: SQLiteWriter, ballast: Ballast) -> None:
        self.writer = writer
        self.ballast = ballast
        self._refused = False
        self._given_back = False
        """Pages were given back, and are still there in the file."""

    @property
    def full(self) -> bool:
        """Whether recording is refused for want of room, as far as can be known without trying."""
        return not self.ballast.is_there() or (self._refused and not self.ballast.room_to_record())

    def idle(self) -> None:
        """An owner keeps everything as it is."""

    def append(self, groups: Sequence[Group]) -> list[Answer]:
        if not self.ballast.make():
            raise DiskFull(f"the disk is full: no room for {self.ballast.path}; make room, nothing was recorded")
        try:
            self._keep_the_log_short()
            answers = self.writer.append(groups)
        except DiskFull:
            self._refused = True
            raise
        self._refused = False
        with contextlib.suppress(DiskFull):  # these are on the disk
            self._keep_the_log_short()
        return answers

    def settle(self, what: Settlement, term: int, keep: bool = False) -> Settled:
        """With `keep` delivered events are kept; but the ballast's room is for removing alone."""
        delivered = dropped = 0
        for part in what.in_slices(KEEPING_LIMIT if keep else SETTLE_LIMIT):
            try:
                done = [self.writer.settle(part, term, keep and self.ballast.is_there())]
            except DiskFull:
                self.ballast.free()
                done = [self._settle_in_little_room(little, term) for little in part.in_slices(SETTLE_LITTLE)]
            delivered += sum(d.delivered for d in done)
            dropped += sum(d.dropped for d in done)
        with contextlib.suppress(DiskFull):
            self._keep_the_log_short()
        self.ballast.make()
        return Settled(delivered, dropped)

    def _settle_in_little_room(self, part: Settlement, term: int) -> Settled:
        try:
            return self.writer.settle(part, term)
        except DiskFull:
            with contextlib.suppress(DiskFull):
                self.writer.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
            return self.writer.settle(part, term)

    def replay(self, ids: Sequence[int]) -> list[int]:
        """As OwnedQueue.replay; takes room as recording does, so only where there is some."""
        if not self.ballast.make():
            raise DiskFull(f"the disk is full: no room for {self.ballast.path}; make room, nothing was replayed")
        self._keep_the_log_short()
        return self.writer.replay(ids)

    def give_back(self, seconds: float) -> bool:
        """Gives room that the file no longer needs back to the disk, for so long; whether there is more of it.

        Also where the ballast is missing: it may be this file that has the room which the ballast needs.
        """
        little = self.ballast.scarce()
        if (unused := self.writer.unused()) > 0:
            self._keep_the_log_short()
            self.writer.give_back(min(unused, GIVE_BACK_LITTLE) if little else unused, seconds)
            self._given_back = True
        more = 0 < self.writer.unused() < unused  # a file that somebody copied in another way may give nothing back
        if self._given_back and (little or not more):
            self.writer.checkpoint()  # the file is made shorter by that
            self._given_back = False
            self.ballast.make()
        return more

    def _keep_the_log_short(self) -> None:
        """On a disk with little room, so that moving the log never needs more than what the ballast gives."""
        if self.writer.log_size > self.ballast.size() // 4 and self.ballast.scarce():
            self.writer.checkpoint()
