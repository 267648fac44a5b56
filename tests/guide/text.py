"""What the guide has people type, taken from its text when a test runs.

The guide says in words what each block is for; by these words the blocks are found. Nothing is taken from a text that
is not the guide, byte by byte.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

FILE = Path(__file__).parents[1] / "data" / "greenarrow" / "guide.txt"
SHA256 = "bf9439abbcb55f969336c9706d7a47331a6574ed9ff7d4b1ef93a1942c3339b4"


class NotTheGuide(Exception):
    """A text that is not the guide as it was when this was written."""


@dataclass(frozen=True)
class Guide:
    """The blocks to type, line by line as printed, and what has to be read with understanding as text."""

    engine_switches: tuple[str, ...]
    psql: str
    """The command line that connects to PostgreSQL."""
    studio_switches: str
    """The SQL: several lines, ended."""
    logout: str
    apply_changes: tuple[str, ...]
    configuration: str
    """The whole event_processor.json."""
    check_syntax: str


def guide(content: bytes | None = None) -> Guide:
    """The guide in `content`, or that of the tests' data. Raises NotTheGuide."""
    content = FILE.read_bytes() if content is None else content
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise NotTheGuide(f"the guide's SHA-256 is {SHA256}, this text's is {found}")
    text = content.decode()
    lines = text.splitlines()
    (psql,) = _behind(lines, "Connect to PostgreSQL")
    (logout,) = _behind(lines, "Logout of PostgreSQL")
    (check_syntax,) = _behind(lines, "After editing the file it is always a good idea to check for syntax errors:")
    return Guide(
        engine_switches=_behind(lines, "Enable recording for Engine events:"),
        psql=psql,
        studio_switches="".join(f"{line}\n" for line in _behind(lines, "Enable event recording")),
        logout=logout,
        apply_changes=_behind(lines, "Apply Changes"),
        configuration=_configuration(text, "the configuration file would look like this:"),
        check_syntax=check_syntax,
    )


def _behind(lines: Iterable[str], introduction: str) -> tuple[str, ...]:
    """The paragraph that follows the first one that is this line alone."""
    _, *after = dropwhile(lambda line: line != introduction, lines)
    return tuple(takewhile(bool, dropwhile(lambda line: not line, after)))


def _configuration(text: str, introduction: str) -> str:
    """The JSON that follows these words: as printed, and no more than it."""
    start = text.index("{", text.index(introduction))
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end] + "\n"
