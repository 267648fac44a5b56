import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mailvane.events.catalogue import FIELDS
from mailvane.operations.inspection import Query
from mailvane.web.app import ALL
from mailvane.web.inspect import QUERY_PARAMETERS
from mailvane.web.openapi import document
from web.serving import run, served

DOCUMENT: dict[str, Any] = json.loads(json.dumps(document(ALL)))
PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_served_document_is_this_one(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            assert (await it.get("/openapi.json")).json == DOCUMENT

    run(test)


def test_it_has_what_openapi_3_1_requires():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert set(DOCUMENT["info"]) >= {"title", "version"}
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names)) == len(ALL)
    for path, method, operation in operations():
        assert path.startswith("/") and method in {"get", "post"}
        assert operation["responses"]
        assert all(answer["description"] and answer["content"] for answer in operation["responses"].values())
        assert all(re.fullmatch(r"[1-5]\d\d|default", status) for status in operation["responses"])
        assert ("requestBody" in operation) == (method == "post")
        in_path = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(p["required"] is (p["in"] == "path") and "schema" in p for p in operation.get("parameters", []))


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to():
    found = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}
    assert found == set(DOCUMENT["components"]["schemas"])


def test_every_route_is_in_it_and_every_operation_is_routed(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for path, method, _ in operations():
                reply = await it.ask(method.upper(), path.replace("{id}", "1"), b"{}" if method == "post" else b"")
                assert reply.status != 405, (method, path)
                assert reply.status != 404 or "event 1" in reply.json["error"], (method, path)

    run(test)
    assert {(m, p) for p, m, _ in operations()} == {(a.method.lower(), a.path.replace(":int", "")) for a in ALL}


def test_an_event_is_described_field_by_field():
    schema = DOCUMENT["components"]["schemas"]["Event"]
    assert set(schema["properties"]) == set(FIELDS)
    assert set(schema["required"]) == {"event_type", "email"}
    assert schema["additionalProperties"] is False


def test_every_member_of_a_query_has_its_parameter():
    assert {*QUERY_PARAMETERS.values(), "all"} == set(Query.__struct_fields__)
    for name in ("list", "count"):
        operation = next(o for _, _, o in operations() if o["operationId"] == name)
        assert {p["name"] for p in operation["parameters"]} - {"after", "limit"} == set(QUERY_PARAMETERS)


def test_the_page_tells_of_every_address_and_parameter():
    page = PAGE.read_text()
    for address in ALL:
        path = address.path.replace(":int", "")
        assert re.search(rf"^### `{address.method} {re.escape(path)}`$", page, re.MULTILINE), path
        for parameter in address.parameters:
            assert f"`{parameter.name}`" in page, parameter.name
