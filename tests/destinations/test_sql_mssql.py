"""SQL Server's protocol (MS-TDS) as far as it goes without one: a stand-in that logs in, runs, refuses, or is mute.

It speaks just enough for python-tds: what it would mean to a real server, a real server must say.
"""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from destinations.adversary import run
from destinations.databases import EPOCH, batch, deliver, destination
from mailvane.destinations.contract import Database, Failure, Outcome, SqlStatement
from mailvane.destinations.dial import Limits
from mailvane.destinations.sql_mssql import judge
from support.certificates import Authority, Certificate

PRELOGIN, LOGIN, RPC, TRANSACTION, ANSWER = 0x12, 0x10, 0x03, 0x0E, 0x04
DONE = struct.pack("<BHHQ", 0xFD, 0, 0, 0)


def text(words: str, length: str) -> bytes:
    return struct.pack(f"<{length}", len(words)) + words.encode("utf-16-le")


def error(number: int, words: str) -> bytes:
    body = struct.pack("<IBB", number, 1, 14) + text(words, "H") + text("stand-in", "B") + text("", "B")
    body += struct.pack("<I", 1)
    return struct.pack("<BH", 0xAA, len(body)) + body + struct.pack("<BHHQ", 0xFD, 2, 0, 0)


def logged_in() -> bytes:
    body = struct.pack(">BI", 1, 0x74000004) + text("stand-in", "B") + bytes(4)
    return struct.pack("<BH", 0xAD, len(body)) + body + DONE


def transaction(kind: int) -> bytes:
    """Begun (8), committed (9) or rolled back (10): the environment has another transaction."""
    new, old = (bytes([8]) + bytes(range(1, 9)), b"\0") if kind == 8 else (b"\0", bytes([8]) + bytes(range(1, 9)))
    body = bytes([kind]) + new + old
    return struct.pack("<BH", 0xE3, len(body)) + body + DONE


def routing(host: str, port: int) -> bytes:
    """Go to another server: an ENVCHANGE of type 20, before the end of the login."""
    where = struct.pack("<BH", 0, port) + text(host, "H")
    body = bytes([20]) + struct.pack("<H", len(where)) + where + bytes(2)
    return struct.pack("<BH", 0xE3, len(body)) + body


OFF, ON, NOT_SUPPORTED, REQUIRED = range(4)
"""What a server says of encryption: the login alone, all, it cannot, it insists."""


class Wire:
    """What goes to and fro, encrypted where it is to be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._plain = b""
        self.tls: ssl.SSLObject | None = None
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def read(self, size: int) -> bytes:
        if self.tls is None:
            return await self._reader.readexactly(size)
        while len(self._plain) < size:
            try:
                self._plain += self.tls.read(65_536)
            except ssl.SSLWantReadError:
                some = await self._reader.read(65_536)
                if not some:
                    raise asyncio.IncompleteReadError(b"", size) from None
                self.into.write(some)
        found, self._plain = self._plain[:size], self._plain[size:]
        return found

    def write(self, data: bytes) -> None:
        if self.tls is not None:
            self.tls.write(data)
            data = self.out.read()
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()


class StandIn:
    """Answers as `login` and `rows` say, by number of the message; 0: well. `asked` has every request, and `private`
    the kinds of those that were encrypted.

    With `route` the login ends with being sent on to that port. With a certificate it speaks TLS, as `encryption` says.
    """

    def __init__(
        self,
        login: int = 0,
        refuse: str = "",
        number: int = 0,
        route: int = 0,
        certificate: Certificate | None = None,
        encryption: int = NOT_SUPPORTED,
    ) -> None:
        self.login = login
        self.route = route
        self.certificate = certificate
        self.encryption = encryption
        self.private: set[int] = set()
        self.refuse = refuse.encode("utf-16-le")
        self.number = number
        self.asked: list[tuple[int, bytes]] = []
        self.committed = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        try:
            while True:
                kind, body = await self._request(wire)
                self.asked.append((kind, body))
                if wire.tls is not None:
                    self.private.add(kind)
                if kind == LOGIN and self.encryption == OFF:
                    wire.tls = None
                wire.write(self._packet(self._answer(kind, body)))
                if kind == PRELOGIN and self.certificate is not None:
                    await self._encrypt(wire, self.certificate)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            wire.close()

    async def _encrypt(self, wire: Wire, certificate: Certificate) -> None:
        """The handshake, in packets of the login's; each flight in two of them."""
        tls = certificate.server_context().wrap_bio(wire.into, wire.out, server_side=True)
        while True:
            kind, body = await self._request(wire)
            assert kind == PRELOGIN
            wire.into.write(body)
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            said = wire.out.read()
            for part in filter(None, (said[:50], said[50:])):
                wire.write(self._packet(part, PRELOGIN))
            if done:
                wire.tls = tls
                return

    async def _request(self, wire: Wire) -> tuple[int, bytes]:
        body = b""
        while True:
            kind, last, length = struct.unpack(">BBH", (await wire.read(8))[:4])
            body += await wire.read(length - 8)
            if last & 1:
                return kind, body

    def _packet(self, body: bytes, kind: int = ANSWER) -> bytes:
        return struct.pack(">BBHHBB", kind, 1, len(body) + 8, 0, 1, 0) + body

    def _answer(self, kind: int, body: bytes) -> bytes:
        if kind == PRELOGIN:
            return bytes([0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF]) + bytes([16, 0, 0, 0, 0, 0, self.encryption])
        if kind == LOGIN and self.route:
            return logged_in()[: -len(DONE)] + routing("127.0.0.1", self.route) + DONE
        if kind == LOGIN:
            return error(self.login, "Login failed for user 'mailvane'.") if self.login else logged_in()
        if kind == TRANSACTION:
            (asked,) = struct.unpack_from("<H", body, struct.unpack_from("<I", body)[0])
            self.committed += asked == 7
            ended = transaction(9 if asked == 7 else 10)[: -len(DONE)] if asked in (7, 8) else b""
            return ended + transaction(8)
        if self.refuse and self.refuse in body:
            return error(self.number, "it will not do")
        return struct.pack("<BI", 0x79, 0) + struct.pack("<BHHQ", 0xFE, 0, 0xE0, 0)


