"""TLS for python-tds by the standard library, with the context that every database gets.

The driver's own way needs pyOpenSSL, knows one file of authorities, and takes certificates of other hosts for that of
this one (its check strips every leading D, N and S from their names). It looks up what it needs in its module `tls`, at
each connection; that is where this stands in. The handshake travels in packets of the login's (MS-TDS, PRELOGIN), at
most with TLS 1.2: in later versions the client has the last word, and no packet for it.
"""

# pyright: reportPrivateUsage=false
import ssl
from typing import Protocol

from pytds import tds_base, tls  # pyright: ignore[reportMissingTypeStubs]

_AT_ONCE = 64 * 1024
_HANDSHAKE = tds_base.PacketType.PRELOGIN


class _Transport(Protocol):
    """What is used of a socket."""

    def gettimeout(self) -> float | None: ...
    def settimeout(self, timeout: float | None) -> None: ...
    def recv(self, bufsize: int, /) -> bytes: ...
    def sendall(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class _Meta(Protocol):
    type: int


class _Reader(Protocol):
    """What is used of its readers."""

    _transport: object

    def begin_response(self) -> _Meta: ...
    def stream_finished(self) -> bool: ...
    def recv(self, size: int) -> bytes: ...


class _Writer(Protocol):
    """What is used of its writers."""

    _transport: object

    def begin_packet(self, packet_type: int) -> None: ...
    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...


class _Login(Protocol):
    tls_ctx: ssl.SSLContext | None
    server_name: str


class _Connection(Protocol):
    _login: _Login
    sock: _Transport


class _Session(Protocol):
    """What is used of its session while it logs in."""

    conn: _Connection
    _reader: _Reader
    _writer: _Writer


class Trust(str):
    """Travels through python-tds as the name of a file of authorities, and has the context itself."""

    context: ssl.SSLContext

    @staticmethod
    def of(context: ssl.SSLContext) -> "Trust":
        """What `connect` is given as `cafile`."""
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        trust = Trust("ssl.SSLContext")
        trust.context = context
        return trust


class Encrypted(tls.EncryptedSocket):
    """A socket whose bytes are encrypted; the driver unwraps it where only the login was to be."""

    def __init__(self, transport: _Transport, connection: ssl.SSLObject, into: ssl.MemoryBIO, out: ssl.MemoryBIO):
        self._transport = transport
        self._connection = connection
        self._into = into
        self._out = out

    def gettimeout(self) -> float | None:
        return self._transport.gettimeout()

    def settimeout(self, timeout: float | None) -> None:
        self._transport.settimeout(timeout)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        view = memoryview(data)
        while view:
            view = view[self._connection.write(view) :]
            self._transport.sendall(self._out.read())

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        while True:
            try:
                return self._connection.read(bufsize)
            except ssl.SSLWantReadError:
                if not (some := self._transport.recv(_AT_ONCE)):
                    return b""
                self._into.write(some)
            except ssl.SSLZeroReturnError:
                return b""

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, flags: int = 0) -> int:
        some = self.recv(size or len(buffer))
        buffer[: len(some)] = some
        return len(some)

    def close(self) -> None:
        self._transport.close()

    def shutdown(self, how: int = 0) -> None:
        """The login is over; nothing is said about it to the server."""


def _context(trust: str) -> ssl.SSLContext:
    assert isinstance(trust, Trust)
    return trust.context


def _establish_channel(session: _Session) -> None:
    """Raises ssl.SSLError, tds_base.Error."""
    reader, writer = session._reader, session._writer
    login = session.conn._login
    if login.tls_ctx is None:
        raise tds_base.Error("the server wants TLS, and db_dsn says that there be none")
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = login.tls_ctx.wrap_bio(into, out, server_hostname=login.server_name)
    while True:
        try:
            connection.do_handshake()
            break
        except ssl.SSLWantReadError:
            if said := out.read():
                writer.begin_packet(_HANDSHAKE)
                writer.write(said)
                writer.flush()
            if reader.begin_response().type != _HANDSHAKE:
                raise tds_base.Error("the server does not go on with the TLS handshake") from None
            while not reader.stream_finished():
                into.write(reader.recv(_AT_ONCE))
    encrypted = Encrypted(session.conn.sock, connection, into, out)
    session.conn.sock = reader._transport = writer._transport = encrypted


def stand_in() -> None:
    """From now on python-tds speaks TLS this way."""
    tls.OPENSSL_AVAILABLE = True
    tls.create_context = _context
    tls.establish_channel = _establish_channel
