import asyncio
import json
from pathlib import Path

import pytest

from mailvane.queue.contract import Filter
from support.endpoint import Endpoint
from support.homes import posts_to
from web.serving import EVENT, Served, run, served


def numbered(n: int, **fields: object) -> dict[str, object]:
    return EVENT | {"email": f"u{n}@example.com", "event_time": 1_790_000_000 + n} | fields


async def until(it: Served, path: str, ready: object) -> None:
    """Asks until the answer's `ready` says so: what happens meanwhile is the processor's."""
    while not ready((await it.get(path)).json):  # type: ignore[operator]
        await asyncio.sleep(0.005)


def test_events_are_listed_as_legacy_objects_with_their_state_page_by_page(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            ids = await it.record(*[numbered(n) for n in range(7)])
            seen: list[int] = []
            after, pages = 0, 0
            while after is not None:
                page = (await it.get(f"/v1/events?after={after}&limit=3")).json
                seen += [event["id"] for event in page["events"]]
                after, pages = page["next"], pages + 1
            assert (seen, pages) == (ids, 3)
            event = (await it.get("/v1/events")).json["events"][0]
            assert (event["email"], event["state"], event["bounce_code"]) == ("u0@example.com", "left", None)

    run(test)


def test_a_page_ends_where_it_would_grow_too_large(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for n in range(5):
                await it.record(*[numbered(n, bounce_text="x" * 60_000)] * 10)
            reply = await it.get("/v1/events?limit=1000")
            assert 1 <= len(reply.json["events"]) < 50
            assert len(reply.body) < 1_100_000
            rest = (await it.get(f"/v1/events?limit=1000&after={reply.json['next']}")).json
            assert len(reply.json["events"]) + len(rest["events"]) + (0 if rest["next"] is None else 50) >= 34

    run(test)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=bounce_all", [0, 1, 2]),
        ("type=scomp", [3]),
        ("type=scomp&type=bounce_all", [0, 1, 2, 3]),
        ("type=SCOMP", [3]),
        ("email=u2@example.com", [2]),
        ("email=u*@example.com", [0, 1, 2, 3]),
        ("list=b2", [1]),
        ("since=1790000001&until=1790000003", [1, 2]),
        ("state=left", [0, 1, 2, 3]),
        ("state=deferred", []),
        ("destination=__legacy__", [0, 1, 2, 3]),
        ("destination=nowhere", []),
        ("", [0, 1, 2, 3]),
    ],
)
def test_filters_choose_and_count_agrees(short_folder: Path, query: str, found: list[int]):
    async def test() -> None:
        async with served(short_folder, enable=("bounce_all", "scomp")) as it:
            ids = await it.record(numbered(0), numbered(1, listid="b2"), numbered(2), numbered(3, event_type="scomp"))
            page = (await it.get("/v1/events?" + query)).json
            assert [event["id"] for event in page["events"]] == [ids[n] for n in found]
            assert (await it.get("/v1/events/count?" + query)).json == {"count": len(found)}
            chosen = "&".join(f"id={ids[n]}" for n in (1, 3))
            assert (await it.get("/v1/events/count?" + chosen)).json == {"count": 2}

    run(test)


@pytest.mark.parametrize(
    "query",
    [
        "typ=bounce_all", "id=x", "since=yesterday", "state=gone", "since=1&since=2", "limit=0", "limit=1001",
        "limit=x", "after=-1", "after=99999999999999999999", "id=9223372036854775808", "email=%00",
        "email=%ED%A0%80&id=99999999999999999999",
    ],
)  # fmt: skip
def test_queries_that_mean_nothing_are_told_so(short_folder: Path, query: str):
    async def test() -> None:
        async with served(short_folder) as it:
            reply = await it.get("/v1/events?" + query)
            assert (reply.status, set(reply.json)) == (422, {"error"})

    run(test)


