"""JSON (RFC 8259) with the place of every key and every value.

The standard library's parser tells no places, and of two equal keys it takes the last without a word. Strings are read
by its own scanner; the rest is here. Nesting is bounded, so there is no recursion to run out of.
"""

import re
import unicodedata
from dataclasses import dataclass
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, but not in typeshed
from typing import Final, cast

from mailvane.configuration.mistakes import Broken, Mistake, quoted
from mailvane.configuration.text import Place, Places

DEPTH: Final = 50

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_WORD = re.compile(r"-?[A-Za-z_][A-Za-z0-9_]*")
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, number, true, false or null; `raw` is how a number stands in the file."""

    place: Place
    value: str | int | float | bool | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Array:
    place: Place
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Member:
    key: str
    place: Place
    value: "Node"


@dataclass(frozen=True, slots=True)
class Object:
    """Members in the order of the file; a key that stands twice is here twice, and told as a mistake."""

    place: Place
    members: tuple[Member, ...]


Node = Object | Array | Scalar


@dataclass(frozen=True)
class Document:
    root: Node
    mistakes: tuple[Mistake, ...]
    """Equal keys and lone surrogates: what does not keep the rest from being judged."""


def parse(text: str) -> Document:
    """Raises Broken at the first mistake of syntax."""
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._places = Places(text)
        self._mistakes: list[Mistake] = []

    def document(self) -> Document:
        at = self._blank(0)
        if at == len(self._text):
            raise self._broken(0, "the file is empty; wanted is an object: { … }")
        root, at = self._value(at, 0)
        at = self._blank(at)
        if at < len(self._text):
            raise self._broken(at, f"{self._found(at)} after the end of the value, wanted nothing more")
        return Document(root, tuple(self._mistakes))

    def _value(self, at: int, depth: int) -> tuple[Node, int]:
        place = self._places.at(at)
        first = self._text[at : at + 1]
        if first in {"{", "["} and first:
            if depth == DEPTH:
                raise self._broken(at, f"nested deeper than {DEPTH}")
            return self._object(at, depth) if first == "{" else self._array(at, depth)
        if first == '"':
            value, end = self._string(at)
            return Scalar(place, value), end
        if number := _NUMBER.match(self._text, at):
            return Scalar(place, _number(number), number[0]), number.end()
        word = _WORD.match(self._text, at)
        if word and word[0] in _CONSTANTS:
            return Scalar(place, _CONSTANTS[word[0]]), word.end()
        raise self._broken(at, self._no_value(at, word[0] if word else ""))

    def _object(self, start: int, depth: int) -> tuple[Object, int]:
        members: dict[str, Member] = {}
        twice: list[Member] = []
        at, comma = self._blank(start + 1), -1
        while not self._text.startswith("}", at):
            if not self._text.startswith('"', at):
                raise self._no_key(at, start)
            place = self._places.at(at)
            key, at = self._string(at)
            at = self._blank(at)
            if not self._text.startswith(":", at):
                raise self._broken(at, f"{self._found(at)}, wanted a colon after the key {quoted(key)}")
            value, at = self._value(self._blank(at + 1), depth + 1)
            member = Member(key, place, value)
            if first := members.get(key):
                twice.append(member)
                self._mistakes.append(
                    Mistake(*place, f"the key {quoted(key)} stands here twice, first on line {first.place.line}")
                )
            else:
                members[key] = member
            at, comma = self._after(at, start, "}")
            if comma < 0:
                break
        if comma >= 0:
            raise self._broken(comma, "found a comma that nothing follows, wanted none")
        return Object(self._places.at(start), (*members.values(), *twice)), at + 1

    def _array(self, start: int, depth: int) -> tuple[Array, int]:
        items: list[Node] = []
        at, comma = self._blank(start + 1), -1
        while not self._text.startswith("]", at):
            item, at = self._value(at, depth + 1)
            items.append(item)
            at, comma = self._after(at, start, "]")
            if comma < 0:
                break
        if comma >= 0:
            raise self._broken(comma, "found a comma that nothing follows, wanted none")
        return Array(self._places.at(start), tuple(items)), at + 1

    def _after(self, at: int, start: int, close: str) -> tuple[int, int]:
        """Where the next part begins and where its comma stands; -1 for the comma at the end."""
        at = self._blank(at)
        if self._text.startswith(",", at):
            return self._blank(at + 1), at
        if self._text.startswith(close, at):
            return at, -1
        raise self._broken(at, f"{self._found(at)}, wanted a comma or {close}{self._opened(at, start)}")

    def _string(self, at: int) -> tuple[str, int]:
        try:
            value, end = cast(tuple[str, int], scanstring(self._text, at + 1, True))
        except JSONDecodeError as error:
            raise self._bad_string(at, error) from None
        if any("\ud800" <= c <= "\udfff" for c in value):
            # A pair was joined by the scanner; what is left has no character.
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            offset = self._lone_surrogate(at, end)
            self._mistakes.append(Mistake(*self._places.at(offset), "half of a surrogate pair is no character"))
        return value, end

    def _lone_surrogate(self, start: int, end: int) -> int:
        high: int | None = None
        for escape in _ESCAPE.finditer(self._text, start, end):
            code = int(escape[1], 16) if escape[1] else 0
            if high is not None and not (0xDC00 <= code <= 0xDFFF and escape.start() == high + 6):
                return high
            if high is None and 0xDC00 <= code <= 0xDFFF:
                return escape.start()
            high = escape.start() if 0xD800 <= code <= 0xDBFF else None
        return start if high is None else high

    def _bad_string(self, start: int, error: JSONDecodeError) -> Broken:
        if error.msg.startswith("Unterminated"):
            return self._broken(start, "this string has no closing quotation mark")
        if error.msg.startswith("Invalid control character"):
            if self._text[error.pos] in "\r\n":
                return self._broken(start, "this string has no closing quotation mark on its line")
            code = ord(self._text[error.pos])
            return self._broken(error.pos, f"control character U+{code:04X} in a string; write it as \\u{code:04x}")
        at = self._text.rfind("\\", start, error.pos + 1)
        return self._broken(at if at >= 0 else start, "no such escape; a backslash itself is written \\\\")

    def _no_key(self, at: int, start: int) -> Broken:
        found = self._text[at : at + 1]
        if found in {"/", "#"}:
            return self._broken(at, "JSON has no comments; take it out")
        wanted = "a key in double quotes" if found else "a key or }"
        return self._broken(at, f"{self._found(at)}, wanted {wanted}{self._opened(at, start)}")

    def _no_value(self, at: int, word: str) -> str:
        if self._text.startswith(("//", "/*", "#"), at):
            return "JSON has no comments; take it out"
        if word.lower() in _CONSTANTS:
            return f"{word} is written {word.lower()} in JSON"
        if word.lower() in {"nan", "infinity", "-infinity", "inf", "-inf"}:
            return f"{word} is no number in JSON"
        return f"{self._found(at)}, wanted a value"

    def _found(self, at: int) -> str:
        if at >= len(self._text):
            return "the file ends"
        if word := _WORD.match(self._text, at):
            return f"found {quoted(word[0])}"
        character = self._text[at]
        if "!" <= character <= "~":
            return f"found '{character}'"
        return f"found U+{ord(character):04X} ({unicodedata.name(character, 'a control character')})"

    def _opened(self, at: int, start: int) -> str:
        if at < len(self._text):
            return ""
        return f"; {self._text[start]} was opened on line {self._places.at(start).line}"

    def _broken(self, at: int, message: str) -> Broken:
        # At the end of the file the place is the last that has something.
        at = min(at, len(self._text.rstrip()))
        return Broken(Mistake(*self._places.at(at), message))

    def _blank(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        return found.end() if found else at


def _number(match: re.Match[str]) -> int | float:
    # Python refuses to make an int of more than 4,300 digits; nothing here needs more than 18.
    whole = match[2] is None and match[3] is None and len(match[0]) <= 18
    return int(match[0]) if whole else float(match[0])
