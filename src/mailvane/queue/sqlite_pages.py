"""Reads rows out of the pages of a damaged SQLite file, without SQLite: bytes in, rows out, and what is wrong told.

SQLite finds a row by the tree above it, so that one bad page hides all that lie below. Here every page is looked at for
itself: the leaves of the table `queue` are told by the shape of their records. https://www.sqlite.org/fileformat2.html
names what is read here; sections are given with it. Works on files that mailvane makes: UTF-8, auto_vacuum, so that a
page that was freed is known as such in two places.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from mailvane.events.catalogue import TYPES
from mailvane.queue.contract import Listed

LEAF = 0x0D
"""First byte of a leaf of a table (1.6)."""
_OTHER_PAGES = frozenset({0x02, 0x05, 0x0A})
"""First bytes of the pages above leaves, and of an index's."""
_FREE = 2
"""A freed page, in the pointer map (1.8)."""
_TREE = frozenset({1, 5})
"""A page of a tree, in the pointer map."""
_USES = frozenset(range(1, 6))
LONGEST_HEAD = 64
"""Bytes of the head of a record: no table of ours needs as many."""
LARGEST = 16 * 1024 * 1024
"""Bytes of a record that is believed; an event has 1 MiB."""

Page = Callable[[int], bytes]
"""The bytes of a page by its number, from 1; b"" for one that is not there."""

_members = msgspec.json.Decoder(dict[str, object]).decode


class Unreadable(Exception):
    """These bytes are no record of ours."""


