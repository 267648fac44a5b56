"""Where a database is: a URL, or a Perl DBI string as people who come from GreenArrow have it, as a value. No I/O.

    mysql://user:password@db.example.com:3306/customer?ssl-mode=VERIFY_IDENTITY
    postgresql://db.example.com/customer?sslmode=verify-full
    sqlite:/var/lib/customer/events.db
    mssql://db.example.com/customer
    DBI:mysql:database=customer;host=db.example.com;port=3306
    dbi:Pg:dbname=customer;host=/run/postgresql
    dbi:SQLite:dbname=/var/lib/customer/events.db

What is wrong is told with its place in the string, and never with a value from it: that may be a password.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from urllib.parse import unquote

from mailvane.destinations.contract import Database
from mailvane.destinations.hosts import ascii_name


class BadDsn(ValueError):
    """A string that leads to no database. `at` is the character at which it goes wrong, from 0."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(f"{text} (at character {at + 1})")
        self.at = at


class Tls(StrEnum):
    """How a connection is protected, in PostgreSQL's words; MySQL's mean the same."""

    DISABLE = "disable"
    PREFER = "prefer"
    """Encrypted if the server can; the certificate is not looked at."""
    REQUIRE = "require"
    """Encrypted, or no connection; the certificate is not looked at."""
    VERIFY_CA = "verify-ca"
    """The certificate must be from an authority that is trusted."""
    VERIFY_FULL = "verify-full"
    """And be for this host."""


@dataclass(frozen=True)
class Dsn:
    """A database. Of `host` with `port`, and `socket`, one is set; for SQLite neither, and `name` is the file."""

    database: Database
    name: str
    host: str = ""
    port: int = 0
    socket: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    tls: Tls = Tls.PREFER
    ca_file: str = ""
    """Certificates (PEM) that are trusted beside the system's."""

    @property
    def shown(self) -> str:
        """The database as people may see it: without user and password."""
        if self.database is Database.SQLITE:
            return self.name
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.database] else f":{self.port}"
        return f"{self.socket or host + port} {self.name}" if self.socket else f"{host}{port}/{self.name}"


PORTS = {Database.MYSQL: 3306, Database.POSTGRESQL: 5432, Database.MSSQL: 1433, Database.SQLITE: 0}
_SCHEMES = {
    "mysql": Database.MYSQL,
    "mariadb": Database.MYSQL,
    "postgresql": Database.POSTGRESQL,
    "postgres": Database.POSTGRESQL,
    "sqlite": Database.SQLITE,
    "mssql": Database.MSSQL,
    "sqlserver": Database.MSSQL,
}
_DRIVERS = {
    "mysql": Database.MYSQL,
    "mariadb": Database.MYSQL,
    "pg": Database.POSTGRESQL,
    "sqlite": Database.SQLITE,
    "odbc": Database.MSSQL,
    "sybase": Database.MSSQL,
}
"""Perl's DBD modules."""

_NAMES: dict[str, str] = {"database": "name", "dbname": "name", "db": "name"}
_PLACES = {
    "host": "host",
    "hostname": "host",
    "port": "port",
    "user": "user",
    "username": "user",
    "password": "password",
}
_MYSQL_TLS = {"ssl-mode": "tls", "ssl_mode": "tls", "sslmode": "tls", "ssl-ca": "ca_file", "ssl_ca": "ca_file"}
_URL_KEYS = {
    Database.MYSQL: {**_MYSQL_TLS, "socket": "socket", "unix_socket": "socket"},
    Database.POSTGRESQL: {"sslmode": "tls", "sslrootcert": "ca_file", "host": "host"},
    Database.MSSQL: {"tls": "tls", "sslmode": "tls"},
    Database.SQLITE: dict[str, str](),
}
_DBI_KEYS = {
    Database.MYSQL: {
        **_NAMES,
        **_PLACES,
        "mysql_socket": "socket",
        "mariadb_socket": "socket",
        "mysql_ssl": "flag",
        "mariadb_ssl": "flag",
        "mysql_ssl_ca_file": "ca_file",
        "mariadb_ssl_ca_file": "ca_file",
        "mysql_ssl_verify_server_cert": "verify",
        "mariadb_ssl_verify_server_cert": "verify",
        **_MYSQL_TLS,
    },
    Database.POSTGRESQL: {**_NAMES, **_PLACES, "sslmode": "tls", "sslrootcert": "ca_file"},
    Database.SQLITE: _NAMES,
    Database.MSSQL: {**_NAMES, **_PLACES, "server": "host", "uid": "user", "pwd": "password", "driver": "ignored"},
}
_HARMLESS = re.compile(r"(mysql|mariadb)_(enable_utf8|enable_utf8mb4|auto_reconnect|server_prepare|connect_timeout)")
"""What Perl's drivers are told and ours do of themselves."""
_MODES = {
    **{mode.value: mode for mode in Tls},
    "disabled": Tls.DISABLE,
    "preferred": Tls.PREFER,
    "allow": Tls.PREFER,
    "required": Tls.REQUIRE,
    "verify_ca": Tls.VERIFY_CA,
    "verify_identity": Tls.VERIFY_FULL,
}


