"""Takes secrets out of what is shown: of an address, and of a whole file whose lines are about to be printed.

A file is masked character by character, so that places stay what they are. It may be broken in any way, so this goes
by how secrets look, not by the grammar, and masks rather too much than too little.
"""

import re

_ADDRESS = re.compile(r"://(?P<value>[^\s\"'`]*)")
_URL_KEY = re.compile(
    r"(?i)url[\"'`]?+[ \t\r\n]*+(?:[:=][ \t\r\n]*+)?[\"'`](?!@file:|@env:)(?P<value>(?:[^\"'`\\\n]|\\.)*+)"
)
# A name that tells of a secret, or is meant to (`pasword`, `api_tokn`), then its value: quoted (perhaps never closed),
# or bare.
_NAMED = re.compile(
    r"(?i)(?:pas|pwd|tok|secr|dsn|cred|api_?key)[\w.-]{0,40}+[\"'`]?+[ \t\r\n]*+(?:[:=][ \t\r\n]*+)?"
    r"(?:\"(?P<double>(?:[^\"\\\n]|\\.)*+)|'(?P<single>[^'\n]*+)|`(?P<back>[^`\n]*+)"
    r"|(?P<bare>[^\s\"'`,:={}\[\]][^\s,}]*+))"
)


def mask_text(text: str) -> str:
    """The text with a `*` for each character that may be secret; lines and columns stay."""
    hidden = bytearray(len(text))
    for match in (*_ADDRESS.finditer(text), *_URL_KEY.finditer(text)):
        for start, end in _secret_spans(match["value"]):
            _hide(hidden, match.start("value") + start, match.start("value") + end)
    for match in _NAMED.finditer(text):
        kind = match.lastgroup or "bare"
        if not match[kind].startswith(("@file:", "@env:")):
            _hide(hidden, match.start(kind), match.end(kind))
    if 1 not in hidden:
        return text
    return "".join("*" if secret and c not in "\r\n" else c for c, secret in zip(text, hidden, strict=True))


def mask_url(url: str) -> str:
    """An address for people: without user, password, query and fragment. References stay as they are."""
    if url.startswith(("@file:", "@env:")):
        return url
    for start, end in reversed(_secret_spans(url)):
        url = f"{url[:start]}...{url[end:]}"
    return url


def _secret_spans(address: str) -> list[tuple[int, int]]:
    """User and password, then query or fragment: where each begins and ends."""
    scheme = re.compile(r"(?i)https?:/{0,2}|[^/]*//").match(address)
    begin = scheme.end() if scheme else 0
    cut = re.compile(r"[?#]").search(address, begin)
    end = cut.start() if cut else len(address)
    # A password may hold any character where it ought to be percent-encoded: `user:pa?ss@host`.
    password = re.compile(r"(?!\[)[^/?#]*?:(?![0-9]*(?:[/?#]|$))").match(address, begin)
    sign = address.rfind("@", begin, len(address) if password else end)
    if sign >= end:
        return [(begin, sign)]
    spans = [(begin, sign)] if sign > begin else []
    if password and sign < 0:
        # The file may end in the middle of it.
        spans = [(password.end(), end)]
    return [*spans, (end + 1, len(address))] if cut and end + 1 < len(address) else spans


def _hide(hidden: bytearray, start: int, end: int) -> None:
    hidden[start:end] = b"\x01" * (end - start)