@dataclass(frozen=True)
class Carved:
    """What a page had: rows, and what is wrong with it ("" if nothing is)."""

    rows: tuple[Listed, ...] = ()
    wrong: str = ""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where what follows begins (1.6)."""
    value = 0
    for n in range(8):
        byte = data[at + n]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


def freed(page: Page, first: int, count: int) -> tuple[set[int], str]:
    """The pages of the free list (1.5), as far as it can be followed, and what is wrong with it."""
    found: set[int] = set()
    trunk = first
    while trunk:
        data = page(trunk)
        if not data or trunk in found:
            return found, f"the list of free pages leads to page {trunk}, which is none"
        found.add(trunk)
        n = int.from_bytes(data[4:8])
        if n > len(data) // 4 - 2:
            return found, f"page {trunk} of the list of free pages is damaged"
        found.update(int.from_bytes(data[8 + 4 * i : 12 + 4 * i]) for i in range(n))
        trunk = int.from_bytes(data[:4])
    wrong = "" if len(found) == count else f"{count} pages should be free, {len(found)} are listed"
    return found, wrong


def pointer_map(page: Page, number: int, size: int) -> int | None:
    """What the pointer map says that a page is for (1.8); None for pages that it says nothing of: its own, page 1, and
    the one where locks are."""
    entries, locks = size // 5, 0x4000_0000 // size + 1
    own = (number - 2) // (entries + 1) * (entries + 1) + 2
    own += own == locks
    if number in (1, own, locks):
        return None
    at = 5 * (number - own - 1)
    data = page(own)
    return data[at] if at < len(data) else 0


def carve(page: Page, number: int, size: int, use: int | None, free: bool) -> Carved:
    """The rows of `queue` on a page. `use` is what the pointer map says of it, `free` whether the free list has it."""
    data = page(number)
    if len(data) < size:
        return Carved(wrong=f"page {number} is not there as a whole")
    if use is None or (free and use == _FREE):
        return Carved()
    unclear = free or use == _FREE or use not in _USES or (data[0] == LEAF and use not in _TREE)
    wrong = f"page {number}: it is not clear what it is for" if unclear else ""
    if data[0] == LEAF or (use in _TREE and data[0] not in _OTHER_PAGES):
        if data[0] != LEAF:
            wrong = wrong or f"page {number} begins with {data[0]:#04x}"
        return _leaf(page, number, data, size, wrong)
    if use in _TREE and not _is_filled(data, size):
        # It is not what it seems, or damaged; what it was before it became part of a tree is no matter.
        return Carved(tuple(_anywhere(page, data, size, set())), f"page {number}: its cells do not fill it")
    return Carved(wrong=wrong)


def _is_filled(data: bytes, size: int) -> bool:
    """Whether the cells of an inner page, or of an index's, and what is free account for all of it (1.6)."""
    kind, cells, content = data[0], int.from_bytes(data[3:5]), int.from_bytes(data[5:7]) or 65_536
    head = 8 if kind == 0x0A else 12
    used = 0
    try:
        for i in range(min(cells, size // 2)):
            at = int.from_bytes(data[head + 2 * i : head + 2 + 2 * i])
            end = at if kind == 0x0A else at + 4
            length, end = varint(data, end)
            if kind != 0x05:
                local = _local(length, size, (size - 12) * 64 // 255 - 23)
                end += local + (4 if local < length else 0)
            used += max(4, end - at)
    except IndexError:
        return False
    free = _free_bytes(data, size)
    return free is not None and head + 2 * cells <= content and used + free + content == size


def _leaf(page: Page, number: int, data: bytes, size: int, wrong: str) -> Carved:
    cells, content = int.from_bytes(data[3:5]), int.from_bytes(data[5:7]) or 65_536
    rows: list[Listed] = []
    problems = [wrong] if wrong else []
    used = others = last = 0
    for i in range(min(cells, (size - 8) // 2)):
        at = int.from_bytes(data[8 + 2 * i : 10 + 2 * i])
        try:
            row, row_id, length = _cell(page, data, at, size)
        except (Unreadable, IndexError) as e:
            problems.append(f"page {number}: cell {i + 1} of {cells} cannot be read ({e})")
            continue
        if i and row_id <= last:
            problems.append(f"page {number}: its ids do not ascend")
        last = row_id
        used += length
        others += row is None
        if row is not None:
            rows.append(row)
    accounted = _free_bytes(data, size)
    if accounted is None or used + accounted + content != size or (rows and others):
        problems.append(f"page {number}: its cells do not fill it")
    if problems:
        rows += _anywhere(page, data, size, {row.id for row in rows})
    return Carved(tuple(rows), "; ".join(dict.fromkeys(problems)))


def _anywhere(page: Page, data: bytes, size: int, known: set[int]) -> list[Listed]:
    """Rows that begin at any byte of a damaged page, wherever its pointers lead; what was deleted there may be among
    them, which is better than to lose one."""
    rows: list[Listed] = []
    for at in range(8, size - 4):
        try:
            row, _, _ = _cell(page, data, at, size)
        except (Unreadable, IndexError):
            continue
        if row is not None and row.id not in known:
            known.add(row.id)
            rows.append(row)
    return rows


def _free_bytes(data: bytes, size: int) -> int | None:
    """Bytes of a page that its list of free blocks and its count of fragments have; None if the list is damaged."""
    total, at, before = data[7], int.from_bytes(data[1:3]), 0
    while at:
        if at <= before or at + 4 > size:
            return None
        before = at
        total += int.from_bytes(data[at + 2 : at + 4])
        at = int.from_bytes(data[at : at + 2])
    return total


def _cell(page: Page, data: bytes, at: int, size: int) -> tuple[Listed | None, int, int]:
    """The row of a cell (None: another table's), its id, and the bytes that it takes here. Raises Unreadable,
    IndexError."""
    if not 8 <= at < size - 3:
        raise Unreadable("it is outside of its page")
    length, place = varint(data, at)
    row_id, place = varint(data, place)
    if not 0 <= length <= LARGEST:
        raise Unreadable("its length is impossible")
    local = _local(length, size, size - 35)
    end = place + local + (4 if local < length else 0)
    if end > size:
        raise Unreadable("it reaches beyond its page")
    types, values_at = _types(data, place, min(local, length))
    if values_at + sum(map(_width, types)) != length:
        raise Unreadable("its head and its length contradict each other")
    if _is_of_another_table(types):
        return None, row_id, max(4, end - at)
    if not _is_queue(types):
        raise Unreadable("it is no row of a table of ours")
    payload = bytearray(data[place : place + local])
    following = int.from_bytes(data[place + local : end]) if local < length else 0
    seen: set[int] = set()
    while len(payload) < length:
        more = page(following) if following and following not in seen else b""
        if not more:
            raise Unreadable("it goes on nowhere")
        seen.add(following)
        payload += more[4 : 4 + length - len(payload)]
        following = int.from_bytes(more[:4])
    return _row(row_id, types, bytes(payload), values_at), row_id, max(4, end - at)


def _local(length: int, size: int, most: int) -> int:
    """How much of a record stands in its cell (1.6); of one that is longer than `most` the rest is elsewhere."""
    if length <= most:
        return length
    least = (size - 12) * 32 // 255 - 23
    some = least + (length - least) % (size - 4)
    return some if some <= most else least


def _types(data: bytes, at: int, local: int) -> tuple[list[int], int]:
    """The serial types of a record (2.1), and where in it the values begin."""
    head, place = varint(data, at)
    if not 1 <= head <= min(local, LONGEST_HEAD):
        raise Unreadable("its head has an impossible length")
    types: list[int] = []
    while place < at + head:
        kind, place = varint(data, place)
        types.append(kind)
    return types, head


def _is_queue(types: list[int]) -> bool:
    """Whether a record looks as one of `queue`: nothing for the id, two texts, two whole numbers, two texts."""
    return len(types) == 7 and types[0] == 0 and all(
        t >= 13 and t % 2 if text else 1 <= t <= 9 and t != 7
        for t, text in zip(types[1:], (True, True, False, False, True, True), strict=True)
    )  # fmt: skip


def _is_of_another_table(types: list[int]) -> bool:
    """sqlite_sequence, sqlite_schema, deferred (its older rows have six columns), s_system_configs, delivered."""
    deferred = len(types) == 7 and types[:1] == [0] and types[1] < 10 and types[5] >= 13 <= types[6]
    return deferred or len(types) in (2, 5, 6, 8, 13)


_WIDTHS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}


def _width(kind: int) -> int:
    """Bytes of a value of a serial type (2.1). Raises Unreadable."""
    if kind >= 12:
        return (kind - 12) // 2
    if kind not in _WIDTHS:
        raise Unreadable("a value is of no type")
    return _WIDTHS[kind]


def _row(row_id: int, types: list[int], payload: bytes, at: int) -> Listed:
    values: list[str | int] = []
    for kind in types[1:]:
        width = _width(kind)
        raw = payload[at : at + width]
        at += width
        if len(raw) < width:
            raise Unreadable("a value is cut off")
        try:
            values.append(raw.decode() if kind >= 13 else kind - 8 if kind >= 8 else int.from_bytes(raw, signed=True))
        except UnicodeDecodeError:
            raise Unreadable("a text is no UTF-8") from None
    event_type, mail_class, recorded, valued, body, extra = values
    row = Listed(row_id, str(event_type), str(mail_class), int(recorded), int(valued), str(body), str(extra))
    if why := what_is_wrong_with(row):
        raise Unreadable(f"event {row_id}: {why}")
    return row


def what_is_wrong_with(row: Listed) -> str:
    """Why a row is no event that could be delivered; "" if it is one."""
    if row.event_type not in TYPES:
        return "its type is none"
    if row.id < 1:
        return "its id is none"
    try:
        body = _members(b"{" + row.body.encode() + b"}")
        if row.extra:
            _members(b"{" + row.extra.encode() + b"}")
        _members(b"{" + row.body.encode()[: row.valued] + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "its fields are no JSON"
    return "" if body.get("event_type") == row.event_type else "its type and its fields contradict each other"


def candidates(page: Page, numbers: Sequence[int], size: int) -> Iterator[Carved]:
    """What these pages have, one after the other; damage of the list of free pages comes first."""
    if not numbers:
        return
    head = page(1)
    free, wrong = freed(page, int.from_bytes(head[32:36]), int.from_bytes(head[36:40]))
    if wrong:
        yield Carved(wrong=wrong)
    for number in numbers:
        yield carve(page, number, size, pointer_map(page, number, size), number in free)
