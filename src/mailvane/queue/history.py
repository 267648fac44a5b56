"""An event with its failed attempts, as both stores have it: the columns of a row, and `history`, a JSON text."""

import re
from collections.abc import Sequence

import msgspec

from mailvane.queue.contract import ATTEMPT_ERROR, Attempt, Failed, Listed

Remembered = tuple[int, int, float, int, str]
"""A failed attempt as `history` has it: number, at, seconds, status, error."""

_NOT_STORED = re.compile("[\x00\ud800-\udfff]")
_decode = msgspec.json.Decoder(list[Remembered]).decode


def storable(text: str) -> str:
    """What an endpoint said, or a file is called, without what a database cannot store: NUL, and half a pair of
    surrogates, as which Python has bytes that are no UTF-8."""
    return text if text.isascii() and "\x00" not in text else _NOT_STORED.sub("\ufffd", text)


def remembered(failed: Failed, now: int) -> Remembered:
    """What is remembered of an attempt that failed at `now` (wall clock, milliseconds)."""
    error = storable(failed.error[:ATTEMPT_ERROR])
    return failed.attempts, now, round(failed.seconds, 3), failed.status, error


def history_of(row: Listed) -> str:
    """The failed attempts as the column `history` has them."""
    attempts = [(a.number, a.at, a.seconds, a.status, storable(a.error)) for a in row.history]
    return msgspec.json.encode(attempts).decode()


def listed(row: Sequence[object]) -> Listed:
    """An event of the 14 columns that the statements `select`, `select_delivered`, `lowest` and `lowest_delivered`
    have in either store."""
    history = str(row[12])
    attempts = () if history == "[]" else tuple(Attempt(*one) for one in _decode(history))
    return Listed(*row[:12], history=attempts, delivered=row[13])  # type: ignore[arg-type]  # the schema says what they are
