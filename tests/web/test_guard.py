from pathlib import Path

import pytest

from mailvane.configuration.listen import Listen
from mailvane.web.answers import Refused
from mailvane.web.guard import check_host, check_origin
from web.serving import EVENT, request, run, served

CLOSED = ["/v1/events", "/v1/events/count", "/v1/events/1", "/v1/status", "/metrics", "/openapi.json", "/nothing"]


def test_over_tcp_a_token_is_needed_once_one_is_set(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, conf="api_token s3cret") as it:
            for path in CLOSED:
                reply = await it.get(path)
                assert reply.status == 401, path
                assert reply.headers["www-authenticate"] == 'Bearer realm="mailvane"'
            for wrong in ("Bearer s3cre", "Bearer s3crett", "Basic s3cret", "s3cret", "Bearer", "Bearer \xff"):
                assert (await it.post("/v1/events", EVENT, authorization=wrong)).status == 401, wrong
            assert (await it.post("/v1/events", EVENT, authorization="Bearer s3cret")).status == 202
            assert (await it.post("/v1/events", EVENT, authorization="bearer s3cret")).status == 202
            two = request("GET", "/v1/status", authorization="Bearer s3cret\r\nAuthorization: Bearer s3cret")
            client = await it.client()
            await client.say(two)
            assert (await client.reply()).status == 401

    run(test)


def test_health_and_the_socket_need_no_token(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, conf="api_token s3cret") as it:
            assert (await it.get("/healthz")).status == 200
            assert (await it.get("/readyz")).status == 200
            assert (await it.post("/v1/events", EVENT, by_socket=True)).status == 202
            assert (await it.get("/v1/status", by_socket=True, host="anything")).status == 200

    run(test)


def test_a_token_in_a_file_is_read_again_and_without_it_nobody_is_let_in(short_folder: Path):
    async def test() -> None:
        token = short_folder / "token"
        token.write_text("first\n")
        async with served(short_folder, conf=f"api_token @file:{token}") as it:
            assert (await it.get("/v1/status", authorization="Bearer first")).status == 200
            token.write_text("second\n")
            while (await it.get("/v1/status", authorization="Bearer second")).status != 200:
                pass
            assert (await it.get("/v1/status", authorization="Bearer first")).status == 401
            token.unlink()
            while (reply := await it.get("/v1/status", authorization="Bearer second")).status == 200:
                pass
            assert (reply.status, b"second" in reply.body) == (503, False)
            assert (await it.get("/v1/status", authorization="Bearer ")).status == 503

    run(test)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8425", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8425", "localhost."]
)
def test_on_loopback_this_machines_names_are_answered(short_folder: Path, host: str):
    check_host([(b"host", host.encode())], Listen("127.0.0.1", 8425))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8425", "localhost.evil.example", "127.0.0.1.evil.example", "[::1].evil", "", "::1"],
)
def test_on_loopback_other_names_are_not(host: str):
    if host == "[::1].evil":
        host = "evil[::1]"
    with pytest.raises(Refused) as told:
        check_host([(b"host", host.encode())], Listen("127.0.0.1", 8425))
    assert told.value.status == 421


def test_what_http_listen_names_is_answered_and_nothing_else_of_loopback():
    check_host([(b"host", b"127.0.0.7:9")], Listen("127.0.0.7", 9))
    check_host([(b"host", b"[::1]:9")], Listen("::1", 9))
    with pytest.raises(Refused):
        check_host([(b"host", b"127.0.0.7:9")], Listen("127.0.0.1", 9))


def test_dns_rebinding_is_refused_by_the_server(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for path in (*CLOSED, "/healthz"):
                assert (await it.get(path, host="evil.example")).status == 421
            assert (await it.post("/v1/events", EVENT, host="evil.example")).status == 421
            assert (await it.get("/v1/status", host="")).status == 400
            assert (await it.get("/v1/status", host="localhost\r\nHost: evil.example")).status == 400
            assert (await it.service.status()).books.recorded == 0

    run(test)


def test_beyond_loopback_any_host_goes_and_the_token_decides(short_folder: Path):
    async def test() -> None:
        async with served(short_folder, listen="0.0.0.0:0", conf="api_token s3cret") as it:
            reply = await it.get("/v1/status", host="mail.example.com", authorization="Bearer s3cret")
            assert reply.status == 200
            assert (await it.get("/v1/status", host="mail.example.com")).status == 401

    run(test)


def test_pages_of_other_origins_are_refused_even_where_no_token_is_needed(short_folder: Path):
    async def test() -> None:
        async with served(short_folder) as it:
            for origin in ("http://evil.example", "null", "http://localhost:1", "http://localhost.evil.example"):
                reply = await it.post("/v1/events", EVENT, origin=origin)
                assert reply.status == 403, origin
                assert not any(name.startswith("access-control") for name in reply.headers)
            preflight = await it.ask(
                "OPTIONS", "/v1/events", origin="http://evil.example", access_control_request_method="POST"
            )
            assert preflight.status == 403
            own = await it.post("/v1/events", EVENT, host="localhost:8425", origin="http://localhost:8425")
            assert own.status == 202
            untyped = await it.post("/v1/events", EVENT, content_type="", origin="http://localhost")
            assert untyped.status == 415

    run(test)


def test_origins_are_compared_whole():
    check_origin([(b"host", b"Localhost:8425"), (b"origin", b"http://localhost:8425")])
    with pytest.raises(Refused):
        check_origin([(b"origin", b"http://localhost")])
    with pytest.raises(Refused):
        check_origin([(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil")])
