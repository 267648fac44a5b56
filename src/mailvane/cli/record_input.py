"""What `mailvane record` reads: one JSON object a line, or one array, in bounded memory. No I/O of its own.

A line that is longer than an event may be is told apart without being held. An array is cut into its elements by
looking at brackets and strings alone; what an element means is judged by the door of mailvane.events, like a line.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

LINE_LIMIT = 1024 * 1024
"""Bytes that one event may have."""
CHUNK = 256 * 1024

Read = Callable[[int], bytes]
"""At most that many bytes, b"" at the end."""

_STRING = rb'|"(?:[^"\\]|\\.)*+(?:"|(?P<open>\\?\Z))'
_TOP = re.compile(rb"[\[\]{},]" + _STRING, re.DOTALL)
_NESTED = re.compile(rb"[\[\]{}]" + _STRING, re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """An event as it was given: its number (of the line, or of the element), and its bytes, None if it is too long."""

    number: int
    text: bytes | None


@dataclass(frozen=True)
class Broken:
    """The array cannot be read any further."""

    reason: str


class Input:
    """One input. `unit` says what pieces are counted in; it is known as soon as the first piece is there."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.unit = "line"

    def pieces(self) -> Iterator[Piece | Broken]:
        """The events of the input, one after the other; blank lines are none."""
        head = self._head()
        if self._is_array(head):
            self.unit = "event"
            return self._elements(head)
        return self._lines(head)

    def _head(self) -> bytes:
        """The beginning: enough to tell what the input is. The first line that is not blank, and a byte after it."""
        head = b""
        while True:
            more = self._read(CHUNK)
            head += more
            start = head.lstrip(b" \t\r\n")
            end = start.find(b"\n")
            if not more or len(start) > LINE_LIMIT or (end >= 0 and start[end:].strip()):
                return head
            if start and not start.startswith(b"["):
                return head  # lines, and whoever writes them may take its time
            if not start and len(head) > CHUNK:
                # Blanks are nothing, however many; their lines still count.
                return head

    @staticmethod
    def _is_array(head: bytes) -> bool:
        start = head.lstrip(b" \t\r\n")
        if not re.match(rb"\[[ \t\r\n]*[{\]]", start):
            return False
        first, _, rest = start.partition(b"\n")
        if not rest.strip():
            return True
        # A line that is a whole array, with more after it, is a line that is wrong, not the whole input.
        try:
            msgspec.json.decode(first)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return True
        return False

    def _lines(self, head: bytes) -> Iterator[Piece]:
        number, kept, too_long = 1, head, False
        while True:
            lines = kept.split(b"\n")
            kept = lines.pop()
            for line in lines:
                if too_long or len(line) > LINE_LIMIT:
                    yield Piece(number, None)
                elif line.strip():
                    yield Piece(number, line)
                too_long = False
                number += 1
            if len(kept) > LINE_LIMIT:
                kept, too_long = b"", True
            more = self._read(CHUNK)
            if not more:
                break
            kept = more if not kept else kept + more
        if too_long or kept.strip():
            yield Piece(number, None if too_long else kept)

    def _elements(self, head: bytes) -> Iterator[Piece | Broken]:
        data, at, start = head.lstrip(b" \t\r\n"), 1, 1
        number, depth, too_long = 1, 0, False
        while True:
            cut = len(data)
            while (found := (_NESTED if depth else _TOP).search(data, at)) is not None:
                if found.start("open") >= 0:
                    cut = found.start()
                    break
                at, mark = found.end(), found[0]
                if mark in (b"[", b"{"):
                    depth += 1
                elif depth and mark in (b"]", b"}"):
                    depth -= 1
                elif mark == b"}":
                    yield Broken(f"event {number}: a }} that was not opened")
                    return
                elif depth == 0 and mark in (b",", b"]"):
                    text = data[start : found.start()].strip()
                    if too_long or text or number > 1 or mark == b",":  # [] has no element
                        yield Piece(number, None if too_long or len(text) > LINE_LIMIT else text)
                    if mark == b"]":
                        if data[at:].strip() or self._more_than_blanks():
                            yield Broken("there is more after the array's end; an array must be the whole input")
                        return
                    number, start, too_long = number + 1, at, False
            more = self._read(CHUNK)
            if not more:
                yield Broken(f"the input ends inside the array, in event {number}")
                return
            # An element that is too long is not held: of an open string its beginning is enough, of the rest nothing.
            too_long = too_long or len(data) - start > LINE_LIMIT
            if too_long:
                data, at, start = _shortened(data[cut:]) + more, 0, 0
            else:
                data, at, start = data[start:] + more, cut - start, 0

    def _more_than_blanks(self) -> bool:
        while more := self._read(CHUNK):
            if more.strip():
                return True
        return False


def _shortened(string: bytes) -> bytes:
    """What means the same as an open string's beginning, for what follows it."""
    if not string:
        return b""
    escapes = len(string) - len(string.rstrip(b"\\"))
    return b'"\\' if escapes % 2 else b'"'
