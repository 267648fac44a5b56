"""Where a queue in PostgreSQL is: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME`.

The URL is libpq's (several hosts, a Unix socket by `host=`, `sslmode` and so on); `schema` is ours.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from mailvane.queue.postgresql.errors import BadAddress

PUBLIC = "public"
_SECRET = frozenset({"password", "sslpassword", "passfile", "sslkey"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}")


@dataclass(frozen=True)
class Address:
    """`url` is for the driver; `shown` is for people, without secrets."""

    url: str = field(repr=False)
    schema: str
    shown: str
    several_hosts: bool


def parse_address(url: str) -> Address:
    """Raises BadAddress."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        port = re.search(r":(\d+)$", parts.netloc.rpartition("@")[2])
        if port and not 0 < int(port[1]) < 65536:
            raise ValueError("its port is no number from 1 to 65535")
    except ValueError as e:
        raise BadAddress(f"the queue's URL cannot be read: {e}") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise BadAddress("the queue's URL is no postgresql://…")
    if parts.fragment:
        raise BadAddress("the queue's URL has a #: percent-encode it (%23)")
    schemas = [value for name, value in query if name == "schema"]
    schema = schemas[-1] if schemas else PUBLIC
    if not _NAME.fullmatch(schema):
        raise BadAddress(f"the queue's schema {schema[:70]!r} will not do: letters, digits, _, at most 63")
    rest = [(name, value) for name, value in query if name != "schema"]
    userinfo, at, hosts = parts.netloc.rpartition("@")
    host_names = hosts or next((value for name, value in rest if name == "host"), "")
    shown_query = [(name, value) for name, value in query if name not in _SECRET]
    return Address(
        _url(parts.netloc, parts.path, urlencode(rest, quote_via=quote)),
        schema,
        _url(userinfo.partition(":")[0] + at + hosts, parts.path, urlencode(shown_query, safe="/")),
        "," in host_names,
    )


def _url(authority: str, path: str, query: str) -> str:
    return f"postgresql://{authority}{path}{'?' if query else ''}{query}"
