"""The types and fields of events for `--help`, made from the catalogue."""

from textwrap import wrap

from mailvane.events.catalogue import FIELDS, TYPES


def types_and_fields() -> str:
    """All types with what happened, all fields with their kind, what they mean and on which types they stand."""
    lines = ["types of events:"]
    for event_type in TYPES.values():
        if event_type.made:
            lines.append(f"  {event_type.name.ljust(28)}{event_type.what_happened}")
    lines += ["", "fields:"]
    for field in FIELDS.values():
        on = "" if field.on == "every type" else f" ({field.on})"
        first, *more = wrap(field.description + on, 70)
        lines.append(f"  {field.name.ljust(26)}{field.kind.ljust(9)}{first}")
        lines += [" " * 37 + line for line in more]
    return "\n".join(lines)
