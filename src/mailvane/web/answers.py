"""What the API answers: JSON, and every error as `{"error": "…"}` with what is wrong and what to do."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode

JSON = "application/json"


class Refused(Exception):
    """The request is not done; `error` tells a person why. Raised by handlers, answered by the app."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = headers or {}


class Problem(msgspec.Struct, frozen=True):
    """Any answer from 400 on."""

    error: str


def answer(value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """The value as JSON."""
    return sent(_encode(value), status, headers)


def sent(body: bytes, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is encoded already."""
    response = Response(body, status, headers)
    response.raw_headers += _ALWAYS
    return response


def refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> Response:
    return answer(Problem(error), status, headers)


# Nothing of it may be kept by a cache, or be taken for a page by a browser.
_ALWAYS = [
    (b"content-type", JSON.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
