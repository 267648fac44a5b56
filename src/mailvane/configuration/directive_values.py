"""The values of `mailvane.conf`'s directives: each is judged by itself, and is Wrong with a reason or what it means."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mailvane.configuration.directives import DIRECTIVES
from mailvane.configuration.lexer import Word
from mailvane.configuration.listen import Listen, listen_in
from mailvane.configuration.mistakes import quoted
from mailvane.configuration.secrets import Secret, is_reference, reference_path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Wrong(Exception):
    """A value will not do; the text says why, `word` where."""

    def __init__(self, word: Word, message: str) -> None:
        super().__init__(message)
        self.word = word


def checked(name: Word, words: tuple[Word, ...]) -> tuple[Word, ...]:
    """The values of a directive, as many as it takes and none of them empty. Raises Wrong."""
    known = DIRECTIVES[name.text]
    wanted = f"wanted {known.name} {known.usage}"
    if not words:
        raise Wrong(name, f'"{known.name}" has no value, {wanted}')
    if comma := next((w for w in words if w.text == "," and not w.quoted), None):
        raise Wrong(comma, f"found a comma, {wanted} with spaces between values")
    if len(words) > 1 and not known.usage.endswith("…"):
        raise Wrong(words[1], f"found a second value, {wanted}")
    if empty := next((w for w in words if not w.text), None):
        raise Wrong(empty, f"found an empty value, {wanted}")
    if name.text not in {"api_token", "queue"} and (
        reference := next((w for w in words if is_reference(w.text)), None)
    ):
        raise Wrong(reference, f'"{known.name}" takes no reference (@file:, @env:), {wanted}')
    if bad := next((w for w in words if not w.text.isprintable()), None):
        raise Wrong(bad, f"found control characters in the value, {wanted}")
    return words


def server_id(value: Word) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value.text):
        raise Wrong(value, "server_id may have 1 to 64 letters, digits, dots, dashes and underscores")
    return value.text


def queue(value: Word, home: Path) -> Path | Secret:
    """The file of a queue in SQLite, or the URL of one in PostgreSQL, which may be a reference."""
    return queue_in(value.text, home, lambda why: Wrong(value, why))


def queue_in(url: str, home: Path, wrong: Callable[[str], Exception]) -> Path | Secret:
    """As `queue`; `wrong` makes the error of a reason."""
    if url.startswith("@"):
        return Secret(_reference(url, home, wrong))
    scheme, colon, file = url.partition(":")
    if scheme in {"postgresql", "postgres"}:
        # Only now: the driver takes longer to load than most commands take.
        from mailvane.queue.postgresql.address import parse_address
        from mailvane.queue.postgresql.errors import BadAddress

        try:
            parse_address(url)
        except BadAddress as error:
            raise wrong(str(error)) from None
        return Secret(url)
    if scheme != "sqlite" or not colon:
        raise wrong("found no queue that is known, wanted sqlite:FILE or postgresql://USER@HOST/DATABASE")
    if not file or file.startswith(("//", ":")) or "?" in file:
        raise wrong("found no path of a file after sqlite:, wanted sqlite:FILE or sqlite:/PATH/FILE")
    return home / file


def _reference(given: str, home: Path, wrong: Callable[[str], Exception]) -> str:
    """A reference, its path absolute."""
    if given == "@file:":
        raise wrong("found no path after @file:, wanted @file:PATH")
    if path := reference_path(given):
        return f"@file:{home / path}"
    if given == "@env:" or not is_reference(given):
        raise wrong("found no reference after @, wanted @file:PATH or @env:NAME")
    return given


def http_listen(value: Word) -> Listen:
    try:
        return listen_in(value.text)
    except ValueError as error:
        raise Wrong(value, str(error)) from None


def api_token(value: Word, home: Path) -> Secret:
    if value.text.startswith("@"):
        return Secret(_reference(value.text, home, lambda why: Wrong(value, why)))
    if not all("!" <= c <= "~" for c in value.text):
        raise Wrong(value, "a token may have printable ASCII characters only, and no spaces")
    return Secret(value.text)


def destination_networks(value: Word) -> Literal["any", "public"]:
    match value.text:
        case "any":
            return "any"
        case "public":
            return "public"
        case other:
            raise Wrong(value, f"found {quoted(other)}, wanted any or public")


def networks(values: tuple[Word, ...]) -> tuple[Network, ...]:
    return tuple(_network(word) for word in values)


def _network(word: Word) -> Network:
    try:
        return ipaddress.ip_network(word.text)
    except ValueError:
        raise Wrong(word, f"found {quoted(word.text)}, {_network_hint(word.text)}") from None


def _network_hint(text: str) -> str:
    try:
        return f"wanted the network without an address in it: {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return "wanted a network such as 10.0.0.0/8 or fd00::/8"


_DURATION = re.compile(r"([0-9]{1,9})(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
LONGEST = 10 * 365 * 86_400
"""Seconds, of a duration."""


def duration(value: Word) -> int:
    """Seconds."""
    found = _DURATION.fullmatch(value.text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if (found is None and value.text != "0") or seconds > LONGEST:
        raise Wrong(value, f"found {quoted(value.text)}, wanted 0 or up to ten years, such as 30min, 12h, 7d, 4w")
    return seconds


def bounce_text_length(value: Word) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value.text) or int(value.text) > 65_536:
        raise Wrong(value, f"found {quoted(value.text)}, wanted a whole number from 0 to 65536")
    return int(value.text)
