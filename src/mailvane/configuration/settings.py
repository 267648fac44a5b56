"""Reads `mailvane.conf`: from its text to Settings, or to every mistake in it."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from mailvane.configuration import directive_values as values
from mailvane.configuration.directives import DIRECTIVES
from mailvane.configuration.lexer import Block, Statement, Word, lex
from mailvane.configuration.listen import USUAL, Listen
from mailvane.configuration.mistakes import Broken, Mistake, nearest, quoted, render
from mailvane.configuration.secrets import Secret
from mailvane.configuration.text import SIZE, decode, readable
from mailvane.errors import SettingsBroken
from mailvane.recording.regular import Unreadable, read_regular

SETTINGS_FILE = "mailvane.conf"
LEGACY_FILE = "event_processor.json"


@dataclass(frozen=True)
class Settings:
    """What `mailvane.conf` says, with the defaults; paths are absolute. `ignored` names what is not ours."""

    home: Path
    server_id: str
    queue_file: Path
    """The queue in SQLite; not used where there is a `queue_url`."""
    control_directory: Path
    queue_url: Secret | None = None
    """The queue in PostgreSQL."""
    http_listen: Listen = USUAL
    api_token: Secret | None = None
    tls_ca_file: Path | None = None
    destination_networks: Literal["any", "public"] = "any"
    allow_networks: tuple[values.Network, ...] = ()
    deny_networks: tuple[values.Network, ...] = ()
    maildirs: tuple[Path, ...] = ()
    """Where mail is taken from."""
    bounce_text_length: int = 1_000
    keep_delivered: int = 0
    """Seconds."""
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
                settings = _READERS[name](settings, values.checked(statement.name, statement.values))
            except values.Wrong as wrong:
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


def _with_queue(settings: Settings, queue: Path | Secret) -> Settings:
    if isinstance(queue, Path):
        return replace(settings, queue_file=queue, queue_url=None)
    return replace(settings, queue_url=queue)


def _with(maildirs: tuple[Path, ...], maildir: Path) -> tuple[Path, ...]:
    return maildirs if maildir in maildirs else (*maildirs, maildir)


_READERS: dict[str, Callable[[Settings, tuple[Word, ...]], Settings]] = {
    "server_id": lambda s, v: replace(s, server_id=values.server_id(v[0])),
    "queue": lambda s, v: _with_queue(s, values.queue(v[0], s.home)),
    "control_directory": lambda s, v: replace(s, control_directory=s.home / v[0].text),
    "http_listen": lambda s, v: replace(s, http_listen=values.http_listen(v[0])),
    "api_token": lambda s, v: replace(s, api_token=values.api_token(v[0], s.home)),
    "tls_ca_file": lambda s, v: replace(s, tls_ca_file=s.home / v[0].text),
    "destination_networks": lambda s, v: replace(s, destination_networks=values.destination_networks(v[0])),
    "allow_network": lambda s, v: replace(s, allow_networks=(*s.allow_networks, *values.networks(v))),
    "deny_network": lambda s, v: replace(s, deny_networks=(*s.deny_networks, *values.networks(v))),
    "maildir": lambda s, v: replace(s, maildirs=_with(s.maildirs, s.home / v[0].text)),
    "bounce_text_length": lambda s, v: replace(s, bounce_text_length=values.bounce_text_length(v[0])),
    "keep_delivered": lambda s, v: replace(s, keep_delivered=values.duration(v[0])),
}
