"""The lexical rules of `greenarrow.conf`: from text to directives and blocks, each word with its place.

A line holds a directive with its values, opens a block (`name [label[, label…]] {`), or closes one (`}`). A line whose
first character that is no blank is `#` is a comment. Values are bare words, strings in double quotes with JSON's
escapes, or strings in backticks without any.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from mailvane.configuration.mistakes import Mistake
from mailvane.configuration.text import Place

DEPTH: Final = 50

_TOKEN = re.compile(
    r"(?P<blank>[ \t]+)|(?P<bare>[A-Za-z0-9\-_+.*/\\\[\]$:;%|@]+)|(?P<mark>[{},])"
    r'|(?P<string>"(?:[^"\\]|\\.)*+")|(?P<back>`[^`]*+`)'
)


class Word(NamedTuple):
    """A word or string of a line; `quoted` tells `"yes"` from `yes`, and a comma that is meant from one between."""

    text: str
    place: Place
    quoted: bool = False


@dataclass(frozen=True)
class Directive:
    """Values still have the commas that stood between them, as words of their own."""

    name: Word
    values: tuple[Word, ...]


@dataclass(frozen=True)
class Block:
    name: Word
    labels: tuple[Word, ...]
    body: "tuple[Statement, ...]"


Statement = Directive | Block


@dataclass(frozen=True)
class Lexed:
    statements: tuple[Statement, ...]
    mistakes: tuple[Mistake, ...]


class _Open(NamedTuple):
    name: Word
    labels: tuple[Word, ...]
    body: list[Statement]


def lex(text: str) -> Lexed:
    """A line with a mistake is left out; the others are judged."""
    root: list[Statement] = []
    stack: list[_Open] = []
    mistakes: list[Mistake] = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = _words(line.removesuffix("\r"), number, mistakes)
        if not words:
            continue
        into = stack[-1].body if stack else root
        first, last = words[0], words[-1]
        if _is(first, "}"):
            if len(words) > 1:
                mistakes.append(Mistake(*words[1].place, "found more after }, wanted the end of the line"))
            if not stack:
                mistakes.append(Mistake(*first.place, "found }, but no block is open here"))
                continue
            done = stack.pop()
            (stack[-1].body if stack else root).append(Block(done.name, done.labels, tuple(done.body)))
        elif _is(first, "{") or _is(first, ",") or first.quoted:
            mistakes.append(Mistake(*first.place, "found no name at the beginning of the line, wanted a directive"))
        elif _is(last, "{"):
            if len(stack) == DEPTH:
                mistakes.append(Mistake(*first.place, f"blocks are nested deeper than {DEPTH}"))
                return Lexed(tuple(root), tuple(mistakes))
            stack.append(_Open(first, _labels(words[1:-1], mistakes), []))
        elif brace := next((w for w in words if _is(w, "{") or _is(w, "}")), None):
            mistakes.append(Mistake(*brace.place, f"found {brace.text} within a line, wanted it at the line's end"))
        else:
            into.append(Directive(first, words[1:]))
    for left in reversed(stack):
        mistakes.append(
            Mistake(*left.name.place, f'the block "{left.name.text}" is never closed, wanted a line with }}')
        )
    return Lexed(tuple(root), tuple(sorted(mistakes)))


def _words(line: str, number: int, mistakes: list[Mistake]) -> tuple[Word, ...]:
    words: list[Word] = []
    at = 0
    if line.lstrip(" \t").startswith("#"):
        return ()
    while at < len(line):
        token = _TOKEN.match(line, at)
        place = Place(number, at + 1)
        if token is None:
            mistakes.append(Mistake(*place, _no_token(line[at])))
            return ()
        at = token.end()
        if token.lastgroup == "string":
            try:
                text = str(json.loads(token[0]))
            except ValueError:
                mistakes.append(Mistake(*place, "this string has an escape that is none, wanted those of JSON"))
                return ()
            if any("\ud800" <= c <= "\udfff" for c in text):
                mistakes.append(Mistake(*place, "half of a surrogate pair is no character"))
                return ()
            words.append(Word(text, place, True))
        elif token.lastgroup == "back":
            words.append(Word(token[0][1:-1], place, True))
        elif token.lastgroup != "blank":
            words.append(Word(token[0], place))
    return tuple(words)


def _labels(words: tuple[Word, ...], mistakes: list[Mistake]) -> tuple[Word, ...]:
    for index, word in enumerate(words):
        if _is(word, ",") == (index % 2 == 0) or (_is(word, ",") and index == len(words) - 1):
            mistakes.append(Mistake(*word.place, "found no list of names, wanted names with commas between"))
            break
    return words[::2]


def _is(word: Word, mark: str) -> bool:
    return not word.quoted and word.text == mark


def _no_token(character: str) -> str:
    if character in "\"'":
        kind = "a string that is not closed on its line" if character == '"' else "a single quote"
        return f"found {kind}, wanted double quotes around the value"
    if character == "`":
        return "found a string that is not closed on its line, wanted a backtick at its end"
    if character == "#":
        return "found # within a line, wanted comments on lines of their own"
    shown = f"'{character}'" if character.isprintable() and character.isascii() else f"U+{ord(character):04X}"
    return f"found {shown} in a bare word, wanted double quotes around the value"
