"""A mail as a flat list of its parts (RFC 2045, 2046), read within bounds.

``email.parser`` recurses and dies at about 2,000 nested parts. This splitter keeps its own stack, goes down
``DEPTH_AT_MOST`` levels and stops at ``PARTS_AT_MOST`` parts; what lies beyond is left unread, and ``Mail.cut`` says
so. Time is bounded by levels times bytes, whatever the bytes are.
"""

import binascii
import html
import quopri
import re
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from mailvane.bounces.headers import Headers, decode_text, header_block, parse_headers

BYTES_AT_MOST = 1_048_576
"""Bytes of a mail that are read for classification."""

DEPTH_AT_MOST = 50
PARTS_AT_MOST = 200

TEXT_AT_MOST = 65_536
"""Characters of text that rules and detectors look at."""

_DRAINED_AT_MOST = 1 << 30

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"?|[^;\s]*)')
_TAG = re.compile(r"<[^<>]*>")

_MESSAGES = frozenset({"message/rfc822", "message/global"})


def read_head(stream: BinaryIO, limit: int = BYTES_AT_MOST) -> bytes:
    """The first *limit* bytes of *stream* and one more if there are more, so that ``parse_mail`` knows of the rest.

    The rest is read and thrown away, up to 1 GiB: a mail server that hands a mail over by pipe takes a reader that
    goes early for a failure. Memory stays at about *limit*. Raises ``OSError`` as the stream does.
    """
    pieces: list[bytes] = []
    have = 0
    while have <= limit:
        piece = stream.read(min(65_536, limit + 1 - have))
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        have += len(piece)
    drained = 0
    while drained < _DRAINED_AT_MOST and (rest := stream.read(65_536)):
        drained += len(rest)
    return b"".join(pieces)


