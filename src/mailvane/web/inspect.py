"""Looking at the events in the queue, and acting on them."""

from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from http import HTTPStatus
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mailvane.operations.inspection import Inspection, Query
from mailvane.operations.parts import Act, Acted, Part, cannot_be_meant
from mailvane.web.answers import Refused, answer, sent
from mailvane.web.api import Api
from mailvane.web.bodies import Form
from mailvane.web.guard import body_form

PAGE = 100
PAGE_LIMIT = 1_000
PAGE_BYTES = 1024 * 1024
ID_MAX = 2**63 - 1

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode

QUERY_PARAMETERS: Mapping[str, str] = {
    "id": "ids",
    "type": "types",
    "email": "email",
    "list": "list",
    "since": "since",
    "until": "until",
    "state": "state",
    "destination": "destination",
    "delivered_since": "delivered_since",
    "delivered_until": "delivered_until",
}
"""How the members of Query are called in an address; those of `ids` and `types` may stand several times."""
_SEVERAL = frozenset({"id", "type"})


class Page(msgspec.Struct, frozen=True):
    """Events in the order of their ids, each the legacy object plus `state`.

    `next` is what to give as `after` for those that follow; null at the end.
    """

    events: list[dict[str, object]]
    next: int | None


class Counted(msgspec.Struct, frozen=True):
    """How many events there are."""

    count: int


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A destination by its name in the status report; `__legacy__` is all of the legacy configuration's."""

    destination: str


class Chosen(msgspec.Struct, frozen=True):
    """The destinations that it was done to."""

    destinations: list[str]


async def select(api: Api, request: Request) -> Response:
    query = query_in(request, ("after", "limit"))
    after = _whole(request, "after", 0, 0, ID_MAX)
    limit = _whole(request, "limit", PAGE, 1, PAGE_LIMIT)

    def page(inspection: Inspection) -> bytes:
        found: list[bytes] = []
        size, last, following = 0, after, b"null"
        for seen in inspection.select(query, after, limit + 1):
            one = _encode(seen.legacy())
            if len(found) == limit or (found and size + len(one) > PAGE_BYTES):
                following = str(last).encode()
                break
            found.append(one)
            size += len(one)
            last = seen.row.id
        return b'{"events":[%b],"next":%b}' % (b",".join(found), following)

    api.check_started()
    async with api.looking:
        return sent(await api.service.inspect(page))


async def count(api: Api, request: Request) -> Response:
    query = query_in(request)
    api.check_started()
    async with api.looking:
        return answer(Counted(await api.service.inspect(lambda inspection: inspection.count(query))))


async def show(api: Api, request: Request) -> Response:
    event_id = int(request.path_params["id"])
    api.check_started()
    shown = None
    if event_id <= ID_MAX:
        async with api.looking:
            shown = await api.service.inspect(lambda inspection: inspection.show(event_id))
    if shown is None:
        raise Refused(HTTPStatus.NOT_FOUND, f"event {event_id} is not in the queue: delivered, dropped, or never there")
    return answer(shown)


async def retry(api: Api, request: Request) -> Response:
    return await _act(api, request, Act.RETRY, api.service.acts.retry)


async def drop(api: Api, request: Request) -> Response:
    return await _act(api, request, Act.DROP, api.service.acts.drop)


async def replay(api: Api, request: Request) -> Response:
    return await _act(api, request, Act.REPLAY, api.service.acts.replay)


async def _act(api: Api, request: Request, act: Act, do: Callable[[Query, Part], Awaitable[Acted]]) -> Response:
    part, dry = _part_in(request)
    query = await _meant(api, request, act)
    async with api.looking:
        return answer(await (api.service.acts.would(act, query) if dry else do(query, part)))


def _part_in(request: Request) -> tuple[Part, bool]:
    """Which part of what is meant an address asks for, and whether it is a dry run. Raises Refused."""
    known = ("after", "upto", "limit", "dry_run")
    if unknown := next((name for name in request.query_params if name not in known), None):
        hint = f"known are {', '.join(known)}; which events are meant stands in the body"
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{unknown[:100]}: unknown parameter; {hint}")
    dry = request.query_params.getlist("dry_run")
    if dry not in ([], ["true"], ["false"]):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "dry_run: wanted true or false")
    part = Part(
        _whole(request, "after", 0, 0, ID_MAX),
        _whole(request, "upto", 0, 0, ID_MAX) if "upto" in request.query_params else None,
        _whole(request, "limit", 1, 1, PAGE_LIMIT) if "limit" in request.query_params else None,
    )
    return part, dry == ["true"]


async def pause(api: Api, request: Request) -> Response:
    name = await _named(api, request)
    return await _chosen(api, name, await api.service.acts.pause(name))


async def resume(api: Api, request: Request) -> Response:
    name = await _named(api, request)
    return await _chosen(api, name, await api.service.acts.resume(name))


def query_in(request: Request, others: tuple[str, ...] = ()) -> Query:
    """The query that an address asks. Raises Refused."""
    given: dict[str, object] = {}
    for name in request.query_params:
        if name in others:
            continue
        values = request.query_params.getlist(name)
        if name not in QUERY_PARAMETERS:
            near = get_close_matches(name, [*QUERY_PARAMETERS, *others], n=1)
            hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join([*QUERY_PARAMETERS, *others])
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name[:100]}: unknown parameter; {hint}")
        if name in _SEVERAL:
            given[QUERY_PARAMETERS[name]] = values
        elif len(values) > 1:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: stands {len(values)} times; it may stand once")
        else:
            given[QUERY_PARAMETERS[name]] = values[0]
    try:
        return _checked(msgspec.convert(given, Query, strict=False))
    except msgspec.ValidationError as e:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(e)[:300]) from None


def _checked(query: Query) -> Query:
    for number in (*query.ids, query.since, query.until, query.delivered_since, query.delivered_until):
        if number is not None and not -ID_MAX <= number <= ID_MAX:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "a number is too large: ids and times have 63 bits")
    if any("\0" in text for text in (*query.types, query.email, query.list, query.destination)):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "a NUL stands in no event")
    if any("\ud800" <= c <= "\udfff" for text in (*query.types, query.email, query.list) for c in text):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "a lone surrogate stands in no event")
    return query


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    values = request.query_params.getlist(name)
    if not values:
        return default
    text = values[0]
    if len(values) > 1 or not text.isascii() or not text.isdigit() or len(text) > 19 or not least <= int(text) <= most:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: wanted one whole number from {least} to {most}")
    return int(text)


async def read_one(api: Api, request: Request, kind: type[T]) -> T:
    """The one JSON object of a body. Raises Refused."""
    api.check_started()
    if body_form(request.scope["headers"]) is Form.LINES:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "wanted one JSON object, Content-Type: application/json")
    async with api.body(request) as body:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as e:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(e)[:300]) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {str(e)[:200]}") from None


async def _meant(api: Api, request: Request, act: Act) -> Query:
    query = await read_one(api, request, Query)
    if why := cannot_be_meant(act, query):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, why)
    if query.empty:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f'which events? Say what they have in common, or {{"all": true}} to {act} all',
        )
    return _checked(query)


async def _named(api: Api, request: Request) -> str:
    return (await read_one(api, request, Named)).destination


async def _chosen(api: Api, name: str, names: list[str]) -> Response:
    if not names:
        known = ", ".join([route.destination for route in await api.service.routes()])
        raise Refused(
            HTTPStatus.NOT_FOUND,
            f"no destination is called {name[:200]!r}; " + (f"there are {known}" if known else "there are none"),
        )
    return answer(Chosen(names))