def test_one_event_is_shown_with_its_way(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            (id_,) = await it.record(numbered(1))
            shown = (await it.get(f"/v1/events/{id_}")).json
            assert (shown["event"]["id"], shown["event"]["state"], shown["state"]) == (id_, "left", "left")
            assert (shown["attempts"], shown["due"], shown["last_error"]) == (0, None, "")
            assert abs(shown["recorded"] - it.service.clock.wall()) < 60
            assert shown["event_unique_id"].endswith(f"-{it.service.queue.epoch}-{id_}")
            for missing in ("99", "9223372036854775807", "9223372036854775808", "1" * 400):
                assert (await it.get("/v1/events/" + missing)).status == 404
            for nothing in ("x", "-1", "1.5", ""):
                assert (await it.get("/v1/events/" + nothing)).status == 404

    run(test)


def test_what_failed_is_shown_and_made_due_by_retry(short_folder: Path, make_endpoint: object):
    async def test() -> None:
        with Endpoint(500) as endpoint:
            async with served(short_folder, rules=posts_to(endpoint.url())) as it:
                (id_,) = await it.record(numbered(1))
                await until(it, f"/v1/events/{id_}", lambda shown: shown["state"] == "deferred")
                shown = (await it.get(f"/v1/events/{id_}")).json
                assert (shown["attempts"], "500" in shown["last_error"]) == (1, True)
                assert shown["destination"] == f"http_post {endpoint.url()}"
                assert (await it.get("/v1/events/count?state=deferred")).json == {"count": 1}
                endpoint.answer = 200
                reply = await it.post("/v1/events/retry", {"ids": [id_]})
                assert (reply.status, reply.json) == (200, {"matched": 1})
                await until(it, "/v1/status", lambda status: status["queue"]["events"] == 0)
                assert [request.attempt for request in endpoint.requests] == [1, 2]

    run(test)


def test_drop_deletes_what_is_meant_and_only_all_means_all(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            await it.record(*[numbered(n) for n in range(5)])
            for nothing in ({}, {"all": False}, {"ids": []}):
                for act in ("drop", "retry"):
                    assert (await it.post(f"/v1/events/{act}", nothing)).status == 422
            assert (await it.post("/v1/events/drop", {"email": "u3@example.com"})).json == {"matched": 1}
            assert (await it.get("/v1/events/count")).json == {"count": 4}
            assert (await it.post("/v1/events/drop", {"all": True})).json == {"matched": 4}
            books = (await it.get("/v1/status")).json["books"]
            assert (books["recorded"], books["deleted"], books["waiting"]) == (5, 5, 0)

    run(test)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"emial": "x"}', 422), (b'{"ids": ["x"]}', 422), (b"[]", 422), (b"{", 400), (b"", 400), (b"\xff", 400),
        (b'{"ids": [9223372036854775808]}', 422), (b'{"email": "\\u0000"}', 422), (b"[" * 5_000, 422),
    ],
)  # fmt: skip
def test_acts_that_mean_nothing_do_nothing(short_folder: Path, body: bytes, status: int):
    async def test() -> None:
        async with served(short_folder) as it:
            await it.record(numbered(1))
            reply = await it.post("/v1/events/drop", body)
            assert reply.status in {status, 400}
            assert (await it.get("/v1/events/count")).json == {"count": 1}
            lines = await it.post("/v1/events/drop", {"all": True}, content_type="application/x-ndjson")
            assert lines.status == 415

    run(test)


def test_a_destination_is_paused_and_resumed_by_name(short_folder: Path):
    async def test() -> None:
        with Endpoint(200) as endpoint:
            async with served(short_folder, rules=posts_to(endpoint.url())) as it:
                await it.record(numbered(0))
                await until(it, "/v1/status", lambda status: status["queue"]["events"] == 0)
                name = f"http_post {endpoint.url()}"
                assert (await it.post("/v1/events/pause", {"destination": name})).json == {"destinations": [name]}
                await it.record(numbered(1))
                assert (await it.get("/v1/status")).json["destinations"][0]["routes"][0]["state"] == "paused"
                unknown = await it.post("/v1/events/pause", {"destination": "http://nowhere/"})
                assert (unknown.status, name in unknown.json["error"]) == (404, True)
                assert (await it.post("/v1/events/pause", {})).status == 422
                assert (await it.get("/v1/events/count")).json == {"count": 1}
                resumed = await it.post("/v1/events/resume", {"destination": "__legacy__"})
                assert resumed.json == {"destinations": [name]}
                await until(it, "/v1/status", lambda status: status["queue"]["events"] == 0)
                assert len(endpoint.requests) == 2

    run(test)


def test_without_delivery_people_see_what_the_last_good_plan_says(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, deliver=False, rules=posts_to("http://127.0.0.1:9/hook")) as it:
            (id_,) = await it.record(numbered(1))
            name = "http_post http://127.0.0.1:9/hook"
            shown = (await it.get(f"/v1/events/{id_}")).json
            assert (shown["state"], shown["destination"]) == ("waiting", name)
            status = (await it.get("/v1/status")).json
            routes = [(route["destination"], route["state"]) for route in status["destinations"][0]["routes"]]
            assert (routes, status["queue"]["in_flight"]) == ([(name, "ok")], None)
            assert (await it.get("/metrics")).body.count(b"mailvane_paused{") == 1

    run(test)


