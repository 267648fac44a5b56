"""POST /v1/events: recording. 202 says that all of it is on disk."""

import re
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mailvane.operations.acknowledging import Acknowledged, Rejected, RequestRejected
from mailvane.queue.contract import APPEND_LIMIT
from mailvane.web.answers import Refused, answer
from mailvane.web.api import Api
from mailvane.web.bodies import NoJson, TooMany, events_in
from mailvane.web.guard import body_form

_TOKEN = re.compile(r"[!-~]{1,128}")


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event: its id, or the name of its type if that is switched off."""

    id: int = 0
    disabled: str = ""


class Recorded(msgspec.Struct, frozen=True):
    """All events were judged, and those whose type is on are on disk; `results` by position."""

    recorded: int
    disabled: int
    results: list[Result]


class AllRejected(msgspec.Struct, frozen=True):
    """At least one event is wrong; none was recorded."""

    error: str
    errors: list[Rejected]


async def record(api: Api, request: Request) -> Response:
    api.check_started()
    form = body_form(request.scope["headers"])
    token = _token(request) if request.scope["query_string"] else ""
    async with api.body(request) as body:
        try:
            events = events_in(body, form)
        except NoJson as e:
            raise Refused(HTTPStatus.BAD_REQUEST, str(e)) from None
        except TooMany:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {APPEND_LIMIT:,} events; send them in several requests"
            ) from None
        try:
            done = await api.service.record(events, token)
        except RequestRejected as e:
            return answer(AllRejected(_summary(e.errors, len(events)), e.errors), HTTPStatus.UNPROCESSABLE_ENTITY)
    return answer(_recorded(done), HTTPStatus.ACCEPTED)


def _recorded(done: list[Acknowledged]) -> Recorded:
    disabled = sum([1 for one in done if one.disabled])
    return Recorded(len(done) - disabled, disabled, [Result(one.id, one.disabled) for one in done])


def _token(request: Request) -> str:
    token = request.query_params.get("token", "")
    if token and not _TOKEN.fullmatch(token):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "token: 1 to 128 printable ASCII characters without spaces")
    return token


def _summary(errors: list[Rejected], count: int) -> str:
    first = errors[0]
    where = f"{first.field}: " if first.field else ""
    which = "the event is" if count == 1 else f"{len(errors)} of {count} events are"
    at = "" if count == 1 else f" (at position {first.position})"
    return f"{which} wrong, nothing was recorded; {where}{first.error}{at}"
