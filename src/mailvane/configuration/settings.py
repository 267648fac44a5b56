"""Reads `mailvane.conf`: from its text to Settings, or to every mistake in it."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from mailvane.configuration.directives import DIRECTIVES
from mailvane.configuration.lexer import Block, Statement, Word, lex
from mailvane.configuration.mistakes import Broken, Mistake, nearest, quoted, render
from mailvane.configuration.secrets import Secret, is_reference, reference_path
from mailvane.configuration.text import SIZE, decode, readable
from mailvane.errors import SettingsBroken
from mailvane.recording.regular import Unreadable, read_regular

SETTINGS_FILE = "mailvane.conf"
LEGACY_FILE = "event_processor.json"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Listen:
    """Where to listen: host without brackets, and port (0: any that is free)."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower().removesuffix(".") == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """What `mailvane.conf` says, with the defaults; paths are absolute. `ignored` names what is not ours."""

    home: Path
    server_id: str
    queue_file: Path
    control_directory: Path
    http_listen: Listen = Listen("127.0.0.1", 8425)
    api_token: Secret | None = None
    tls_ca_file: Path | None = None
    destination_networks: Literal["any", "public"] = "any"
    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    bounce_text_length: int = 1_000
    ignored: tuple[str, ...] = ()

    @property
    def legacy_file(self) -> Path:
        return self.control_directory / LEGACY_FILE


@dataclass(frozen=True)
class SettingsRead:
    """Settings, or mistakes; `ignored` has the place of the first of each directive that is not ours."""

    text: str
    settings: Settings | None
    mistakes: tuple[Mistake, ...]
    ignored: tuple[Mistake, ...] = ()


class _Wrong(Exception):
    def __init__(self, word: Word, message: str) -> None:
        super().__init__(message)
        self.word = word


def load_settings(home: Path) -> Settings:
    """Settings of a home. Raises SettingsBroken, whose text has every mistake with its line."""
    path = home / SETTINGS_FILE
    try:
        data = read_regular(path, SIZE).data
    except Unreadable as error:
        raise SettingsBroken(f"{path} {error.why}") from None
    read = read_settings(data, home)
    if read.settings is None:
        raise SettingsBroken(render(read.mistakes, read.text, str(path)))
    return read.settings


def read_settings(data: bytes, home: Path) -> SettingsRead:
    """Judges a whole file."""
    try:
        text = decode(data)
    except Broken as broken:
        return SettingsRead(readable(data), None, (broken.mistake,))
    home = home.absolute()
    lexed = lex(text)
    reading = _Reading(home)
    settings = reading.settings(lexed.statements)
    mistakes = tuple(sorted({*lexed.mistakes, *reading.mistakes}))
    ignored = tuple(reading.ignored.values())
    return SettingsRead(text, None if mistakes else settings, mistakes, ignored)


class _Reading:
    def __init__(self, home: Path) -> None:
        self.mistakes: list[Mistake] = []
        self.ignored: dict[str, Mistake] = {}
        self._home = home

    def settings(self, statements: tuple[Statement, ...]) -> Settings:
        home = self._home
        settings = Settings(home, socket.gethostname(), home / "queue.db", home / "control")
        listen: Word | None = None
        for statement in statements:
            name = statement.name.text
            if not self._ours(statement):
                continue
            assert not isinstance(statement, Block)
            if name == "http_listen" and statement.values:
                listen = statement.values[0]
            try:
                settings = _READERS[name](settings, _values(statement.name, statement.values), home)
            except _Wrong as wrong:
                self.mistakes.append(Mistake(*wrong.word.place, str(wrong)))
        if listen is not None and not settings.http_listen.loopback and settings.api_token is None:
            self.mistakes.append(
                Mistake(*listen.place, "beyond loopback the API needs a token; add a line: api_token @file:PATH")
            )
        return replace(settings, ignored=tuple(self.ignored))

    def _ours(self, statement: Statement) -> bool:
        name, place = statement.name.text, statement.name.place
        known = DIRECTIVES.get(name)
        block = isinstance(statement, Block)
        if known is None:
            near = get_close_matches(name.lower(), DIRECTIVES, n=1, cutoff=0.8)
            if near:
                self.mistakes.append(Mistake(*place, f"{quoted(name)} is no directive; {nearest(name, near)}"))
            elif name.startswith("event_delivery_") and not block:
                self.mistakes.append(Mistake(*place, f"{quoted(name)} is not there yet"))
            else:
                # A file that comes from GreenArrow is full of them.
                self.ignored.setdefault(name, Mistake(*place, f"{quoted(name)} is not mailvane's and is ignored"))
            return False
        if known.later:
            self.mistakes.append(Mistake(*place, f'"{name}" is not there yet'))
        elif block:
            self.mistakes.append(Mistake(*place, f'"{name}" is no block, wanted {name} {known.usage}'))
        return not known.later and not block


def _values(name: Word, words: tuple[Word, ...]) -> tuple[Word, ...]:
    known = DIRECTIVES[name.text]
    wanted = f"wanted {known.name} {known.usage}"
    if not words:
        raise _Wrong(name, f'"{known.name}" has no value, {wanted}')
    if comma := next((w for w in words if w.text == "," and not w.quoted), None):
        raise _Wrong(comma, f"found a comma, {wanted} with spaces between values")
    if len(words) > 1 and not known.usage.endswith("…"):
        raise _Wrong(words[1], f"found a second value, {wanted}")
    if empty := next((w for w in words if not w.text), None):
        raise _Wrong(empty, f"found an empty value, {wanted}")
    if name.text != "api_token" and (reference := next((w for w in words if is_reference(w.text)), None)):
        raise _Wrong(reference, f'"{known.name}" takes no reference (@file:, @env:), {wanted}')
    if bad := next((w for w in words if not w.text.isprintable()), None):
        raise _Wrong(bad, f"found control characters in the value, {wanted}")
    return words


def _server_id(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", values[0].text):
        raise _Wrong(values[0], "server_id may have 1 to 64 letters, digits, dots, dashes and underscores")
    return replace(settings, server_id=values[0].text)


def _queue(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    return replace(settings, queue_file=home / sqlite_file(values[0].text, lambda why: _Wrong(values[0], why)))


def sqlite_file(url: str, wrong: Callable[[str], Exception]) -> str:
    """The file that a queue's URL names; `wrong` makes the error of a reason."""
    scheme, colon, file = url.partition(":")
    if scheme in {"postgresql", "postgres"}:
        raise wrong("queues in PostgreSQL are not there yet, wanted sqlite:FILE")
    if scheme != "sqlite" or not colon:
        raise wrong("found no queue that is known, wanted sqlite:FILE")
    if not file or file.startswith(("//", ":")) or "?" in file:
        raise wrong("found no path of a file after sqlite:, wanted sqlite:FILE or sqlite:/PATH/FILE")
    return file