@pytest.mark.parametrize("named", ["http_post http://127.0.0.1:9/hook", "__legacy__"])
def test_without_delivery_destinations_are_paused_and_resumed_for_who_delivers_next(short_folder: Path, named: str):
    async def test() -> None:
        async with served(short_folder, deliver=False, rules=posts_to("http://127.0.0.1:9/hook")) as it:
            name = "http_post http://127.0.0.1:9/hook"
            gone = "http_post http://gone.example/"
            await it.service.queue.keep("paused", f'["{gone}"]')
            assert (await it.post("/v1/events/pause", {"destination": named})).json == {"destinations": [name]}
            assert (await it.get("/v1/status")).json["destinations"][0]["routes"][0]["state"] == "paused"
            assert json.loads(await it.service.queue.kept("paused") or "") == [name, gone]
            unknown = await it.post("/v1/events/pause", {"destination": "http://nowhere/"})
            assert (unknown.status, name in unknown.json["error"]) == (404, True)
            assert (await it.post("/v1/events/resume", {"destination": named})).json == {"destinations": [name]}
            left = [] if named == "__legacy__" else [gone]
            assert json.loads(await it.service.queue.kept("paused") or "") == left

    run(test)


def test_acts_go_page_by_page_up_to_what_was_there_when_they_began(short_folder: Path, monkeypatch: pytest.MonkeyPatch):
    async def test() -> None:
        async with served(short_folder) as it:
            ids = [i for _ in range(3) for i in await it.record(*[numbered(n) for n in range(1_000)])]
            pages: list[int] = []
            delete = it.service.queue.delete

            async def meanwhile(which: Filter) -> int:
                pages.append(len(which.ids))
                if len(pages) == 1:
                    await delete(Filter(ids=tuple(ids[1_000:2_000])))
                    pages.append((await it.record(numbered(1)))[0])
                return await delete(which)

            monkeypatch.setattr(it.service.queue, "delete", meanwhile)
            assert (await it.post("/v1/events/drop", {"all": True})).json == {"matched": 2_000}
            assert pages == [1_000, 3_001, 1_000]
            assert [event["id"] for event in (await it.get("/v1/events")).json["events"]] == [3_001]

    run(test)


@pytest.mark.parametrize("act", ["retry", "drop", "replay"])
@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?dry_run=yes", {"all": True}),
        ("?limit=0", {"all": True}),
        ("?limit=1001", {"all": True}),
        ("?after=x", {"all": True}),
        ("?type=scomp", {"all": True}),
        ("", {"all": True, "delivered_since": 2**63}),
    ],
)
def test_parts_that_mean_nothing_are_told_so(short_folder: Path, act: str, query: str, body: dict[str, object]):
    async def test() -> None:
        async with served(short_folder) as it:
            assert (await it.post(f"/v1/events/{act}{query}", body)).status == 422

    run(test)


def test_acts_go_in_parts_up_to_what_was_there_at_first(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for n in range(5):
                await it.post("/v1/events", numbered(n))
            assert (await it.post("/v1/events/drop?dry_run=true", {"all": True})).json == {"matched": 5, "upto": 5}
            await it.post("/v1/events", numbered(5))
            part = (await it.post("/v1/events/drop?after=0&upto=5&limit=2", {"all": True})).json
            assert part == {"matched": 2, "next": 2}
            part = (await it.post("/v1/events/drop?after=2&upto=5&limit=3", {"all": True})).json
            assert part == {"matched": 3, "next": 5}
            assert (await it.post("/v1/events/drop?after=5&upto=5&limit=3", {"all": True})).json == {"matched": 0}
            assert (await it.get("/v1/events/count")).json == {"count": 1}

    run(test)


def test_only_delivered_events_are_replayed_and_only_waiting_ones_dropped(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            await it.post("/v1/events", numbered(1))
            refused = await it.post("/v1/events/replay", {"state": "deferred"})
            assert refused.status == 422 and "only delivered ones" in refused.json["error"]
            for act in ("drop", "retry"):
                refused = await it.post(f"/v1/events/{act}", {"delivered_since": 1})
                assert refused.status == 422 and "replay puts them back" in refused.json["error"]
            assert (await it.post("/v1/events/replay", {"all": True})).json == {"matched": 0}
            assert (await it.get("/v1/events/count?state=delivered")).json == {"count": 0}
            assert (await it.get("/v1/events/count")).json == {"count": 1}

    run(test)
