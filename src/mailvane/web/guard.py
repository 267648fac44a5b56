"""Who may ask: the rules that hold for every address, as functions of a request's head.

Over TCP a token is needed once one is configured. On loopback, where there may be none, web pages are the danger: a
page from anywhere can make the browser of somebody on this machine send requests here. So a foreign `Origin` is
refused, a body must be of a type that no page can send without asking first (there is no CORS), and `Host` must name
this machine, or a page could make its own name point here (DNS rebinding). The Unix socket is guarded by its mode.
"""

import hmac
from collections.abc import Sequence
from http import HTTPStatus

from mailvane.clock import Clock
from mailvane.configuration.listen import Listen
from mailvane.configuration.secrets import Secret, SecretMissing
from mailvane.web.answers import Refused
from mailvane.web.bodies import Form

Headers = Sequence[tuple[bytes, bytes]]

JSON_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
TOKEN_HOLDS = 1.0
"""Seconds for which a token that was read from its file is believed."""


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All values of a header; names are in lower case."""
    return [value for key, value in headers if key == name]


def check_host(headers: Headers, listen: Listen) -> None:
    """Raises Refused unless `Host` names this machine's loopback. For a listener on loopback only."""
    hosts = values(headers, b"host")
    if len(hosts) != 1:
        raise Refused(HTTPStatus.BAD_REQUEST, f"a request has one Host header; this one has {len(hosts)}")
    host = _host_alone(hosts[0].decode("latin-1").lower())
    configured = f"[{listen.host}]" if ":" in listen.host else listen.host
    if host not in {"localhost", "127.0.0.1", "[::1]", configured.lower()}:
        raise Refused(
            HTTPStatus.MISDIRECTED_REQUEST,
            "this Host is not served here; the API listens on loopback and answers to localhost, 127.0.0.1, [::1] and"
            " what http_listen names",
        )


def _host_alone(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].removesuffix(".")


def check_origin(headers: Headers) -> None:
    """Raises Refused if a web page of another origin is behind the request."""
    for origin in values(headers, b"origin"):
        hosts = values(headers, b"host")
        if not hosts or origin.lower() not in {b"http://" + hosts[0].lower(), b"https://" + hosts[0].lower()}:
            raise Refused(HTTPStatus.FORBIDDEN, "requests by web pages of another origin are not taken")


def body_form(headers: Headers) -> Form:
    """How a POST's body is to be read. Raises Refused for types that a page can send unasked, and for packed ones."""
    for coding in values(headers, b"content-encoding"):
        if coding.lower() not in {b"", b"identity"}:
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "a packed body is not unpacked here; send it without Content-Encoding",
                {"accept-encoding": "identity"},
            )
    types = values(headers, b"content-type")
    if not types and not values(headers, b"origin"):
        return Form.UNTOLD
    kind = types[0].decode("latin-1").partition(";")[0].strip().lower() if len(types) == 1 else ""
    if kind in JSON_LINES:
        return Form.LINES
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return Form.JSON
    raise Refused(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "wanted Content-Type: application/json, or application/x-ndjson for one object a line",
    )


class Tokens:
    """The configured token, read again when it may have changed."""

    def __init__(self, secret: Secret, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._wanted = b""
        self._read_at = float("-inf")

    def check(self, headers: Headers) -> None:
        """Raises Refused unless the request carries the token as RFC 6750 has it; also if it cannot be read."""
        given = values(headers, b"authorization")
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            raise _unauthorized("this needs the API's token: Authorization: Bearer TOKEN", "")
        if not hmac.compare_digest(token.strip(), self._read()):
            raise _unauthorized("this is not the API's token", ', error="invalid_token"')

    def _read(self) -> bytes:
        now = self._clock.monotonic()
        if now - self._read_at >= TOKEN_HOLDS:
            try:
                self._wanted = self._secret.read().encode()
            except SecretMissing as e:
                # Without what to compare with nobody is let in, whatever was believed before.
                self._read_at = float("-inf")
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"api_token: {e}") from None
            self._read_at = now
        return self._wanted


def _unauthorized(why: str, error: str) -> Refused:
    return Refused(HTTPStatus.UNAUTHORIZED, why, {"www-authenticate": f'Bearer realm="mailvane"{error}'})
