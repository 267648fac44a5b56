"""The values of an event that a statement is given, as the classic row has them. No I/O.

Whole numbers stay numbers; JSON (`json_before`, `json_after`, `headers`) is text; what the event does not have is as in
the legacy object: "" or NULL. Beside the row's fields `id` and `event_unique_id` can be bound, the queue's names.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, cast

import msgspec
from msgspec.structs import astuple

from mailvane.destinations.contract import Outgoing
from mailvane.events.catalogue import CLASSIC, DELIVERY, FIELDS
from mailvane.events.codecs import event_server, unique_id

Value = str | int | float | None
Values = tuple[Value, ...]
Kind = Literal["text", "integer", "number"]

BINDABLE = ("id", *CLASSIC, *DELIVERY, "event_unique_id")
"""What `bind_list` may name."""

_TYPES: dict[str, object] = {
    "string": str | None,
    "integer": int | None,
    "number": float | int | None,
    "json": object,
}
_encode = msgspec.json.Encoder().encode


def kind_of(name: str) -> Kind:
    """What a bindable field's values are, where they are not NULL."""
    if name in ("id", "event_unique_id"):
        return "integer" if name == "id" else "text"
    match FIELDS[name].kind:
        case "integer":
            return "integer"
        case "number":
            return "number"
        case _:
            return "text"


class Binding:
    """Makes a statement's values of events. `bind` has names of BINDABLE, `epoch` is the queue's."""

    def __init__(self, bind: Sequence[str], epoch: str) -> None:
        self._epoch = epoch
        in_row = [name for name in bind if name not in ("id", "event_unique_id")]
        names = list(dict.fromkeys(in_row))
        struct = msgspec.defstruct("Bound", [(n, _TYPES[FIELDS[n].kind], None) for n in names], frozen=True, gc=False)
        self._decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(struct).decode
        self._again = None if names == in_row else [names.index(name) for name in in_row]
        self._json = [n for n, name in enumerate(names) if FIELDS[name].kind == "json"]
        self._own = [(n, name) for n, name in enumerate(bind) if name in ("id", "event_unique_id")]

    def values(self, event: Outgoing) -> Values:
        """The values of one event. Raises msgspec.MsgspecError for a body that is no event's."""
        values: list[object] = list(astuple(self._decode(b"{%b}" % event.body.encode())))
        for n in self._json:
            value = values[n]
            if value is not None and not isinstance(value, str):
                values[n] = _encode(value).decode()
        if self._again is not None:  # a name stands twice in bind_list
            values = [values[n] for n in self._again]
        for n, name in self._own:
            values.insert(n, event.id if name == "id" else self._unique_id(event))
        return cast(Values, tuple(values))

    def _unique_id(self, event: Outgoing) -> str:
        return unique_id(_server_of(event.extra) if event.extra else "", self._epoch, event.id)


_server_of = lru_cache(maxsize=64)(event_server)
