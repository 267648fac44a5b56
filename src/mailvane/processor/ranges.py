"""Stretches of ids that have yet to be looked through, in order, merged where they touch or nearly do.

Looking through an id twice is harmless (what is held, deferred or gone is passed over), so stretches that lie close are
merged together with what is between them, and when there are many, the closest two.
"""

MOST = 64
NEAR = 256
"""Ids between the last stretch and what is added behind it that are not worth a stretch of its own."""


class Ranges:
    """Ids above `after` up to `upto`, for each stretch; both ends ascending."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def __contains__(self, event_id: int) -> bool:
        return any(after < event_id <= upto for after, upto in self._parts)

    def add(self, after: int, upto: int) -> None:
        """Adds the ids above `after` up to `upto`."""
        if after >= upto:
            return
        parts = self._parts
        if parts:
            start, end = parts[-1]
            if start <= after <= end + NEAR:  # the usual case: it goes on about where the last one ended
                parts[-1] = (start, max(end, upto))
                return
        merged: list[tuple[int, int]] = []
        for part in sorted([*parts, (after, upto)]):
            if merged and part[0] <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], part[1]))
            else:
                merged.append(part)
        while len(merged) > MOST:
            at = min(range(1, len(merged)), key=lambda i: merged[i][0] - merged[i - 1][1])
            merged[at - 1 : at + 1] = [(merged[at - 1][0], merged[at][1])]
        self._parts = merged

    def first(self) -> tuple[int, int]:
        """The lowest stretch. There must be one."""
        return self._parts[0]

    def passed(self, after: int, upto: int) -> None:
        """The ids above `after` up to `upto` were looked through.

        Both ends count: while they were, ids below may have been added.
        """
        if after >= upto:
            return
        left: list[tuple[int, int]] = []
        for start, end in self._parts:
            if start < min(end, after):
                left.append((start, min(end, after)))
            if max(start, upto) < end:
                left.append((max(start, upto), end))
        self._parts = left

    def clear(self) -> None:
        self._parts.clear()
