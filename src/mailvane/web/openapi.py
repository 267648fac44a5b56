"""`/openapi.json`: the addresses and what travels there, described as OpenAPI 3.1 from their declarations."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mailvane.version import __version__
from mailvane.web.addresses import ADDRESSES
from mailvane.web.answers import JSON, Problem, sent
from mailvane.web.api import Api
from mailvane.web.declaring import Address, Body, Outcome, Parameter

PATH = "/openapi.json"
_REFERENCES = "#/components/schemas/{name}"
Object = dict[str, object]


async def openapi(api: Api, request: Request) -> Response:
    return sent(_document())


DESCRIPTION = Address(
    method="GET",
    path=PATH,
    name="openapi",
    about="This description, as OpenAPI 3.1",
    handler=openapi,
    outcomes=(Outcome(200, "the description", dict),),
)


@cache
def _document() -> bytes:
    return msgspec.json.encode(document((*ADDRESSES, DESCRIPTION)))


def document(addresses: Iterable[Address]) -> Object:
    """The OpenAPI 3.1 object that describes these addresses."""
    addresses = tuple(addresses)
    types = [Problem, *dict.fromkeys(t for a in addresses for t in _types(a))]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_untyped, ref_template=_REFERENCES)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, Object] = {}
    for address in addresses:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", address.path)
        paths.setdefault(path, {})[address.method.lower()] = _operation(address, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailvane",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Records events of email, shows what waits in the queue, and acts on it.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed over TCP once `api_token` is set; the Unix socket in home needs none.",
                }
            },
        },
        "security": [{}, {"token": []}],
    }


def _types(address: Address) -> list[type]:
    outcomes = [o.of for o in address.outcomes if o.of is not None and o.of is not dict]
    return [address.body.of, *outcomes] if address.body else outcomes


def _operation(address: Address, by_type: Mapping[type, Object]) -> Object:
    operation: Object = {"operationId": address.name, "summary": address.about}
    if address.open:
        operation["security"] = [{}]
    if address.parameters:
        operation["parameters"] = [_parameter(p) for p in address.parameters]
    if address.body:
        operation["requestBody"] = _body(address.body, by_type)
    answers: Object = {
        str(o.status): {"description": f"{HTTPStatus(o.status).phrase}: {o.about}", "content": _content(o.of, by_type)}
        for o in address.outcomes
    }
    answers["default"] = {"description": "the request was not done", "content": _content(Problem, by_type)}
    operation["responses"] = answers
    return operation


def _content(of: type | None, by_type: Mapping[type, Object]) -> Object:
    if of is None:
        return {"text/plain": {"schema": {"type": "string"}}}
    return {JSON: {"schema": by_type.get(of, {"type": "object"})}}


def _parameter(parameter: Parameter) -> Object:
    schema: Object = {"type": parameter.kind}
    return {
        "name": parameter.name,
        "in": "path" if parameter.in_path else "query",
        "required": parameter.in_path,
        "description": parameter.about,
        "schema": {"type": "array", "items": schema} if parameter.several else schema,
    }


def _body(body: Body, by_type: Mapping[type, Object]) -> Object:
    schema = by_type[body.of]
    if not body.many:
        return {"required": True, "content": {JSON: {"schema": schema}}}
    array: Object = {"type": "array", "items": schema, "maxItems": 1_000}
    lines: Object = {"type": "string", "description": "one object a line"}
    return {
        "required": True,
        "content": {JSON: {"schema": {"anyOf": [schema, array]}}, "application/x-ndjson": {"schema": lines}},
    }


def _untyped(kind: type) -> Object:
    if kind is object:
        return {"description": "any JSON"}
    raise NotImplementedError
