"""Studio's switches, for commands that find the queue in this process's hands."""

from difflib import get_close_matches
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mailvane.queue.studio import COLUMNS
from mailvane.web.answers import Refused, answer
from mailvane.web.api import Api
from mailvane.web.inspect import read_one


class StudioStates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Types of events, each with whether Studio's are recorded."""

    states: dict[str, bool]


async def switch_studio(api: Api, request: Request) -> Response:
    """Sets those that are named; answers with all that are known."""
    wanted = (await read_one(api, request, StudioStates)).states
    for name in wanted:
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(COLUMNS)}"
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name[:100]!r} has no switch of Studio's; {hint}")
    if not wanted:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, 'which? Such as {"states": {"scomp": true}}')
    return answer(StudioStates(dict(await api.service.switch_studio(wanted))))
