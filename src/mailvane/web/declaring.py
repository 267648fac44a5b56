"""The words in which an address is declared: from a declaration come its route, who may, and its part of OpenAPI."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from mailvane.web.api import Api

Handler = Callable[[Api, Request], Awaitable[Response]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query string, or of the path if `in_path`; `several`: it may stand more than once."""

    name: str
    about: str
    kind: Literal["string", "integer"] = "string"
    several: bool = False
    in_path: bool = False


@dataclass(frozen=True)
class Body:
    """What a POST carries: one `of`; with `many` also an array of them, or one a line."""

    of: type
    many: bool = False


@dataclass(frozen=True)
class Outcome:
    """An answer of this status; `of` is what its body is as JSON, None for text."""

    status: int
    about: str
    of: type | None


@dataclass(frozen=True)
class Address:
    """A method and a path (as Starlette writes it). `open`: needs no token. Errors that all have are not listed."""

    method: Literal["GET", "POST"]
    path: str
    name: str
    about: str
    handler: Handler
    outcomes: tuple[Outcome, ...]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    open: bool = False