def _control_directory(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    return replace(settings, control_directory=home / values[0].text)


def _http_listen(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    wanted = "wanted ADDR:PORT, such as 127.0.0.1:8425 or [::1]:8425"
    host, colon, port = values[0].text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise _Wrong(values[0], f"found no address with a port, {wanted}")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise _Wrong(values[0], f"found no port from 0 to 65535 after the last colon, {wanted}")
    host = host[1:-1] if bracketed else host
    try:
        address = ipaddress.ip_address(host)
        right = bracketed == (address.version == 6)
    except ValueError:
        right = not bracketed and bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9._-]+", host))
    if not right:
        raise _Wrong(values[0], f"found no address before the last colon, {wanted}; 0.0.0.0 is every address")
    return replace(settings, http_listen=Listen(host, int(port)))


def _api_token(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    given = values[0].text
    if path := reference_path(given):
        if given == "@file:":
            raise _Wrong(values[0], "found no path after @file:, wanted @file:PATH")
        given = f"@file:{home / path}"
    elif given == "@env:" or (given.startswith("@") and not is_reference(given)):
        raise _Wrong(values[0], "found no reference after @, wanted @file:PATH or @env:NAME")
    elif not all("!" <= c <= "~" for c in given):
        raise _Wrong(values[0], "a token may have printable ASCII characters only, and no spaces")
    return replace(settings, api_token=Secret(given))


def _tls_ca_file(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    return replace(settings, tls_ca_file=home / values[0].text)


def _destination_networks(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    match values[0].text:
        case "any":
            return replace(settings, destination_networks="any")
        case "public":
            return replace(settings, destination_networks="public")
        case other:
            raise _Wrong(values[0], f"found {quoted(other)}, wanted any or public")


def _allow_network(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    return replace(settings, allow_networks=(*settings.allow_networks, *_networks(values)))


def _deny_network(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    return replace(settings, deny_networks=(*settings.deny_networks, *_networks(values)))


def _networks(values: tuple[Word, ...]) -> Iterator[Network]:
    for word in values:
        try:
            yield ipaddress.ip_network(word.text)
        except ValueError:
            raise _Wrong(word, f"found {quoted(word.text)}, {_network_hint(word.text)}") from None


def _network_hint(text: str) -> str:
    try:
        return f"wanted the network without an address in it: {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return "wanted a network such as 10.0.0.0/8 or fd00::/8"


def _bounce_text_length(settings: Settings, values: tuple[Word, ...], home: Path) -> Settings:
    if not re.fullmatch(r"[0-9]{1,5}", values[0].text) or int(values[0].text) > 65_536:
        raise _Wrong(values[0], f"found {quoted(values[0].text)}, wanted a whole number from 0 to 65536")
    return replace(settings, bounce_text_length=int(values[0].text))


_READERS: dict[str, Callable[[Settings, tuple[Word, ...], Path], Settings]] = {
    "server_id": _server_id,
    "queue": _queue,
    "control_directory": _control_directory,
    "http_listen": _http_listen,
    "api_token": _api_token,
    "tls_ca_file": _tls_ca_file,
    "destination_networks": _destination_networks,
    "allow_network": _allow_network,
    "deny_network": _deny_network,
    "bounce_text_length": _bounce_text_length,
}
