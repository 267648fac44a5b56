"""Mistakes in a file and how people see them: place, words, the line, a caret under the column."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from mailvane.configuration.masking import mask_text

WIDTH: Final = 100
"""Cells of a line that are shown around a mistake."""
INDENT: Final = "    "


@dataclass(frozen=True, order=True)
class Mistake:
    """What is wrong at a place, and what would be right. Lines and columns count from 1, in characters."""

    line: int
    column: int
    message: str


class Broken(Exception):
    """A mistake after which the rest of a file cannot be judged."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.message)
        self.mistake = mistake


def nearest(name: str, known: Iterable[str]) -> str:
    """Half a sentence for someone who wrote a name that is not known: the nearest one, or all of them."""
    names = sorted(known)
    near = get_close_matches(name.lower(), names, n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known {'is' if len(names) == 1 else 'are'} {', '.join(names)}"


def quoted(text: str, most: int = 40) -> str:
    """Text from a file as it may stand in a message: quoted, cut, and harmless for a terminal."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text[: most + 1])
    return f'"{clean[:most]}…"' if len(clean) > most else f'"{clean}"'


def render(mistakes: Sequence[Mistake], text: str, file: str) -> str:
    """All mistakes in order of place, each with its line and a caret; what is secret in the line is masked."""
    lines = mask_text(text).split("\n")
    shown = "".join(c if c.isprintable() else "\ufffd" for c in file)
    parts: list[str] = []
    for mistake in sorted(mistakes):
        parts.append(f"{shown}:{mistake.line}:{mistake.column}: {mistake.message}")
        if mistake.line <= len(lines):
            line, caret = _excerpt(lines[mistake.line - 1].removesuffix("\r"), mistake.column - 1)
            parts += [INDENT + line, INDENT + caret] if line.strip() else []
    return "\n".join(parts)


def _excerpt(line: str, at: int) -> tuple[str, str]:
    """The line, cut around the character `at` if it is long, and the caret line under it."""
    # A line may have a million characters: only what can be shown is looked at.
    first = max(0, at - WIDTH)
    cells = [_cell(c) for c in line[first : at + WIDTH]]
    at -= first
    start, left = at, WIDTH * 2 // 3
    while start > 0 and (left := left - _width(cells[start - 1])) > 0:
        start -= 1
    end, left = start, WIDTH
    while end < len(cells) and (left := left - _width(cells[end])) >= 0:
        end += 1
    before = "…" if first or start else ""
    after = "…" if first + end < len(line) else ""
    blank = " " * (len(before) + sum(_width(c) for c in cells[start:at]))
    return before + "".join(cells[start:end]) + after, blank + "^"


def _cell(character: str) -> str:
    if character == "\t":
        return INDENT
    # Control and format characters could move the cursor or turn the direction of writing.
    return character if character.isprintable() else "\ufffd"


def _width(cell: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cell)