@asynccontextmanager
async def standing_in(server: StandIn, query: str = "", host: str = "127.0.0.1") -> AsyncIterator[SqlStatement]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    sql = "INSERT INTO q (name, email, share) VALUES (?, ?, '5%')"
    dsn = f"mssql://mailvane:test%2Fsecret@{host}:{server.port}/customer{query}"
    yield SqlStatement(Database.MSSQL, dsn, sql, ("event_unique_id", "email"))
    listener.close()


def failures(outcomes: dict[int, Outcome]) -> dict[int, Failure | None]:
    return {number: outcome.failure for number, outcome in outcomes.items()}


def test_values_travel_as_parameters_in_one_transaction(loop: str):
    async def test() -> None:
        server = StandIn()
        async with standing_in(server) as spec, destination(spec) as to:
            assert failures(await deliver(to, batch(1, 2, 3))) == {1: None, 2: None, 3: None}
        calls = [body.decode("utf-16-le", "replace") for kind, body in server.asked if kind == RPC]
        assert len(calls) == 3 and server.committed == 1
        wide = f"-{EPOCH}-2".encode("utf-16-le")
        statements = [body for kind, body in server.asked if kind == RPC and wide in body]
        assert len(statements) == 1
        sql = statements[0].split("VALUES".encode("utf-16-le"))[1].split(")".encode("utf-16-le"))[0]
        assert b"@" in sql and "user2".encode("utf-16-le") not in sql and "'5%'".encode("utf-16-le") in sql
        (login,) = [body for kind, body in server.asked if kind == LOGIN]
        assert "customer".encode("utf-16-le") in login and "test/secret".encode("utf-16-le") not in login

    run(loop, test)


def test_d22_one_event_that_will_not_do_is_found():
    async def test() -> None:
        server = StandIn(refuse="user3@", number=2627)
        async with standing_in(server) as spec, destination(spec) as to:
            outcomes = await deliver(to, batch(*range(1, 9)))
        assert {n for n, failure in failures(outcomes).items() if failure} == {3}
        assert outcomes[3].failure is Failure.EVENT and "it will not do (2627)" in outcomes[3].text

    run("uvloop", test)


@pytest.mark.parametrize(
    ("server", "failure"),
    [
        (StandIn(login=18456), Failure.REFUSED),
        (StandIn(refuse="user", number=208), Failure.REFUSED),
        (StandIn(refuse="user", number=1205), Failure.BUSY),
    ],
)
def test_d22_what_is_wrong_with_login_or_statement_fails_the_batch(server: StandIn, failure: Failure):
    async def test() -> None:
        async with standing_in(server) as spec, destination(spec) as to:
            outcomes = await deliver(to, batch(1, 2, 3))
        assert set(failures(outcomes).values()) == {failure}, outcomes
        assert all("test/secret" not in outcome.text for outcome in outcomes.values())

    run("uvloop", test)


def test_a_server_that_sends_us_on_to_another_is_refused_and_the_other_never_asked(loop: str):
    async def test() -> None:
        other = StandIn()
        async with standing_in(other):
            async with standing_in(StandIn(route=other.port)) as spec, destination(spec) as to:
                outcomes = await deliver(to, batch(1, 2))
        assert set(failures(outcomes).values()) == {Failure.REDIRECT}, outcomes
        assert "name that server in db_dsn" in outcomes[1].text
        assert not other.asked

    run(loop, test)