@dataclass(frozen=True, eq=False)
class Part:
    """One part: its headers, its body as it stands, and where it hangs."""

    headers: Headers
    body: bytes
    parent: int
    """Position of the part that this one lies in; -1 for the mail itself."""
    depth: int
    attached: bool
    """Does it lie in a message inside the mail, as the returned message does?"""
    container: bool
    """Was it split further?"""

    @cached_property
    def media_type(self) -> str:
        """Type and subtype in lower case; ``text/plain`` where nothing usable stands."""
        value = self.headers.get("content-type").partition(";")[0].strip().lower()
        return value if "/" in value else "text/plain"

    def parameter(self, name: str) -> str:
        """A parameter of Content-Type, unquoted, or an empty string."""
        return content_parameter(self.headers.get("content-type"), name)

    def content(self) -> bytes:
        """The body with its transfer encoding taken off, as far as that works."""
        encoding = self.headers.get("content-transfer-encoding").strip().lower()
        if encoding == "base64":
            return _unbase64(self.body)
        if encoding == "quoted-printable":
            return quopri.decodestring(self.body).replace(b"\r\n", b"\n")
        return self.body

    def text(self) -> str:
        """The content as text of at most ``TEXT_AT_MOST`` characters, HTML without its tags."""
        text = decode_text(self.content()[: TEXT_AT_MOST * 4], self.parameter("charset") or "utf-8")
        if self.media_type == "text/html":
            breaks = text[: TEXT_AT_MOST * 2].replace("<br", "\n<br").replace("<BR", "\n<BR").replace("</p", "\n</p")
            text = html.unescape(_TAG.sub(" ", breaks))
        return text[:TEXT_AT_MOST]


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail, split: ``parts[0]`` is the mail itself, the rest follows in the order in which it stands."""

    parts: tuple[Part, ...]
    cut: str
    """What was left unread and why, or an empty string."""

    @property
    def headers(self) -> Headers:
        return self.parts[0].headers

    @property
    def cut_note(self) -> str:
        """``cut`` as the tail of a reason."""
        return f"; {self.cut}" if self.cut else ""

    def own_parts(self) -> tuple[Part, ...]:
        """The parts that belong to the mail itself, without those of messages inside it."""
        return tuple(part for part in self.parts if not part.attached)

    def child_of(self, part: Part) -> Part | None:
        """The first part inside *part*: of a ``message/rfc822``, the message."""
        position = self.parts.index(part)
        for child in self.parts[position + 1 :]:
            if child.parent == position:
                return child
        return None


def parse_mail(raw: bytes) -> Mail:
    """Split *raw*, of which only the first ``BYTES_AT_MOST`` bytes are looked at. Never raises."""
    cut = ""
    if len(raw) > BYTES_AT_MOST:
        raw = raw[:BYTES_AT_MOST]
        cut = f"only its first {BYTES_AT_MOST} bytes were read"
    # Bare CR as line end is real (sent by old Macs and by gateways); CR CR LF comes from a doubled conversion.
    lines = raw.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    parts: list[Part] = []
    waiting = [(lines, -1, 0, False)]
    while waiting:
        if len(parts) >= PARTS_AT_MOST:
            cut = cut or f"only its first {PARTS_AT_MOST} parts were read"
            break
        block, parent, depth, attached = waiting.pop()
        head, body = header_block(block)
        headers = parse_headers(head)
        media_type = headers.get("content-type").partition(";")[0].strip().lower()
        inner: list[bytes] = []
        inner_attached = attached
        if media_type.startswith("multipart/"):
            inner = _pieces(body, content_parameter(headers.get("content-type"), "boundary"))
        elif media_type in _MESSAGES and parent >= 0:
            inner, inner_attached = [_message(headers, body)], True
        if inner and depth >= DEPTH_AT_MOST:
            cut = cut or f"only its first {DEPTH_AT_MOST} levels were read"
            inner = []
        position = len(parts)
        parts.append(Part(headers, body, parent, depth, attached, bool(inner)))
        waiting.extend((piece, position, depth + 1, inner_attached) for piece in reversed(inner))
    return Mail(tuple(parts), cut)


def content_parameter(value: str, name: str) -> str:
    """The parameter *name* of a Content-Type like *value*, unquoted, or an empty string."""
    for match in _PARAMETER.finditer(value[:4_096]):
        if match[1].lower() == name:
            found = match[2]
            if found.startswith('"'):
                found = found[1:-1] if found.endswith('"') and len(found) > 1 else found[1:]
                found = found.replace('\\"', '"').replace("\\\\", "\\")
            return found
    return ""


def _pieces(body: bytes, boundary: str) -> list[bytes]:
    """The body parts between the lines of *boundary*, at most ``PARTS_AT_MOST`` and one."""
    if not boundary or len(boundary) > 256:
        return []
    # A literal prefix, so that the scan for it is fast: each level scans its bytes again.
    delimiter = re.compile(re.escape(b"\n--" + boundary.encode("utf-8", "replace")) + rb"(--)?[ \t]*(?=\n|\Z)")
    body = b"\n" + body
    pieces: list[bytes] = []
    start = -1
    for match in delimiter.finditer(body):
        if start >= 0:
            pieces.append(body[start : match.start()])
        start = match.end() + 1
        if match[1] or len(pieces) > PARTS_AT_MOST:
            return pieces
    if 0 <= start < len(body):
        pieces.append(body[start:])
    return pieces


def _message(headers: Headers, body: bytes) -> bytes:
    """The message in a ``message/rfc822`` part; RFC 2046 forbids to encode it, some gateways do."""
    if headers.get("content-transfer-encoding").strip().lower() == "base64":
        return _unbase64(body)
    return body.lstrip(b"\n")


def _unbase64(body: bytes) -> bytes:
    kept = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
    kept = kept[: len(kept) - len(kept) % 4] if len(kept) % 4 == 1 else kept
    try:
        return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4)).replace(b"\r\n", b"\n")
    except binascii.Error:
        return b""
