"""How things stand: for people, for supervisors, for Prometheus."""

from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mailvane.operations.metrics import CONTENT_TYPE
from mailvane.web.answers import answer
from mailvane.web.api import Api

TRY_WITHIN = 1.0


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    alive: bool = True


class Ready(msgspec.Struct, frozen=True):
    """Whether events are taken; if not, why."""

    ready: bool
    error: str = ""


async def healthz(api: Api, request: Request) -> Response:
    return answer(Alive())


async def readyz(api: Api, request: Request) -> Response:
    if trouble := api.trouble or await api.service.queue.tried(TRY_WITHIN):
        return answer(Ready(False, trouble), HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "1"})
    return answer(Ready(True))


async def status(api: Api, request: Request) -> Response:
    api.check_started()
    return answer(await api.service.status())


async def metrics(api: Api, request: Request) -> Response:
    api.check_started()
    return Response(await api.service.exposition(), headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})
