"""What came from the other side, as text that may stand in a log or a table: short, printable, without secrets."""

import re
from urllib.parse import urlsplit

TEXT_LIMIT = 1_000
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HEX_BYTES = 64


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text, control and invisible characters escaped as Python does it, at most `limit` characters long."""
    text = text[:limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(body: bytes, encoded: bool = False) -> str:
    """The first bytes of a body: as text, or in hex if they are compressed or binary."""
    if encoded or _BINARY.search(body[:TEXT_LIMIT]):
        return f"{len(body)} bytes that are no text, hex {body[:_HEX_BYTES].hex()}"
    # A character that the cut goes through is not the sender's mistake.
    text = body[: 4 * TEXT_LIMIT].decode("utf-8", "backslashreplace")
    return clean(text.strip())


def place(url: str) -> str:
    """Where a URL leads, without what may be secret in it: path, query and credentials."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an address that cannot be read"
    if not host:
        return "another path of the same host"
    return clean(f"{parts.scheme or 'http'}://{host}{f':{port}' if port else ''}/…", 300)
