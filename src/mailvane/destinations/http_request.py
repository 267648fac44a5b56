"""An HTTP endpoint's URL taken apart, and the bytes of a request to it (RFC 9110, 9112)."""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes, urlsplit

from mailvane.destinations.contract import HttpPost, Outgoing
from mailvane.destinations.hosts import ascii_name
from mailvane.destinations.texts import TEXT_LIMIT
from mailvane.events.codecs import legacy_form

_UNFIT = re.compile(r"[\x00-\x20\x7f\\]")
_SECRET_LENGTH = 6
"""What is shorter than this is not masked inside of words: it would turn up in them by chance."""


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
    short_secrets: tuple[str, ...] = field(default=(), repr=False)

    def mask(self, text: str) -> str:
        """The text without what only this endpoint may know: secrets wherever they stand, short ones as whole words."""
        cut = len(text) >= TEXT_LIMIT
        for secret in self.secrets:
            text = text.replace(secret, "***")
            if cut:
                text = _without_beginning(text, secret)
        for secret in self.short_secrets:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return text

    def hiding(self, *secrets: str) -> "Endpoint":
        """The same endpoint with more secrets."""
        return replace(self, secrets=_maskable((*self.secrets, *secrets)))


def endpoint(url: str, secret: bool = False) -> Endpoint:
    """Takes a URL apart. Its user, password and query count as secrets; with `secret` its path does too: the whole of
    it was kept out of the configuration, by a reference. Of the query, what is short counts together with its name only
    (`key=7`): alone it would be any number or word.

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
    if not host:
        raise ValueError("the URL has no host")
    ascii_host = host if ":" in host else ascii_name(host)
    tls = parts.scheme == "https"
    shown = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    user, password = unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or "")
    credentials = base64.b64encode(user + b":" + password).decode() if user or password else ""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]|{}^`\"<>")
    words = [*_readings(parts.username or ""), *_readings(parts.password or ""), *_short_pairs(parts.query)]
    secrets = [credentials, *words, *_of_query(parts.query), *_of_query(query)]
    if secret:
        secrets += [reading for part in (*parts.path.split("/"), *path.split("/")) for reading in _readings(part)]
    return Endpoint(
        tls=tls,
        host=ascii_host,
        port=port if port is not None else 443 if tls else 80,
        authority=shown if port is None or port == (443 if tls else 80) else f"{shown}:{port}",
        target=f"{path}?{query}" if parts.query else path,
        authorization=f"Basic {credentials}" if credentials else "",
        secrets=_maskable(secrets),
        short_secrets=tuple(sorted({w for w in words if 0 < len(w) < _SECRET_LENGTH}, key=len, reverse=True)),
    )


def _of_query(query: str) -> Iterator[str]:
    """The query and its values, or what stands there without a name, as sent and as the other side may read them."""
    yield from _readings(query)
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        yield from _readings(value if equals else name)


def _short_pairs(query: str) -> Iterator[str]:
    for pair in query.split("&"):
        value = pair.partition("=")[2]
        if value and len(unquote(value)) < _SECRET_LENGTH:
            yield from _readings(pair)


def _readings(part: str) -> tuple[str, ...]:
    return part, unquote(part), unquote_plus(part)


def _maskable(secrets: Iterable[str]) -> tuple[str, ...]:
    """The longest first: one may stand in another."""
    return tuple(sorted({s for s in secrets if len(s) >= _SECRET_LENGTH}, key=len, reverse=True))


def _without_beginning(text: str, secret: str) -> str:
    """The text, which was cut, without the beginning of a secret that the cut went through."""
    whole = text.removesuffix("…")
    for length in range(len(secret) - 1, _SECRET_LENGTH - 1, -1):
        if whole.endswith(secret[:length]):
            return f"{whole[:-length]}***"
    return text


_NUMBERED = 4_096
_NUMBERS = tuple(b"%d" % n for n in range(_NUMBERED))
"""Lengths and attempts as they are written: to write one anew takes a quarter of what a request takes."""


class RequestForm:
    """Builds requests of one endpoint: what changes stands between fixed parts. The time moves on by `at`."""

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
        self._to_length = "\r\n".join(head).encode() + b"\r\nContent-Length: "
        self._to_id = b"\r\nwebhook-id: %b-" % epoch.encode()
        self.at(now)

    def at(self, now: int) -> None:
        """Sets the time that requests carry from now on (wall clock, seconds)."""
        self._to_attempt = b"\r\nwebhook-timestamp: %d\r\nmailvane-attempt: " % now

    def request(self, event: Outgoing) -> bytes:
        """The whole request."""
        number = str(event.id).encode()
        if not self._json:
            form = legacy_form(event.id, event.body)
            head = (self._to_length, b"%d" % len(form), self._to_id, number, self._to_attempt, b"%d" % event.attempt)
            return b"".join((*head, b"\r\n\r\n", form))
        members = event.body.encode()
        # The legacy object, as codecs.LEGACY_JSON has it: {"id": and , and } are eight bytes.
        length, attempt = len(members) + len(number) + 8, event.attempt
        return b"".join(
            (
                self._to_length,
                _NUMBERS[length] if length < _NUMBERED else b"%d" % length,
                self._to_id,
                number,
                self._to_attempt,
                _NUMBERS[attempt] if attempt < _NUMBERED else b"%d" % attempt,
                b'\r\n\r\n{"id":',
                number,
                b",",
                members,
                b"}",
            )
        )
