"""From the bytes of a file to its text, and from an offset in it to line and column."""

from bisect import bisect_right
from typing import NamedTuple

from mailvane.configuration.mistakes import Broken, Mistake

SIZE = 1024 * 1024
"""Bytes that a configuration file may have."""


class Place(NamedTuple):
    """Line and column, from 1, in characters."""

    line: int
    column: int


class Places:
    """Tells the places of a text. Lines end with a line feed."""

    def __init__(self, text: str) -> None:
        self._starts = [0]
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)

    def at(self, offset: int) -> Place:
        line = bisect_right(self._starts, offset)
        return Place(line, offset - self._starts[line - 1] + 1)


def decode(data: bytes) -> str:
    """The text of a file. Raises Broken at a byte order mark, at what is not UTF-8, and for a file that is too big."""
    if len(data) > SIZE:
        raise Broken(Mistake(1, 1, f"the file has {len(data):,} bytes; at most {SIZE:,} are read"))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        place = Places(before).at(len(before))
        raise Broken(
            Mistake(*place, f"byte 0x{data[error.start]:02x} is no UTF-8 here; save the file as UTF-8")
        ) from None
    if text.startswith("\ufeff"):
        raise Broken(Mistake(1, 1, "the file begins with a byte order mark; save it as UTF-8 without one"))
    return text


def readable(data: bytes) -> str:
    """The text for showing lines of it, whatever the bytes are; places before the first wrong byte are right."""
    return data[:SIZE].decode("utf-8", "replace")
