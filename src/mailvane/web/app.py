"""The API as an ASGI application: the guard, then the address's handler; whatever goes wrong is answered as JSON."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from mailvane.errors import MailvaneError, QueueUnavailable
from mailvane.web.addresses import ADDRESSES
from mailvane.web.answers import Refused, refusal
from mailvane.web.api import Api, Gone
from mailvane.web.declaring import Address
from mailvane.web.guard import Tokens, check_host, check_origin
from mailvane.web.openapi import DESCRIPTION

log = logging.getLogger("mailvane.web")

ALL = (*ADDRESSES, DESCRIPTION)


def create_app(api: Api) -> ASGIApp:
    """The whole API over one service. Connections of the Unix socket have `local` in their ASGI state."""
    by_path: dict[str, list[Address]] = {}
    for address in ALL:  # in their order, so that recording is found first
        by_path.setdefault(address.path, []).append(address)
    handlers: Mapping[type[Exception], ExceptionHandler] = {
        Refused: _refused,
        Gone: _gone,
        HTTPException: _not_there,
        QueueUnavailable: _unavailable,
        MemoryError: _no_memory,
        MailvaneError: _cannot,
        Exception: _defect,
    }
    routes = [_route(api, addresses) for addresses in by_path.values()]
    # {id:int} takes digits alone, so it stands in nobody's way.
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # an address is there or it is not
    return Guard(api, app)


class Guard:
    """Refuses who may not ask, before anything else is looked at."""

    def __init__(self, api: Api, app: ASGIApp) -> None:
        settings = api.service.settings
        self._app = app
        self._listen = settings.http_listen if settings.http_listen.loopback else None
        self._tokens = Tokens(settings.api_token, api.service.clock) if settings.api_token else None
        self._open = frozenset(address.path for address in ALL if address.open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_origin(scope["headers"])
            if not scope["state"].get("local"):
                if self._listen is not None:
                    check_host(scope["headers"], self._listen)
                if self._tokens is not None and scope["path"] not in self._open:
                    self._tokens.check(scope["headers"])
        except Refused as e:
            await refusal(e.status, e.error, e.headers)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception:  # the border: `_defect` has answered, what is left is to tell who runs this
            log.exception("a defect at %s %s", scope["method"], scope["path"])


def _route(api: Api, addresses: Sequence[Address]) -> Route:
    by_method = {address.method: address.handler for address in addresses}

    async def endpoint(request: Request) -> Response:
        handler = by_method["POST"] if request.method == "POST" else by_method["GET"]
        return await handler(api, request)

    return Route(addresses[0].path, endpoint, methods=list(by_method))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error.status, error.error, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return refusal(HTTPStatus.BAD_REQUEST, "the request was not complete")  # nobody reads it


async def _unavailable(request: Request, error: Exception) -> Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"retry-after": "5"})


async def _no_memory(request: Request, error: Exception) -> Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "there is no memory for this now", {"retry-after": "5"})


async def _cannot(request: Request, error: Exception) -> Response:
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return refusal(error.status_code, "nothing is here; /openapi.json describes what is")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return refusal(
            error.status_code, f"{request.method} is not for this address; it takes {allowed}", error.headers
        )
    return refusal(error.status_code, error.detail, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of mailvane's; its log has the particulars")
