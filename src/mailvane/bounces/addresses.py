"""Finding mail addresses in what reports say (RFC 5321, RFC 3461, RFC 6533), without ever trusting it."""

import re

ADDRESS_AT_MOST = 1_024
"""Characters; RFC 5321 allows 320. What is longer is no address that anyone was written to."""

LIST_AT_MOST = 1_000
"""Addresses of one list that are looked at; a message of ours goes to one."""

_ANGLE = re.compile(r"<([^<>]*)>")
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
# Controls, line separators, lone surrogates, and what stood for bytes that are no UTF-8.
_NEVER = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd"
_NEVER_IN_QUOTES = re.compile(f"[{_NEVER}]")
_NEVER_IN_ONE = re.compile(rf"[{_NEVER}\x20\xa0<>()\[\],;:\\]")


def address_in(text: str) -> str | None:
    """The one address that *text* is or holds in angle brackets; None if it is none that mail could have been sent to.

    Control characters, white space outside a quoted local part, and lengths over ``ADDRESS_AT_MOST`` make it none.
    """
    text = text[: ADDRESS_AT_MOST * 4].strip()
    angle = _ANGLE.search(text)
    if angle:
        text = angle[1].strip()
    if len(text) > 2 and text[0] == text[-1] == "'":
        text = text[1:-1]
    text = text.removeprefix("mailto:").removeprefix("smtp:").removeprefix("SMTP:")
    local, at, domain = text.rpartition("@")
    if not at or not local or len(text) > ADDRESS_AT_MOST:
        return None
    literal = domain.startswith("[") and domain.endswith("]")
    if not literal and (not domain or _NEVER_IN_ONE.search(domain) or domain.startswith(".") or ".." in domain):
        return None
    if literal and not re.fullmatch(r"\[[A-Za-z0-9.:]+\]", domain):
        return None
    if len(local) >= 2 and local.startswith('"') and local.endswith('"'):
        return None if _NEVER_IN_QUOTES.search(local) else text
    if "@" in local or '"' in local or _NEVER_IN_ONE.search(local):
        return None
    return text.rstrip(".")


def typed_address(value: str) -> str | None:
    """The address of a DSN field, ``rfc822;user@example.com`` or ``utf-8;…`` (RFC 3464, 2.1.2; RFC 6533, 3)."""
    kind, semicolon, rest = value.partition(";")
    if not semicolon:
        return address_in(value)
    kind = kind.strip().lower()
    if kind == "utf-8":
        rest = _UNITEXT.sub(_unitext, rest[: ADDRESS_AT_MOST * 4])
    elif kind in ("x400", "unknown", "x-local"):
        return None
    # Comments behind the address are not in the grammar, but in the wild.
    return address_in(rest) or address_in(rest.strip().partition(" ")[0])


def _unitext(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= 0x10FFFF else "\ufffd"


def addresses_in_list(value: str) -> tuple[str, ...]:
    """The addresses of a header like ``To`` or ``X-Failed-Recipients``, in order, each once, at most LIST_AT_MOST."""
    found: dict[str, None] = {}
    for piece in value.split(",", LIST_AT_MOST):
        address = address_in(piece)
        if address:
            found[address] = None
    return tuple(found)


def same_address(one: str, other: str) -> bool:
    """Are they one mailbox for our purposes: equal but for the case of letters?"""
    return one.casefold() == other.casefold()
