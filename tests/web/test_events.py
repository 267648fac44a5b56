import asyncio
import json
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from mailvane.events.catalogue import Event
from mailvane.events.codecs import stored_form
from mailvane.queue.remote import OwnerClient
from web.serving import EVENT, run, served


def rows(home: Path) -> list[tuple[int, str]]:
    """What another connection sees, as a person's shell would.

    By apsw: Python's own sqlite3 is another SQLite, and two in one process drop each other's locks.
    """
    with closing(apsw.Connection(f"{home}/queue.db")) as database:
        return [(int(str(i)), str(e)) for i, e in database.execute("SELECT id, email FROM events ORDER BY id")]


def test_202_says_by_position_what_became_of_each_and_all_can_be_read_by_others_at_once(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            reply = await it.post(
                "/v1/events", [EVENT, EVENT | {"event_type": "scomp"}, EVENT | {"email": "b@example.com"}]
            )
            found = rows(it.home)
            assert reply.status == 202
            assert reply.headers["content-type"] == "application/json"
            first, _, last = reply.json["results"]
            assert reply.json == {"recorded": 2, "disabled": 1, "results": [first, {"disabled": "scomp"}, last]}
            assert [first, last] == [{"id": id_} for id_, _ in found]
            assert [email for _, email in found] == ["user@example.com", "b@example.com"]

    run(test)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/x-ndjson", ""]
)
def test_one_object_is_taken_whatever_its_type_is_called(short_folder: Path, content_type: str):
    async def test() -> None:
        async with served(short_folder) as it:
            reply = await it.post("/v1/events", EVENT, content_type=content_type)
            assert (reply.status, reply.json["recorded"]) == (202, 1)

    run(test)


def test_lines_are_taken_by_type_and_without_one(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            lines = b"\n".join([json.dumps(EVENT).encode()] * 3)
            for content_type in ("application/x-ndjson", ""):
                reply = await it.post("/v1/events", lines, content_type=content_type)
                assert (reply.status, reply.json["recorded"]) == (202, 3)

    run(test)


def test_422_tells_every_wrong_event_and_records_none(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            events = [
                EVENT,
                EVENT | {"emial": 1},
                EVENT,
                EVENT | {"email": "a\u0000@example.com"},
                EVENT | {"id": 7},
                7,
            ]
            reply = await it.post("/v1/events", events)
            assert reply.status == 422
            assert [(e["position"], e["field"]) for e in reply.json["errors"]] == [
                (1, "emial"), (3, "email"), (4, "id"), (5, ""),
            ]  # fmt: skip
            assert "did you mean email" in reply.json["errors"][0]["error"]
            assert reply.json["error"].startswith("4 of 6 events are wrong, nothing was recorded")
            assert rows(it.home) == []
            one = await it.post("/v1/events", EVENT | {"email": ""})
            assert (one.status, one.json["errors"][0]["field"]) == (422, "email")

    run(test)


@pytest.mark.parametrize("body", [b"", b"event_type=x", b"[{]", b'{"a":1}}', b"\xff\xfe"])
def test_400_for_what_is_no_json(short_folder: Path, body: bytes):
    async def test() -> None:
        async with served(short_folder) as it:
            reply = await it.post("/v1/events", body)
            assert reply.status == 400
            assert set(reply.json) == {"error"}

    run(test)


def test_413_for_more_than_a_thousand_events(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            reply = await it.post("/v1/events", [EVENT] * 1_001)
            assert reply.status == 413
            assert (await it.post("/v1/events", [EVENT] * 1_000)).json["recorded"] == 1_000

    run(test)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain;application/json",
    ],
)
def test_415_for_types_that_a_page_can_send_unasked(short_folder: Path, content_type: str):
    async def test() -> None:
        async with served(short_folder) as it:
            for path in ("/v1/events", "/v1/events/drop", "/v1/events/pause"):
                reply = await it.post(path, {"all": True}, content_type=content_type)
                assert (reply.status, "application/json" in reply.json["error"]) == (415, True)

    run(test)


def test_a_request_repeated_with_its_token_is_recorded_once(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            first = await it.post("/v1/events?token=abc", [EVENT, EVENT])
            again = await it.post("/v1/events?token=abc", [EVENT, EVENT])
            assert (first.status, again.status) == (202, 202)
            assert len(rows(it.home)) == 2
            assert (await it.post("/v1/events?token=" + "x" * 129, EVENT)).status == 422

    run(test)


def test_503_with_retry_after_when_the_queue_cannot_be_written_and_202_again_afterwards(short_folder: Path):
    async def test() -> None:
        # A switch of which nobody knows what it says is never taken for off: nothing is acknowledged.
        switch = Path("control/record_events.simplemh.scomp")
        async with served(short_folder, prepare=lambda home: (home / switch).write_text("perhaps\n")) as it:
            reply = await it.post("/v1/events", [EVENT, EVENT | {"event_type": "scomp"}])
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
            assert "scomp" in reply.json["error"]
            assert rows(it.home) == []
            (it.home / switch).write_text("1\n")
            for _ in range(1_000):
                reply = await it.post("/v1/events", EVENT | {"event_type": "scomp"})
                if reply.status == 202:
                    break
            assert reply.json["recorded"] == 1

    run(test)


def test_a_hundred_at_once_share_their_commits(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            commits: list[int] = []
            committed = it.service.queue.on_commit
            assert committed is not None

            def count(first: int, events: object) -> None:
                commits.append(first)
                committed(first, events)  # type: ignore[arg-type]

            it.service.queue.on_commit = count
            clients = [await it.client() for _ in range(100)]
            (door, _) = it.running._doors
            # The disk is busy, here with what a person does in a shell, until all have asked.
            with closing(apsw.Connection(f"{it.home}/queue.db")) as shell:
                shell.set_busy_timeout(10_000)
                shell.execute("BEGIN IMMEDIATE")
                asking = [
                    asyncio.create_task(client.ask("POST", "/v1/events", json.dumps(EVENT).encode()))
                    for client in clients
                ]
                while len(door.state.tasks) < 100:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
                assert [task.result() for task in asking if task.done()] == []
                shell.execute("ROLLBACK")
            replies = await asyncio.gather(*asking)
            ids = sorted(reply.json["results"][0]["id"] for reply in replies)
            assert ids == [id_ for id_, _ in rows(it.home)]
            assert len(ids) == 100
            assert len(commits) <= 10
            assert (await it.service.status()).books.recorded == 100
            for client in clients:
                client.close()

    run(test)


def test_the_client_of_other_processes_records_by_the_socket(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, conf="api_token secret") as it:
            form = stored_form(Event(**EVENT, event_time=1))
            client = OwnerClient(it.running.socket_path)
            assert len(await asyncio.to_thread(client.append, [form] * 3, "t1")) == 3
            assert len(await asyncio.to_thread(client.append, [form], "")) == 1
            assert len(rows(it.home)) == 4
            client.close()

    run(test)
