"""Header fields (RFC 5322, section 2.2) as they come in from the wild: unfolded, decoded, never refused.

Nothing here raises and nothing takes longer than the bytes are many. Bytes that are no UTF-8 become U+FFFD, so no
value ever holds a lone surrogate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header

FIELDS_AT_MOST = 2_000
"""Header fields of one part that are kept; real mail has well below two hundred."""

VALUE_AT_MOST = 65_536
"""Characters of one field that are kept."""


@dataclass(frozen=True, slots=True)
class Headers:
    """The fields of one header block, in their order, names in lower case."""

    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """The first value of *name* (given in lower case), or an empty string."""
        for field, value in self.fields:
            if field == name:
                return value
        return ""

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value of *name* (given in lower case), in the order in which they stand."""
        return tuple(value for field, value in self.fields if field == name)

    def __contains__(self, name: str) -> bool:
        return any(field == name for field, _ in self.fields)

    def __bool__(self) -> bool:
        return bool(self.fields)


def text_of(raw: bytes) -> str:
    """*raw* as text: UTF-8 with U+FFFD for what is none, without NUL."""
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


def is_field_line(line: bytes) -> bool:
    """Does *line* begin a header field: a name of printable characters and a colon?"""
    name, colon, _ = line[:256].partition(b":")
    name = name.rstrip(b" \t")
    return bool(colon and name) and all(0x21 <= byte <= 0x7E for byte in name)


def parse_headers(block: bytes, *, join_stray_lines: bool = False) -> Headers:
    """The fields of *block*, whose lines end in LF.

    A line that is neither field nor continuation is left out, or, with *join_stray_lines*, taken as a continuation:
    some servers break the long lines of a delivery-status block without indenting the rest.
    """
    return Headers(tuple(_fields(block, join_stray_lines)))


def _fields(block: bytes, join_stray_lines: bool) -> Iterator[tuple[str, str]]:
    name = ""
    pieces: list[bytes] = []
    count = 0
    for line in block.split(b"\n"):
        if line[:1] in (b" ", b"\t"):
            pieces.append(line.strip())
        elif is_field_line(line):
            if name:
                yield name, _value(pieces)
            count += 1
            if count > FIELDS_AT_MOST:
                return
            raw_name, _, rest = line.partition(b":")
            name, pieces = text_of(raw_name.rstrip(b" \t")).lower(), [rest.strip()]
        elif join_stray_lines and line:
            pieces.append(line.strip())
    if name:
        yield name, _value(pieces)


def _value(pieces: list[bytes]) -> str:
    return text_of(b" ".join(pieces)[:VALUE_AT_MOST]).strip()


def header_block(raw: bytes) -> tuple[bytes, bytes]:
    """Split *raw* (LF line ends) into its header block and its body.

    A leading mbox line (``From …``) is dropped. What does not begin with a field has no header block.
    """
    if raw.startswith((b"From ", b">From ")):
        raw = raw.partition(b"\n")[2]
    if raw.startswith(b"\n"):
        return b"", raw[1:]
    if not is_field_line(raw[:512].partition(b"\n")[0]):
        return b"", raw
    head, _, body = raw.partition(b"\n\n")
    return head, body


def decoded_words(value: str) -> str:
    """*value* with its encoded words (RFC 2047) decoded, as far as they can be."""
    value = value[:1_000]
    if "=?" not in value:
        return value
    try:
        pieces = decode_header(value)
    except (HeaderParseError, ValueError):
        return value
    words: list[str] = []
    for piece, charset in pieces:
        words.append(piece if isinstance(piece, str) else decode_text(piece, charset or "ascii"))
    return "".join(words)


# Codecs that are no character sets, and two that take quadratic time.
_REFUSED_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})


def decode_text(raw: bytes, charset: str) -> str:
    """*raw* by *charset*, or as UTF-8 where that is unknown or lies; NUL and lone surrogates become U+FFFD."""
    name = charset.strip().strip("\"'").lower().replace("-", "_")
    if name and name not in _REFUSED_CHARSETS and name.isascii() and name.isprintable():
        try:
            text = raw.decode(name, "replace")
        except (LookupError, ValueError):
            text = text_of(raw)
    else:
        text = text_of(raw)
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
