"""Which addresses events may be posted to, by their form (RFC 3986, with less allowed). Where a host leads is judged
when it is connected to: an odd number such as `0x7f.1` is a good name here.
"""

import ipaddress
import re

from mailvane.destinations.hosts import ascii_name
from mailvane.errors import MailvaneError

_PARTS = re.compile(r"(?i)(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<target>.*)")
_USERINFO = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:%-]*")
_PORT = re.compile(r"[0-9]{1,5}")


class BadUrl(MailvaneError):
    """An address that events cannot be posted to; the text says what is wrong with it and never shows it."""


def ascii_url(url: str, referred: bool = False) -> str:
    """The address with its host in ASCII (punycode). `referred`: a reference leads to it, so that it may have a user
    and password (RFC 3986 section 3.2.1). Raises BadUrl."""
    if not url:
        raise BadUrl("the URL is empty; wanted is http://… or https://…")
    if bad := next((c for c in url if c.isspace() or not c.isprintable()), None):
        kind = "a space" if bad == " " else "a line break" if bad in "\r\n" else f"the character U+{ord(bad):04X}"
        raise BadUrl(f"the URL has {kind} in it; take it out, or percent-encode it")
    if "\\" in url:
        raise BadUrl("the URL has a backslash in it; wanted are slashes")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise BadUrl(f"the URL {_scheme(url)}; wanted is http://… or https://…")
    authority, target = parts["authority"], parts["target"]
    if "#" in target:
        raise BadUrl("the URL has a fragment (#…), which is never sent; take it out")
    userinfo, sign, place = authority.rpartition("@")
    if sign and not referred:
        raise BadUrl(
            "the URL has a user or password in it, which may only stand where a reference leads: keep the whole URL"
            " elsewhere and give it as @file:PATH or @env:NAME"
        )
    if not _USERINFO.fullmatch(userinfo):
        raise BadUrl("the URL's user or password has a character that must be percent-encoded")
    if not target.isascii():
        raise BadUrl("the URL has letters beyond ASCII after its host; percent-encode them")
    host, port = _host_and_port(place)
    return f"{parts['scheme'].lower()}://{userinfo}{sign}{host}{port}{target}"


def _scheme(url: str) -> str:
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,20}(?=:)", url)
    if scheme is None:
        return "has no scheme"
    if scheme[0].lower() in {"http", "https"}:
        return f'lacks "//" after {scheme[0]}:'
    return f"has the scheme {scheme[0]}" if url.startswith("://", scheme.end()) else "has no scheme that is known"


def _host_and_port(authority: str) -> tuple[str, str]:
    bracket = authority.startswith("[")
    host, colon, port = authority.partition("]")[2].partition(":") if bracket else authority.partition(":")
    if bracket:
        host = _ipv6(authority, host)
    elif not host:
        raise BadUrl("the URL has no host")
    else:
        host = _name(host)
    if not colon:
        return host, ""
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise BadUrl("the URL's port is no number from 1 to 65535")
    return host, f":{int(port)}"


def _ipv6(authority: str, rest: str) -> str:
    inner, closed, _ = authority[1:].partition("]")
    try:
        address = ipaddress.IPv6Address(inner) if closed and not rest else None
    except ValueError:
        address = None
    if address is None or address.scope_id:
        raise BadUrl("the URL's host is no IPv6 address; wanted is one like [2001:db8::1]")
    return f"[{address.compressed}]"


def _name(host: str) -> str:
    try:
        return ascii_name(host)
    except ValueError as error:
        raise BadUrl(str(error)) from None
