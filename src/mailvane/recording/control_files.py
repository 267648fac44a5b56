"""What a control file says: one for each type of Engine's events that can be switched. Pure: bytes in, a state out."""

import msgspec

from mailvane.events.catalogue import TYPES
from mailvane.recording.gate import AttemptRules

SWITCH_LIMIT = 64
"""Bytes that a control file may have."""
RULES_LIMIT = 16 * 1024

SWITCHED = {t.name: t.switch for t in TYPES.values() if t.switch}
"""Engine's types and the names of their control files."""
ATTEMPT = "delivery_attempt"

State = bool | AttemptRules


class Strange(Exception):
    """A control file says something that it cannot mean; the text says what."""


def switch_in(data: bytes) -> bool:
    """What a control file says: on by a first line `1`; off by `0` or blanks alone. Raises Strange for all else."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Strange("holds bytes that are no text; wanted is 1 or 0") from None
    lines = text.strip(" \t\r\n").split("\n")
    first = lines[0].strip(" \t\r")
    if any(not c.isprintable() and c not in "\t\r\n" for c in text):
        raise Strange("holds control characters; wanted is 1 or 0")
    if first == "1":
        return True
    if first in {"0", ""}:
        return False
    raise Strange(f'says "{first[:20]}"; wanted is 1 or 0')


def rules_in(data: bytes) -> AttemptRules:
    """What `record_events.delivery_attempt.json` says. Raises Strange for what is not such an object."""
    if data.strip() in {b"0", b""}:
        return AttemptRules()
    try:
        return msgspec.json.decode(data, type=AttemptRules)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Strange(f'holds no object such as {{"enabled": true}}: {error}') from None
