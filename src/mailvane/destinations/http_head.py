"""The head of an answer: what its status line and headers say (RFC 9112), and how far its framing can be relied on.

The head goes to httptools (llhttp, strict) in one piece, without the headers that frame the body: llhttp refuses a head
with dubious framing whole, and the status would be lost with it. The framing is judged here.
"""

import re

import httptools
import msgspec

from mailvane.destinations.texts import clean

HEADERS_LIMIT = 100
_KNOWN_HEADS = 256
_KNOWN_HEAD_BYTES = 2048
_FRAMING = re.compile(rb"\r\n(?:content-length|transfer-encoding):[^\r]*", re.IGNORECASE)


class Head(msgspec.Struct, frozen=True):
    """What the head of an answer says. `length`: of the body; None if it goes on until the connection is closed.

    `honest`: how the body is framed is beyond doubt.
    """

    status: int
    reason: str = ""
    length: int | None = None
    chunked: bool = False
    honest: bool = True
    keep_alive: bool = True
    encoded: bool = False
    retry_after: str = ""
    location: str = ""


class Broken(Exception):
    """These bytes are not HTTP; the text says why."""


class _Collector:
    """What httptools reports of a head."""

    def __init__(self) -> None:
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip()))


def parse_head(head: bytes) -> Head:
    """Reads a head, from the status line to the empty line. Raises Broken."""
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(_FRAMING.sub(b"", head))
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise Broken(str(error)) from None
    status = parser.get_status_code()
    version = parser.get_http_version()
    if not 100 <= status <= 599 or version not in ("1.0", "1.1"):
        raise Broken(f"status {status} of HTTP/{version}")
    framing = [line[2:].partition(b":") for line in _FRAMING.findall(head)]
    if len(collector.headers) + len(framing) > HEADERS_LIMIT:
        raise Broken(f"more than {HEADERS_LIMIT} headers")
    values: dict[bytes, list[bytes]] = {}
    for name, value in collector.headers:
        values.setdefault(name, []).append(value)
    length, chunked, honest = _framing([(name.lower(), value.strip(b" \t")) for name, _, value in framing], version)
    if status < 200 or status in (204, 304):
        length, chunked = 0, False
    options = b",".join(values.get(b"connection", [])).lower().replace(b" ", b"").split(b",")
    keeps = b"close" not in options and (version == "1.1" or b"keep-alive" in options)
    encodings = b",".join(values.get(b"content-encoding", [])).strip().lower()
    return Head(
        status=status,
        reason=clean(collector.reason.decode("latin-1"), 100),
        length=length,
        chunked=chunked,
        honest=honest,
        keep_alive=keeps and honest and (length is not None or chunked),
        encoded=encodings not in (b"", b"identity"),
        retry_after=clean(b", ".join(values.get(b"retry-after", [])).decode("latin-1"), 200),
        location=b"".join(values.get(b"location", [])[:1]).decode("latin-1"),
    )


def _framing(lines: list[tuple[bytes, bytes]], version: str) -> tuple[int | None, bool, bool]:
    """Length, chunked, honest (RFC 9112, 6.3): one Content-Length, or Transfer-Encoding: chunked, or neither."""
    match lines:
        case []:
            return None, False, True
        case [(b"content-length", digits)] if digits.isdigit() and len(digits) < 16:
            return int(digits), False, True
        case [(b"transfer-encoding", coding)] if coding.lower() == b"chunked" and version == "1.1":
            return None, True, True
        case _:
            return None, False, False


class Heads:
    """Heads seen before, by their bytes: an endpoint sends few different ones."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def parse(self, head: bytes) -> Head:
        """See parse_head."""
        known = self._known.get(head)
        if known is None:
            known = parse_head(head)
            if len(self._known) >= _KNOWN_HEADS:
                self._known.clear()
            if len(head) <= _KNOWN_HEAD_BYTES:
                self._known[head] = known
        return known
