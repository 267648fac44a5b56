"""An HTTP endpoint's URL taken apart, and the bytes of a request to it (RFC 9110, 9112)."""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

from mailvane.destinations.contract import HttpPost, Outgoing
from mailvane.events.codecs import legacy_form

_UNFIT = re.compile(r"[\x00-\x20\x7f\\]")
_SECRET_LENGTH = 6
"""What is shorter than this is not masked in texts: it would turn up in them by chance."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go: what is connected to, and what is said there. `secrets` never stand in a text for people."""

    tls: bool
    host: str
    port: int
    authority: str
    target: str
    authorization: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def mask(self, text: str) -> str:
        """The text without what only this endpoint may know."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def endpoint(url: str, secret: bool = False) -> Endpoint:
    """Takes a URL apart. `secret` says that the whole of it was kept out of the configuration, by a reference.

    Raises ValueError with a reason that names no part of the URL.
    """
    if _UNFIT.search(url):
        raise ValueError("the URL has a space, a control character or a backslash in it")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise ValueError("the URL's host or port cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("the URL must begin with http:// or https://")
    if parts.fragment:
        raise ValueError("the URL has a fragment (#), which is never sent")
    ascii_host = _ascii_host(host)
    tls = parts.scheme == "https"
    shown = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    user, password = unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or "")
    credentials = base64.b64encode(user + b":" + password).decode() if user or password else ""
    secrets = [credentials, password.decode("utf-8", "replace"), parts.password or ""]
    if secret:
        secrets += [parts.query, *(value for _, value in parse_qsl(parts.query)), *parts.path.split("/")]
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]|{}^`\"<>")
    return Endpoint(
        tls=tls,
        host=ascii_host,
        port=port if port is not None else 443 if tls else 80,
        authority=shown if port is None or port == (443 if tls else 80) else f"{shown}:{port}",
        target=f"{path}?{query}" if parts.query else path,
        authorization=f"Basic {credentials}" if credentials else "",
        secrets=tuple(sorted({s for s in secrets if len(s) >= _SECRET_LENGTH}, key=len, reverse=True)),
    )


def _ascii_host(host: str) -> str:
    """The host as the resolver, SNI and the Host header have it: names with other letters as punycode (RFC 3490)."""
    if not host:
        raise ValueError("the URL has no host")
    if ":" in host:
        return host
    try:
        named = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("the URL's host is no host name") from None
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", named):
        raise ValueError("the URL's host is no host name")
    return named


class RequestForm:
    """Builds requests of one endpoint by filling in one template; the time in it moves on by `at`."""

    def __init__(self, spec: HttpPost, to: Endpoint, epoch: str, user_agent: str, now: int) -> None:
        self._json = spec.json
        content = "application/json" if spec.json else "application/x-www-form-urlencoded"
        head = [
            f"POST {to.target} HTTP/1.1",
            f"Host: {to.authority}",
            f"User-Agent: {spec.user_agent or user_agent}",
            f"Content-Type: {content}",
            "Accept-Encoding: identity",
        ]
        if to.authorization:
            head.append(f"Authorization: {to.authorization}")
        if spec.keep_alive == 0:
            head.append("Connection: close")
        if any(re.search(r"[\x00-\x1f\x7f]", line) for line in head):
            raise ValueError("a line break or control character would go into a header")
        fixed = "\r\n".join(head).encode().replace(b"%", b"%%")
        self._before = fixed + b"\r\nContent-Length: %%d\r\nwebhook-id: %b-%%b\r\nwebhook-timestamp: " % epoch.encode()
        body = b'{"id":%b,%b}' if spec.json else b"%b"
        self._after = b"\r\nmailvane-attempt: %d\r\n\r\n" + body
        self.at(now)

    def at(self, now: int) -> None:
        """Sets the time that requests carry from now on (wall clock, seconds)."""
        self._template = b"%b%d%b" % (self._before, now, self._after)

    def request(self, event: Outgoing) -> bytes:
        """The whole request."""
        number = b"%d" % event.id
        if self._json:
            members = event.body.encode()
            # {"id": and , and } are eight bytes.
            return self._template % (len(members) + len(number) + 8, number, event.attempt, number, members)
        body = legacy_form(event.id, event.body)
        return self._template % (len(body), number, event.attempt, body)
