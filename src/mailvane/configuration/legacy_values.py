"""How single values of `event_processor.json` are judged. Each function gives the value, or raises Wrong."""

import os

from mailvane.configuration.legacy_keys import DESTINATIONS, DestinationType, Key
from mailvane.configuration.masking import mask_url
from mailvane.configuration.mistakes import nearest, quoted
from mailvane.configuration.positions import Array, Node, Object, Scalar
from mailvane.configuration.secrets import is_reference, reference_path
from mailvane.configuration.urls import BadUrl, ascii_url
from mailvane.destinations.dsn import BadDsn, parse_dsn
from mailvane.destinations.sql_values import BINDABLE
from mailvane.events.catalogue import TYPES

KEEP_ALIVE_MOST = 100_000
USER_AGENT_MOST = 500
ROTATE_LEAST = 1024 * 1024
ROTATE_MOST = 2**50
KEEP_MOST = 10_000
PATH_MOST = 4_000
NAME_MOST = 220
"""Bytes that a log file's name may have; older ones have a longer name."""


class Wrong(Exception):
    """A value that will not do; the text says what was found and what would be right."""


def found(node: Node) -> str:
    """What stands in the file, for a message; addresses are masked."""
    if isinstance(node, Object):
        return "an object"
    if isinstance(node, Array):
        return "an array"
    if isinstance(node.value, str):
        return f"the string {quoted(mask_url(node.value))}"
    if node.value is None:
        return "null"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return f"the number {node.raw[:40]}"


def not_wanted(key: Key, node: Node) -> Wrong:
    return Wrong(f'"{key.name}" must be {key.wanted}; {found(node)} is here')


def text(key: Key, node: Node) -> str:
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return node.value
    raise not_wanted(key, node)


def mode(key: Key, node: Node) -> None:
    if text(key, node) != "json":
        raise not_wanted(key, node)


def boolean(key: Key, node: Node) -> bool:
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    raise not_wanted(key, node)


def count(key: Key, node: Node, least: int = 0, most: int = KEEP_ALIVE_MOST) -> int:
    value = node.value if isinstance(node, Scalar) else None
    # bool is an int in Python; in JSON it is none.
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise not_wanted(key, node)
    if value > most:
        raise Wrong(f'"{key.name}" may be at most {most:,}; {found(node)} is here')
    return value


def keep(key: Key, node: Node) -> int:
    return count(key, node, 1, KEEP_MOST)


def rotate_bytes(key: Key, node: Node) -> int:
    value = count(key, node, most=ROTATE_MOST)
    if 0 < value < ROTATE_LEAST:
        raise not_wanted(key, node)
    return value


def filename(key: Key, node: Node) -> str:
    """The path of a log file; a reference as it stands, if it is well formed."""
    value = text(key, node)
    if value.startswith("@"):
        judge_form(value)
    else:
        judge_filename(key, value)
    return value


def judge_filename(key: Key, value: str) -> None:
    """Raises Wrong for what cannot be the path of a log file."""
    if not value.isprintable():
        raise Wrong(f'"{key.name}" has a character that cannot be printed in it')
    if not os.path.isabs(value):
        raise Wrong(f'"{key.name}" must be {key.wanted}, from the root: it begins with /')
    if os.path.basename(value) in {"", ".", ".."}:
        raise Wrong(f'"{key.name}" names a folder; name a file in it')
    if len(os.fsencode(value)) > PATH_MOST or len(os.fsencode(os.path.basename(value))) > NAME_MOST:
        raise Wrong(f'"{key.name}" is too long: at most {PATH_MOST:,} bytes, and {NAME_MOST} behind the last /')


def user_agent(key: Key, node: Node) -> str:
    """The header's value; a reference as it stands, if it is well formed."""
    value = text(key, node)
    if is_reference(value):
        judge_form(value)
    else:
        judge_user_agent(key, value)
    return value


def judge_user_agent(key: Key, value: str) -> None:
    """Raises Wrong for what cannot be a header's value."""
    if not all(" " <= c <= "~" for c in value):
        raise Wrong(f'"{key.name}" becomes a header: printable ASCII characters only')
    if value != value.strip() or len(value) > USER_AGENT_MOST:
        raise Wrong(
            f'"{key.name}" may neither begin nor end with a space, nor have more than {USER_AGENT_MOST} characters'
        )


def everything(key: Key, node: Node) -> None:
    if not (isinstance(node, Scalar) and node.value is True):
        raise not_wanted(key, node)


def name(key: Key, node: Node, within: bool) -> str:
    """One name of a filter, in lower case: filters ignore case. `within`: it stands in an array."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        raise Wrong(f'"{key.name}" must be {key.wanted}; {found(node)} is in it') if within else not_wanted(key, node)
    lower = node.value.lower()
    if is_reference(lower):
        raise Wrong(f'"{key.name}" takes no reference (@file:, @env:), only names themselves')
    if key.kind == "types" and lower not in TYPES:
        raise Wrong(f"{quoted(node.value)} is no type of event; {nearest(lower, TYPES)}")
    return lower


def destination_type(key: Key, node: Node) -> DestinationType:
    value = text(key, node)
    if kind := DESTINATIONS.get(value):
        return kind
    there = (kind.name for kind in DESTINATIONS.values() if not kind.later)
    raise Wrong(f"{quoted(value)} is no type of destination; {nearest(value, there)}")


def url(key: Key, node: Node) -> str:
    """The address in ASCII; a reference as it stands, if it is well formed."""
    value = text(key, node)
    if not value.startswith("@"):
        try:
            return ascii_url(value)
        except BadUrl as error:
            raise Wrong(str(error)) from None
    judge_form(value)
    return value


def judge_url(key: Key, value: str) -> None:
    """Raises Wrong for what cannot be the address that a reference leads to."""
    try:
        ascii_url(value, referred=True)
    except BadUrl as error:
        raise Wrong(str(error)) from None


def dsn(key: Key, node: Node) -> str:
    """Where a database is; a reference as it stands, if it is well formed."""
    value = secret(key, node)
    if not value.startswith("@"):
        judge_dsn(key, value)
    return value


def judge_dsn(key: Key, value: str) -> None:
    """Raises Wrong for what leads to no database."""
    try:
        parse_dsn(value)
    except BadDsn as error:
        raise Wrong(f'"{key.name}": {error}') from None


def secret(key: Key, node: Node) -> str:
    """A user, a password or a reference to one; never shown."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        raise Wrong(f'"{key.name}" must be {key.wanted}, in quotes')
    if node.value.startswith("@"):
        judge_form(node.value)
    if "\0" in node.value:
        raise Wrong(f'"{key.name}" has a NUL character in it')
    return node.value


def field(key: Key, node: Node) -> str:
    """A name in `bind_list`."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        raise Wrong(f'"{key.name}" must be {key.wanted}; {found(node)} is in it')
    if node.value not in BINDABLE:
        raise Wrong(f"{quoted(node.value)} is no field of an event's row; {nearest(node.value, BINDABLE)}")
    return node.value


def judge_form(reference: str) -> None:
    """Raises Wrong for a reference that is not written as one."""
    path = reference_path(reference)
    if not is_reference(reference) or reference == "@env:":
        raise Wrong("a reference is written @file:/PATH or @env:NAME")
    if path is not None and not path.is_absolute():
        raise Wrong("the path of an @file: reference must be absolute: @file:/PATH")