def database_of(text: str) -> Database | None:
    """The database that a string is for, by how it begins; None where that tells nothing."""
    if match := re.match(r"(?i)dbi:([a-z]+)", text):
        return _DRIVERS.get(match[1].lower())
    match = re.match(r"([A-Za-z]+):", text)
    return _SCHEMES.get(match[1].lower()) if match else None


def parse_dsn(text: str) -> Dsn:
    """Reads either form. Raises BadDsn."""
    if bad := re.search(r"[\x00-\x1f\x7f]", text):
        raise BadDsn("a line break or control character is in it", bad.start())
    database = database_of(text)
    if re.match(r"(?i)dbi:", text):
        if database is None:
            raise BadDsn(f"the DBI driver is not known; known are {', '.join(_DRIVERS)}", 4)
        read = _perl(text, database)
    else:
        if database is None:
            raise BadDsn(f"wanted is a URL ({', '.join(f'{s}:' for s in _SCHEMES)}…) or a DBI string (DBI:mysql:…)", 0)
        read = _url(text, database)
    return _checked(read, len(text))


def _checked(dsn: Dsn, end: int) -> Dsn:
    """With the defaults filled in."""
    if not dsn.name:
        raise BadDsn("it names no database" if dsn.database is not Database.SQLITE else "it names no file", end)
    if dsn.database is Database.SQLITE:
        if not dsn.name.startswith("/"):
            raise BadDsn("the file of a SQLite database must be an absolute path", end - len(dsn.name))
        return replace(dsn, tls=Tls.DISABLE)
    if dsn.socket or dsn.host.startswith("/"):
        return replace(
            dsn, host="", socket=dsn.socket or dsn.host, tls=Tls.DISABLE, port=dsn.port or PORTS[dsn.database]
        )
    return replace(dsn, host=dsn.host or "localhost", port=dsn.port or PORTS[dsn.database])


def _url(text: str, database: Database) -> Dsn:
    scheme, _, rest = text.partition(":")
    at = len(scheme) + 1
    if database is Database.SQLITE:
        return Dsn(database, unquote(rest.removeprefix("//")))
    if not rest.startswith("//"):
        raise BadDsn(f'"//" must follow {scheme}:', at)
    if "#" in rest:
        raise BadDsn("a # is in it; in a password it is written %23", text.index("#"))
    parts = re.fullmatch(r"//(?P<authority>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?", rest)
    assert parts is not None  # whatever the text, it has this form
    userinfo, _, place = parts["authority"].rpartition("@")
    user, _, password = userinfo.partition(":")
    dsn = Dsn(database, unquote(parts["path"].removeprefix("/")), user=unquote(user), password=unquote(password))
    dsn = _with_place(dsn, place, at + 2 + len(parts["authority"]) - len(place))
    begin = at + parts.start("query")
    for key, value, where in _pairs(parts["query"] or "", "&", begin):
        dsn = _with(dsn, _URL_KEYS[database], key, unquote(value), where)
    return dsn


