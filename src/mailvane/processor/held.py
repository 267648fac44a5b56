"""What has been read and whose outcome is not on disk yet.

An id is held from the moment it is read until its outcome is durable, in one set for all lanes. What a read brings is
dropped if it is held now, or if its outcome became durable since that read began: a read that began before a settlement
still returns what was settled. What was given back without an outcome is as the read saw it.
"""

from collections.abc import Iterable, Mapping, Sequence

from mailvane.queue.contract import Place, Row

HELD_EVENTS = 10_000
HELD_BYTES = 32 * 1024 * 1024


def sizes_of(rows: Iterable[Row]) -> dict[int, int]:
    """What rows count against `HELD_BYTES`, by their ids."""
    return {row.id: len(row.body) + len(row.extra) for row in rows}


class Held:
    """The ids in hand, and how much memory their bodies take."""

    __slots__ = ("_ids", "_reads", "_released", "size")

    def __init__(self) -> None:
        self._ids: dict[int, int] = {}
        self._reads = 0
        self._released: set[int] = set()
        self.size = 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, event_id: int) -> bool:
        return event_id in self._ids

    @property
    def full(self) -> bool:
        return len(self._ids) >= HELD_EVENTS or self.size >= HELD_BYTES

    def begin_read(self) -> None:
        """To be called before a read begins; `end_read` after what it brought was taken or dropped."""
        self._reads += 1

    def end_read(self) -> None:
        self._reads -= 1
        if not self._reads:
            self._released.clear()

    def admitted(self, places: Sequence[Place | Row]) -> list[Place | Row]:
        """Those of what a read brought that may be taken."""
        held, released = self._ids, self._released
        return [place for place in places if place.id not in held and place.id not in released]

    def admits(self, event_id: int) -> bool:
        """Whether an id that a read brought may be taken."""
        return event_id not in self._ids and event_id not in self._released

    def room(self, size: int) -> int:
        """How many more events of together that many bytes may be held."""
        return HELD_EVENTS - len(self._ids) if self.size + size <= HELD_BYTES else 0

    def take(self, sizes: Mapping[int, int]) -> int:
        """Holds events, each with what it counts; answers what they count together."""
        self._ids.update(sizes)
        size = sum(sizes.values())
        self.size += size
        return size

    def size_of(self, ids: Iterable[int]) -> int:
        """What held events count."""
        sizes = self._ids
        return sum([sizes.get(i, 0) for i in ids])

    def take_id(self, event_id: int) -> None:
        """Holds an event without its body."""
        self._ids[event_id] = 0

    def release(self, ids: Sequence[int]) -> None:
        """What became of them is on disk: reads that began before do not know that."""
        pop = self._ids.pop
        self.size -= sum([pop(i, 0) for i in ids])
        if self._reads:
            self._released.update(ids)

    def give_back(self, event_id: int) -> None:
        """Nothing became of it: reads may take it again, also those that have begun."""
        self.size -= self._ids.pop(event_id, 0)
