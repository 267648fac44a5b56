from pathlib import Path

import apsw
import pytest

from mailvane.queue.local import SQLiteQueue
from web.serving import EVENT, Served, run, served


def sqlite_of(it: Served) -> SQLiteQueue:
    queue = it.service.queue
    assert isinstance(queue, SQLiteQueue)
    return queue


def test_before_the_service_has_started_the_process_answers_but_takes_nothing(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, start=False) as it:
            assert (await it.get("/healthz")).status == 200
            ready = await it.get("/readyz")
            assert (ready.status, ready.json["ready"], bool(ready.json["error"])) == (503, False, True)
            for path in ("/v1/status", "/metrics", "/v1/events", "/v1/events/1", "/v1/events/count"):
                reply = await it.get(path)
                assert (reply.status, "retry-after" in reply.headers) == (503, True), path
            assert (await it.post("/v1/events", EVENT)).status == 503
            await it.service.start(deliver=False)
            assert (await it.get("/readyz")).status == 200
            assert (await it.post("/v1/events", EVENT)).status == 202

    run(test)


def test_not_ready_while_the_disk_is_full_and_ready_again_afterwards(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            ballast = it.home / "ballast"
            ballast.rename(it.home / "elsewhere")  # as a settlement on a full disk leaves it
            ready = await it.get("/readyz")
            assert (ready.status, "full" in ready.json["error"]) == (503, True)
            assert (await it.get("/healthz")).status == 200
            (it.home / "elsewhere").rename(ballast)
            assert (await it.get("/readyz")).json == {"ready": True, "error": ""}

    run(test)


def test_not_ready_while_somebody_holds_the_queue_and_ready_again_afterwards(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mailvane.queue.sqlite.BUSY_MS", 50)

    async def test() -> None:
        async with served(short_folder) as it:
            shell = apsw.Connection(sqlite_of(it).path)
            shell.set_busy_timeout(10_000)
            shell.execute("BEGIN IMMEDIATE")
            assert (await it.post("/v1/events", EVENT)).status == 503
            for _ in range(2):
                ready = await it.get("/readyz")
                assert (ready.status, "locked" in ready.json["error"]) == (503, True)
            shell.execute("ROLLBACK")
            assert (await it.get("/readyz")).json == {"ready": True, "error": ""}
            shell.execute("BEGIN IMMEDIATE")
            assert (await it.post("/v1/events", EVENT)).status == 503
            shell.execute("ROLLBACK")
            shell.close()
            await it.record(EVENT)
            assert sqlite_of(it).refused == ""

    run(test)


def test_who_asks_whether_it_is_ready_waits_a_second_or_so_for_a_queue_that_is_held(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mailvane.web.health.TRY_WITHIN", 0.01)

    async def test() -> None:
        async with served(short_folder) as it:
            sqlite_of(it).refused = "locked"  # as after an append that has waited for half a minute
            shell = apsw.Connection(sqlite_of(it).path)
            shell.set_busy_timeout(10_000)
            shell.execute("BEGIN IMMEDIATE")
            assert [(await it.get("/readyz")).status for _ in range(3)] == [503] * 3
            shell.execute("ROLLBACK")
            shell.close()
            while (await it.get("/readyz")).status != 200:
                pass

    run(test)


def test_status_is_the_report(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            await it.record(EVENT, EVENT)
            status = (await it.get("/v1/status")).json
            assert set(status) >= {"destinations", "queue", "books"}
            assert (status["queue"]["events"], status["books"]["recorded"]) == (2, 2)
            assert status["destinations"][0]["name"] == "__legacy__"

    run(test)


def test_metrics_are_prometheus_text(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            await it.record(EVENT, EVENT)
            reply = await it.get("/metrics")
            assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert b"\nmailvane_recorded_total 2.0\n" in reply.body
            assert b"\nmailvane_waiting 2.0\n" in reply.body

    run(test)


def test_what_is_not_there_is_told_as_json(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for path in ("/", "/v1", "/v1/events/", "/v2/events", "/healthz/"):
                reply = await it.get(path)
                assert (reply.status, set(reply.json)) == (404, {"error"}), path
            wrong = await it.ask("DELETE", "/v1/events")
            assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})
            assert (await it.post("/v1/status", {})).status == 405
            assert "server" not in wrong.headers

    run(test)


def test_a_defect_is_answered_and_the_connection_goes_on(short_folder: Path, caplog: pytest.LogCaptureFixture):
    async def test() -> None:
        async with served(short_folder) as it:
            plans, it.service.plans = it.service.plans, object()  # type: ignore[assignment]
            client = await it.client()
            reply = await client.ask("GET", "/v1/status")
            assert (reply.status, set(reply.json)) == (500, {"error"})
            assert "AttributeError" not in reply.json["error"] and "AttributeError" in caplog.text
            it.service.plans = plans
            assert (await client.ask("GET", "/v1/status")).status == 200

    run(test)


def test_head_is_answered_as_get_without_a_body(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            client = await it.client()
            await client.say(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head, _, body = (await client.ended()).partition(b"\r\n\r\n")
            assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"")

    run(test)