def _with_place(dsn: Dsn, place: str, at: int) -> Dsn:
    """With host and port, as a URL has them; the host may be a socket's folder, percent-encoded."""
    match = re.fullmatch(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?", place)
    if match is None:
        raise BadDsn("the host cannot be read; wanted is NAME:PORT, or an IPv6 address in brackets", at)
    host = unquote(match["host"])
    if match["port"]:
        dsn = replace(dsn, port=_port(match["port"], at + match.start("port")))
    return replace(dsn, host=_host(host, at)) if host else dsn


def _perl(text: str, database: Database) -> Dsn:
    parts = re.fullmatch(r"(?i)dbi:[a-z]+(?:\([^)]*\))?:(?P<rest>.*)", text)
    if parts is None:
        raise BadDsn("a colon must follow the DBI driver", len(text))
    rest, at = parts["rest"], parts.start("rest")
    dsn = Dsn(database, "")
    if rest and "=" not in rest:
        # DBI:mysql:customer:db.example.com:3306, and dbi:SQLite:FILE.
        name, _, place = rest.partition(":") if database is Database.MYSQL else (rest, "", "")
        dsn = replace(dsn, name=name)
        return _with_place(dsn, place, at + len(name) + 1) if place else dsn
    for key, value, where in _pairs(rest, ";", at):
        if not _HARMLESS.fullmatch(key.lower()):
            dsn = _with(dsn, _DBI_KEYS[database], key.lower(), value, where)
    return dsn


def _pairs(text: str, separator: str, at: int) -> Iterator[tuple[str, str, int]]:
    """Names and values, and where each begins."""
    for pair in text.split(separator):
        name, equals, value = pair.partition("=")
        if equals:
            yield name.strip(), value.strip(), at
        elif pair.strip():
            raise BadDsn("wanted is NAME=VALUE", at)
        at += len(pair) + 1


def _with(dsn: Dsn, keys: dict[str, str], key: str, value: str, at: int) -> Dsn:
    what = keys.get(key)
    behind = at + len(key) + 1
    match what:
        case None:
            near = get_close_matches(key, keys, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(keys) or 'none'}"
            raise BadDsn(f"{_harmless(key)} is no option for {dsn.database}; {hint}", at)
        case "port":
            return replace(dsn, port=_port(value, behind))
        case "host":
            host, comma, port = value.partition(",") if dsn.database is Database.MSSQL else (value, "", "")
            dsn = replace(dsn, port=_port(port, behind + len(host) + 1)) if comma else dsn
            return replace(dsn, host=_host(host, behind))
        case "tls":
            if (mode := _MODES.get(value.lower())) is None:
                raise BadDsn(f"wanted is one of {', '.join(Tls)}", behind)
            return replace(dsn, tls=mode)
        case "flag":
            return replace(dsn, tls=max(dsn.tls, Tls.REQUIRE, key=list(Tls).index) if _true(value) else Tls.DISABLE)
        case "verify":
            return replace(dsn, tls=Tls.VERIFY_FULL) if _true(value) else dsn
        case "ignored":
            return dsn
        case "name":
            return replace(dsn, name=value)
        case "socket":
            return replace(dsn, socket=value)
        case "user":
            return replace(dsn, user=value)
        case "password":
            return replace(dsn, password=value)
        case _:
            # As PostgreSQL has it: who names whom to trust wants it looked at.
            return replace(dsn, ca_file=value, tls=max(dsn.tls, Tls.VERIFY_CA, key=list(Tls).index))


def _true(value: str) -> bool:
    return value.lower() not in {"", "0", "no", "off", "false"}


def _harmless(key: str) -> str:
    return f'"{key}"' if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", key) else "this"


def _port(text: str, at: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise BadDsn("the port is no number from 1 to 65535", at)
    return int(text)


def _host(host: str, at: int) -> str:
    if host.startswith("/"):
        return host
    if host.startswith("[") or ":" in host:
        try:
            return ipaddress.IPv6Address(host.strip("[]")).compressed
        except ValueError:
            raise BadDsn("the host is no IPv6 address", at) from None
    try:
        return ascii_name(host)
    except ValueError:
        raise BadDsn("the host is no name: letters, digits, - and _, parts of 1 to 63 with dots between", at) from None