@pytest.mark.parametrize(
    ("mode", "encryption", "login_alone"),
    [
        ("prefer", OFF, True),
        ("prefer", REQUIRED, False),
        ("require", ON, False),
        ("verify-ca", ON, False),
        ("verify-full", ON, False),
    ],
)
def test_s1_what_is_to_be_private_travels_by_tls(
    loop: str, authority: Authority, mode: str, encryption: int, login_alone: bool
):
    async def test() -> None:
        server = StandIn(certificate=authority.good(), encryption=encryption)
        async with standing_in(server, f"?tls={mode}") as spec:
            async with destination(spec, tls_ca_file=str(authority.file)) as to:
                assert failures(await deliver(to, batch(*range(1, 101)))) == dict.fromkeys(range(1, 101))
        asked = {kind for kind, _ in server.asked}
        assert {LOGIN, TRANSACTION, RPC} <= asked and server.committed == 1
        assert server.private == ({LOGIN} if login_alone else asked - {PRELOGIN})

    run(loop, test)


NAMES = (
    "Database.example.com",
    "DNSdatabase.example.com",
    "S.database.example.com",
    "database.example.com.evil.example",
)


@pytest.mark.parametrize(
    ("mode", "wrong", "reason"),
    [
        ("verify-full", "wrong_host", "mismatch"),
        ("verify-full", "expired", "expired"),
        ("verify-full", "self_signed", "self-signed"),
        ("verify-ca", "self_signed", "self-signed"),
    ],
)
def test_s1_a_wrong_certificate_is_refused_before_the_login(authority: Authority, mode: str, wrong: str, reason: str):
    async def test() -> None:
        server = StandIn(certificate=getattr(authority, wrong)(), encryption=ON)
        async with standing_in(server, f"?tls={mode}") as spec:
            async with destination(spec, tls_ca_file=str(authority.file)) as to:
                outcomes = await deliver(to, batch(1))
        assert outcomes[1].failure is Failure.TLS and reason in outcomes[1].text.lower(), outcomes
        assert {kind for kind, _ in server.asked} == {PRELOGIN}

    run("uvloop", test)


@pytest.mark.parametrize("name", NAMES)
def test_s1_a_certificate_for_a_name_that_only_looks_alike_is_refused(authority: Authority, name: str):
    """python-tds's own check takes D, N and S away from the beginning of what a certificate is for."""

    async def test() -> None:
        server = StandIn(certificate=authority.good([name]), encryption=ON)
        host = "atabase.example.com" if name == NAMES[0] else "database.example.com"
        async with standing_in(server, "?tls=verify-full", host) as spec:
            async with destination(spec, tls_ca_file=str(authority.file)) as to:
                outcomes = await deliver(to, batch(1))
        assert outcomes[1].failure is Failure.TLS and "mismatch" in outcomes[1].text.lower(), outcomes

    run("uvloop", test)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_s1_a_server_without_tls_gets_no_login(mode: str):
    async def test() -> None:
        server = StandIn()
        async with standing_in(server, f"?tls={mode}") as spec, destination(spec) as to:
            outcomes = await deliver(to, batch(1))
        assert outcomes[1].failure is Failure.PROTOCOL and "not supported by server" in outcomes[1].text, outcomes
        assert {kind for kind, _ in server.asked} == {PRELOGIN}

    run("uvloop", test)


def test_a_server_that_is_mute_or_gone():
    async def test() -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        listener = await asyncio.start_server(mute, "127.0.0.1", 0)
        dsn = f"mssql://u:p@127.0.0.1:{listener.sockets[0].getsockname()[1]}/d"
        spec = SqlStatement(Database.MSSQL, dsn, "DELETE FROM t")
        async with destination(spec, limits=Limits(connect=0.3, attempt=5)) as to:
            assert set(failures(await deliver(to, batch(1))).values()) == {Failure.CONNECT}
        listener.close()
        await listener.wait_closed()
        async with destination(spec) as to:
            assert set(failures(await deliver(to, batch(1))).values()) == {Failure.CONNECT}

    run("uvloop", test)


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (2601, Failure.EVENT),
        (8152, Failure.EVENT),
        (50_000, Failure.EVENT),
        (207, Failure.REFUSED),
        (4060, Failure.REFUSED),
        (1222, Failure.BUSY),
        (9002, Failure.SERVER),
    ],
)
def test_d22_its_errors_have_their_class(number: int, failure: Failure):
    assert judge(number) is failure
