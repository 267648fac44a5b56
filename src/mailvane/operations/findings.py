"""What `mailvane doctor` says of one thing it looked at."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, what was found, and what to do about it ("" if nothing)."""

    level: Level
    check: str
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(Level.OK, check, found)


def note(check: str, found: str, advice: str = "") -> Finding:
    return Finding(Level.NOTE, check, found, advice)


def wrong(check: str, found: str, advice: str) -> Finding:
    return Finding(Level.WRONG, check, found, advice)
