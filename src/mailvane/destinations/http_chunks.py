"""The chunked coding of a body, undone within bounds (RFC 9112, 7.1)."""

import re
from typing import Literal

from mailvane.destinations.http_head import Broken

_RAW_FACTOR = 4
"""How much longer than its limit a body may be with its chunk sizes: tiny chunks with long extensions are no way
around the limit."""
_LINE_LIMIT = 1024
_TRAILER_LIMIT = 8 * 1024
_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class Chunks:
    """Undoes the coding into `body`, up to `limit` bytes; `full` once they are reached.

    `excess`: bytes came after the end.
    """

    def __init__(self, body: bytearray, limit: int) -> None:
        self.full = False
        self.excess = False
        self._body = body
        self._limit = limit
        self._rest = b""
        self._at = 0
        self._taken = 0
        self._left = 0
        self._expects: Literal["size", "data", "end of data", "trailer"] = "size"
        self._trailer = 0

    def feed(self, data: bytes) -> bool:
        """Whether the body is whole now. Raises Broken."""
        fits = data[: _RAW_FACTOR * self._limit - self._taken]
        self._taken += len(fits)
        self._rest = self._rest[self._at :] + fits
        self._at = 0
        while not self.full:
            before = self._at, self._expects
            if self._step(self._rest, self._at):
                self.excess = self._at < len(self._rest) or len(fits) < len(data)
                return True
            if before == (self._at, self._expects):
                break
        self.full = self.full or self._taken >= _RAW_FACTOR * self._limit
        return False

    def _step(self, rest: bytes, at: int) -> bool:
        """Takes what is expected at `at`, if it is there whole; True after the trailer."""
        there = len(rest) - at
        if self._expects == "data":
            size = min(self._left, there, self._limit - len(self._body))
            self._body += rest[at : at + size]
            self._left -= size
            self._at += size
            self.full = len(self._body) >= self._limit
            if not self._left:
                self._expects = "end of data"
        elif self._expects == "end of data":
            if not b"\r\n".startswith(rest[at : at + 2]):
                raise Broken("a chunk of the body is longer than it says")
            if there >= 2:
                self._at, self._expects = at + 2, "size"
        elif self._expects == "size":
            line = _LINE.match(rest, at, at + _LINE_LIMIT)
            if line is None and (there >= _LINE_LIMIT or rest.find(b"\n", at) >= 0):
                raise Broken("a chunk of the body has no readable size")
            if line is not None:
                self._left = int(line[1], 16)
                self._at, self._expects = line.end(), "data" if self._left else "trailer"
        else:
            end = rest.find(b"\r\n", at)
            self._trailer += end + 2 - at if end >= 0 else 0
            if self._trailer + (there if end < 0 else 0) > _TRAILER_LIMIT:
                raise Broken("the body's trailer is too long")
            if end >= 0:
                self._at = end + 2
                return end == at
        return False
