"""Reads the pages in the log of a SQLite file (`-wal`), also behind a place where SQLite would stop reading.

SQLite takes the log up to the first frame whose checksum is wrong for all that there is: after a crash that is right,
but after damage what follows is lost without a word. See https://www.sqlite.org/fileformat2.html, section 4.
"""

import mmap
import struct
from array import array
from dataclasses import dataclass

HEAD = 32
FRAME_HEAD = 24
_MAGIC = (0x377F0682, 0x377F0683)


@dataclass(frozen=True)
class Log:
    """Where in the log each page last stands: `sound` up to the last commit that SQLite would see, `beyond` in what
    follows. `pages`: how large the last commit made the file (0: none)."""

    sound: dict[int, int]
    beyond: dict[int, int]
    pages: int = 0
    wrong: str = ""


def read_log(data: bytes | mmap.mmap, size: int) -> Log:
    """The log of a file whose pages have this size."""
    if not len(data):
        return Log({}, {})
    if len(data) < HEAD:
        return Log({}, {}, wrong="the log is cut off in its head")
    magic, _, page_size = struct.unpack(">3I", data[:12])
    if magic not in _MAGIC or page_size != size:
        return Log({}, {}, wrong="the log has a damaged head, so nothing of it can be used")
    swap = (magic == _MAGIC[0]) != (array("I", b"\1\0\0\0")[0] == 1)
    sums = _checksum(data[: HEAD - 8], (0, 0), swap)
    intact = sums == struct.unpack(">2I", data[24:HEAD])
    salt = data[16:24]
    sound: dict[int, int] = {}
    beyond: dict[int, int] = {}
    pending: dict[int, int] = {}
    pages = 0
    for at in range(HEAD, len(data) - FRAME_HEAD - size + 1, FRAME_HEAD + size):
        head = data[at : at + FRAME_HEAD]
        if head[8:16] != salt:
            continue  # of an earlier round, which was moved into the file
        number, commit = struct.unpack(">2I", head[:8])
        if intact:
            sums = _checksum(data[at + FRAME_HEAD : at + FRAME_HEAD + size], _checksum(head[:8], sums, swap), swap)
            intact = sums == struct.unpack(">2I", head[16:24])
        pending[number] = at + FRAME_HEAD
        if commit:
            (sound if intact else beyond).update(pending)
            pages = commit
            pending = {}
    wrong = "" if not beyond else f"the log is damaged; {len(beyond)} pages stand behind the damage"
    return Log(sound, beyond, pages, wrong)


def _checksum(data: bytes, start: tuple[int, int], swap: bool) -> tuple[int, int]:
    words = array("I", data)
    if swap:
        words.byteswap()
    a, b = start
    it = iter(words)
    for x, y in zip(it, it, strict=True):
        a = (a + x + b) & 0xFFFFFFFF
        b = (b + y + a) & 0xFFFFFFFF
    return a, b
