"""The forms of an event on the wire, made from the form in which the queue keeps it.

An event is encoded once, at recording, into its *stored form*: `body`, the members of the legacy object without `id`,
those that have a value first, and `extra`, the members that only the modern object has. Legacy and modern JSON are then
spliced from these bytes; only the form encoding looks at values again.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from mailvane.events.catalogue import CLASSIC, DELIVERY, FIELDS, Event

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder(dict[str, object]).decode
Row = Literal["classic", "delivery"]
_LEGACY_KEYS: dict[Row, tuple[str, ...]] = {"classic": CLASSIC, "delivery": CLASSIC + DELIVERY}


class StoredForm(msgspec.Struct, frozen=True, gc=False):
    """An event as the queue keeps it.

    `mail_class` is what filters compare: the event's mail class or else its listid, lowercased. `body` and `extra` are
    JSON members without the braces around them; the first `valued` bytes of `body` (in UTF-8) have a value, the rest
    says which keys of the row are empty.
    """

    event_type: str
    mail_class: str
    valued: int
    body: str
    extra: str


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What follows from which fields of an event have a value: `empty`, the members of the row that have none, and
    `beyond`, the fields that are not of the row."""

    empty: bytes
    beyond: tuple[str, ...]


def stored_form(event: Event, server_id: str = "", wire: bytes = b"") -> StoredForm:
    """Encodes an event that the door let in (`mailvane.events.clean`); `server_id` where the event names none.

    `wire` is its JSON as this encoder writes it, where that is at hand.
    """
    valued, extra = (wire or _encode(event))[1:-1], b""
    values = msgspec.to_builtins(event)
    shapes = _shapes["delivery" if event.event_type == "delivery_attempt" else "classic"]
    shape = shapes.known.get(names := tuple(values)) or shapes.find(names)
    if shape.beyond:
        # Fields stand in the wire in the catalogue's order, so what is not of the row is the wire's end.
        extra = _encode({name: values[name] for name in shape.beyond})[1:-1]
        valued = valued[: -len(extra) - 1]
    if server_id and not event.server_id:
        extra = (extra + b"," if extra else b"") + _server_member(server_id)
    return StoredForm(
        event.event_type,
        (event.mail_class or event.listid).lower(),
        len(valued),
        (valued + shape.empty).decode(),
        extra.decode(),
    )


class _Shapes:
    """The shapes of one kind of row, remembered: real traffic has a handful."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.known: dict[tuple[str, ...], Shape] = {}
        self._keys = keys

    def find(self, names: tuple[str, ...]) -> Shape:
        """The shape of an event of which these fields have a value."""
        missing = {name: FIELDS[name].empty for name in self._keys if name not in names}
        shape = Shape(
            b"," + _encode(missing)[1:-1] if missing else b"", tuple(name for name in names if name not in self._keys)
        )
        if len(self.known) >= 10_000:
            self.known.clear()
        self.known[names] = shape
        return shape


_shapes: dict[Row, _Shapes] = {row: _Shapes(keys) for row, keys in _LEGACY_KEYS.items()}


@lru_cache(maxsize=16)
def _server_member(server_id: str) -> bytes:
    return b'"server_id":' + _encode(server_id)


LEGACY_JSON = b'{"id":%b,%b}'
"""The legacy object, of id and stored `body`: every key of the classic row, empty ones as "" or null."""


def modern_json(event_id: int, epoch: str, valued: int, body: str, extra: str) -> bytes:
    """The modern object: what has a value, and the queue's names for the event."""
    members = body.encode()[:valued]
    if extra:
        members += b"," + extra.encode()
    server_id = event_server(extra)
    return b'{"id":%d,"event_unique_id":"%b",%b}' % (event_id, unique_id(server_id, epoch, event_id).encode(), members)


def event_server(extra: str) -> str:
    """The server that recorded an event, from what is stored of it."""
    return str(modern_values(extra).get("server_id", ""))


def modern_values(extra: str) -> dict[str, object]:
    """What only the modern object has of an event, as values; those that it does not have are left out."""
    return _values(b"{" + extra.encode() + b"}")


def unique_id(server_id: str, epoch: str, event_id: int) -> str:
    """A name unique across servers, at most 64 characters: server, epoch of the queue, id."""
    tail = f"-{epoch}-{event_id}"
    return _safe(server_id)[: 64 - len(tail)] + tail


@lru_cache(maxsize=64)
def _safe(server_id: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "_" for c in server_id)


def legacy_values(event_id: int, body: str) -> dict[str, object]:
    """The legacy object as values, in the order of the classic row."""
    values = _values(b"{" + body.encode() + b"}")
    row: Row = "delivery" if values.get("event_type") == "delivery_attempt" else "classic"
    return {"id": event_id, **{name: values.get(name) for name in _LEGACY_KEYS[row]}}


# Percent-encoding by table, and only of what needs it: urllib.parse takes longer for one event than a whole POST.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_PERCENT = {chr(b): "+" if b == 0x20 else f"%{b:02X}" for b in range(128)}


def _percent_one(found: re.Match[str]) -> str:
    char = found[0]
    return _PERCENT.get(char) or "".join([f"%{b:02X}" for b in char.encode()])


def legacy_form(event_id: int, body: str) -> bytes:
    """The legacy form, `application/x-www-form-urlencoded`: the keys of the classic row in their order, null as empty.

    JSON values (`json_before`, `json_after`, `headers`) travel as JSON text, as the classic row has them.
    """
    parts: list[str] = []
    for name, value in legacy_values(event_id, body).items():
        if value is None or value == "":
            parts.append(name + "=")
        elif isinstance(value, str):
            parts.append(f"{name}={value if value.isalnum() and value.isascii() else _UNSAFE.sub(_percent_one, value)}")
        elif isinstance(value, int) and not isinstance(value, bool):
            parts.append(f"{name}={value!r}")
        else:
            parts.append(f"{name}={_UNSAFE.sub(_percent_one, _encode(value).decode())}")
    return "&".join(parts).encode()
