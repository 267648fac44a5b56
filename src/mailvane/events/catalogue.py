"""The catalogue of event types and fields: the one table that all else is made from.

Parsing, validation, codecs, samples (`mailvane trigger`), the reference in the docs and `--help` read it; none of them
names a field on its own. Types and fields are GreenArrow's; see docs/events.md.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

FIELD_LENGTH = 64 * 1024
"""Characters that one field may have."""
INTEGER_MAX = 2**63 - 1

Part = Literal["classic", "delivery", "modern"]
"""Where a field travels: in the classic row, in the row of a `delivery_attempt`, in the modern object alone."""


@dataclass(frozen=True)
class EventType:
    """A type of event: `switch` is the control file that records it for Engine, `column` the one for Studio."""

    name: str
    what_happened: str
    switch: str | None
    column: str | None
    made: bool = True


def _simplemh(name: str) -> str:
    return f"record_events.simplemh.{name}"


TYPES: dict[str, EventType] = {
    t.name: t
    for t in (
        EventType("bounce_all", "a message was not delivered: every bounce, hard, soft or other",
                  _simplemh("bounce_all"), "event_notification_bounce_all"),
        EventType("bounce_bad_address", "the address is invalid: send nothing more to it",
                  _simplemh("bounce_bad_address"), "event_notification_bounce_bad_address"),
        EventType("scomp", "the recipient reported the message as spam", _simplemh("scomp"), "event_notification_scomp"),
        EventType("engine_open", "the tracking image was loaded", _simplemh("open"), None),
        EventType("engine_click", "a tracked link was followed", _simplemh("click"), None),
        EventType("engine_unsub", "unsubscribed, by link or by List-Unsubscribe", _simplemh("unsub"), None),
        EventType("delivery_attempt", "the mail server tried to deliver", "record_events.delivery_attempt.json", None),
        EventType("studio_open", "a Studio campaign's or autoresponder's image was loaded", None, "event_notification_studio_open"),
        EventType("studio_click", "a link in a Studio campaign or autoresponder was followed", None, "event_notification_studio_click"),
        EventType("studio_unsub", "unsubscribed from a Studio list", None, "event_notification_studio_unsub"),
        EventType("studio_subscriber_created", "a subscriber was created", None, "event_notification_studio_subscriber_created"),
        EventType("studio_subscriber_updated", "a subscriber was changed", None, "event_notification_studio_subscriber_updated"),
        EventType("bounce_lite", "a bounce of mail that another server sent (only a name to filter for)", None, None, made=False),
        EventType("scomp_lite", "a complaint about mail that another server sent (only a name to filter for)", None, None, made=False),
    )
}  # fmt: skip


def _about(description: str, sample: object, on: str = "every type", part: Part = "classic") -> Meta:
    return Meta(description=description, examples=[sample], extra={"on": on, "part": part})


_Text = Annotated[str, Meta(max_length=FIELD_LENGTH)]
_Whole = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
_Flag = Annotated[int, Meta(ge=0, le=1)]

_BOUNCES = "bounce_all, bounce_bad_address"
_LINKS = "engine_open, engine_click"
_STUDIO = "Studio's types"
_STUDIO_SENDS = "studio_open, studio_click, studio_unsub, bounces"
_ATTEMPT = "delivery_attempt"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One interaction with one message. Empty strings and None stand for "the event does not have it".

    Required are `event_type` and `email`; `event_time` (seconds since the Unix epoch) is the moment of recording where
    it is left out. The queue gives the id.
    """

    # The classic row, in the order in which GreenArrow's consumers know it. `id` goes before it.
    event_type: Annotated[_Text, _about("one of the types", "bounce_all")]
    event_time: Annotated[_Whole | None, _about("when it happened, seconds since the Unix epoch", 1_790_000_000)] = None
    email: Annotated[_Text, _about("the address the message was sent to", "user@example.com")]
    listid: Annotated[_Text, _about("the mailing list, lowercased", "a1")] = ""
    list_name: Annotated[_Text, _about("the list's name for people", "Newsletter")] = ""
    list_label: Annotated[_Text, _about("the list's label for people", "Monthly newsletter")] = ""
    sendid: Annotated[_Text, _about("the send, lowercased", "s20261124")] = ""
    bounce_type: Annotated[Literal["", "h", "s", "o"], _about("h hard, s soft, o other", "h", _BOUNCES)] = ""
    bounce_code: Annotated[_Whole | None, _about("kind of bounce; 10 is an unknown address", 10, _BOUNCES)] = None
    bounce_text: Annotated[_Text, _about("the remote server's words", "550 5.1.1 User unknown", _BOUNCES)] = ""
    click_url: Annotated[
        _Text, _about("the link followed", "https://www.example.com/", "engine_click, studio_click, unsubscriptions")
    ] = ""
    click_tracking_id: Annotated[
        _Text, _about("value of X-GreenArrow-Click-Tracking-ID: traces the event to one message", "ct-4711")
    ] = ""
    studio_rl_seq: Annotated[_Whole | None, _about("remote list: sequence", 7, _STUDIO)] = None
    studio_rl_recipid: Annotated[_Text, _about("remote list: recipient", "r-7", _STUDIO)] = ""
    studio_campaign_id: Annotated[_Whole | None, _about("the campaign that sent it", 12, _STUDIO_SENDS)] = None
    studio_autoresponder_id: Annotated[_Whole | None, _about("the autoresponder that sent it", 3, _STUDIO_SENDS)] = None
    studio_is_unique: Annotated[
        _Flag | None,
        _about("1: first of its kind for this subscriber and send", 1, "studio_open, studio_click, studio_unsub"),
    ] = None
    studio_mailing_list_id: Annotated[
        _Whole | None, _about("Studio's mailing list; null for a remote list", 5, _STUDIO)
    ] = None
    studio_subscriber_id: Annotated[
        _Whole | None, _about("Studio's subscriber; null for a remote list", 900, _STUDIO)
    ] = None
    studio_ip: Annotated[
        _Text, _about("address of who opened or clicked", "192.0.2.9", "studio_open, studio_click")
    ] = ""
    studio_rl_seq_id: Annotated[_Whole | None, _about("remote list: sequence id, from 1", 1, _STUDIO)] = None
    studio_rl_distinct_id: Annotated[_Whole | None, _about("remote list: distinct id", 1, _STUDIO)] = None
    engine_ip: Annotated[_Text, _about("address of who opened or clicked", "192.0.2.9", _LINKS)] = ""
    user_agent: Annotated[_Text, _about("the browser's or mail program's name for itself", "Mozilla/5.0", _LINKS)] = ""
    json_before: Annotated[
        object | None,
        _about(
            "the subscriber before the change, as JSON", {"id": 900, "status": "active"}, "studio_subscriber_updated"
        ),
    ] = None
    json_after: Annotated[
        object | None,
        _about(
            "the subscriber after the change, as JSON",
            {"id": 900, "status": "unsubscribed"},
            "studio_subscriber_created, studio_subscriber_updated",
        ),
    ] = None

    # What a delivery attempt has besides.
    timestamp: Annotated[
        float | None, _about("when the attempt ended, seconds with fraction", 1_790_000_000.25, _ATTEMPT, "delivery")
    ] = None
    channel: Annotated[Literal["", "remote", "local"], _about("remote or local", "remote", _ATTEMPT, "delivery")] = ""
    status: Annotated[
        Literal["", "success", "failure", "failure_toolong", "deferral", "connmaxout"],
        _about("how it ended", "success", _ATTEMPT, "delivery"),
    ] = ""
    is_retry: Annotated[_Flag | None, _about("1: not the first attempt", 0, _ATTEMPT, "delivery")] = None
    msguid: Annotated[
        _Text,
        _about(
            "the message in the mail server's queue (of a bounce: in that of the server that reported it)",
            "4jYdNc1v0gz",
            f"{_ATTEMPT}, {_BOUNCES}",
            "delivery",
        ),
    ] = ""
    sender: Annotated[_Text, _about("envelope sender", "bounce@example.com", _ATTEMPT, "delivery")] = ""
    mtaid: Annotated[_Whole | None, _about("the mail server", 1, _ATTEMPT, "delivery")] = None
    outmtaid: Annotated[_Whole | None, _about("the sending address's number", 1, _ATTEMPT, "delivery")] = None
    outmtaid_ip: Annotated[_Text, _about("the sending address", "192.0.2.1", _ATTEMPT, "delivery")] = ""
    outmtaid_hostname: Annotated[
        _Text, _about("the sending address's name", "out1.example.com", _ATTEMPT, "delivery")
    ] = ""
    injected_time: Annotated[
        _Whole | None,
        _about("when the message was injected, seconds since the Unix epoch", 1_789_999_990, _ATTEMPT, "delivery"),
    ] = None
    message: Annotated[_Text, _about("the remote server's answer", "250 2.0.0 Ok", _ATTEMPT, "delivery")] = ""
    sendsliceid: Annotated[_Text, _about("slice of the send", "sl1", _ATTEMPT, "delivery")] = ""
    throttleid: Annotated[_Whole | None, _about("the throttle that applied", 1, _ATTEMPT, "delivery")] = None
    mx_hostname: Annotated[_Text, _about("the remote server's name", "mx.example.com", _ATTEMPT, "delivery")] = ""
    mx_ip: Annotated[_Text, _about("the remote server's address", "192.0.2.25", _ATTEMPT, "delivery")] = ""
    from_address: Annotated[_Text, _about("address in From", "news@example.com", _ATTEMPT, "delivery")] = ""
    headers: Annotated[
        dict[str, list[str]] | None, _about("headers of the message", {"X-Job": ["7"]}, _ATTEMPT, "delivery")
    ] = None
    message_size: Annotated[_Whole | None, _about("bytes of the message", 14_200, _ATTEMPT, "delivery")] = None
    smtp_timing: Annotated[
        _Text, _about("how long each step of the conversation took", "connect=0.02", _ATTEMPT, "delivery")
    ] = ""

    # What only the modern object has.
    mail_class: Annotated[
        _Text,
        _about(
            "the mail class the message was sent with; filters compare it (where there is none, the listid)",
            "news",
            part="modern",
        ),
    ] = ""
    server_id: Annotated[
        _Text, _about("which server recorded it; the recorder's own where it is left out", "mail1", part="modern")
    ] = ""
    synchronous: Annotated[
        bool | None,
        _about("true: refused during the SMTP conversation; false: came back later", False, "bounce_all", "modern"),
    ] = None
    is_privacy_open: Annotated[bool | None, _about("true: loaded by a proxy that preloads images, no person", False, "engine_open", "modern")] = None  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A field of an event: its place, its empty value and what people need to know of it."""

    name: str
    kind: Literal["string", "integer", "number", "boolean", "json"]
    empty: str | None
    on: str
    part: Part
    description: str
    sample: object


def _kind(hint: object) -> Literal["string", "integer", "number", "boolean", "json"]:
    flat: set[object] = set()
    stack = [hint]
    while stack:
        h = stack.pop()
        args = get_args(h)
        stack.extend(a for a in args if isinstance(a, type) or get_args(a))
        flat.add(h)
    if bool in flat:
        return "boolean"
    if float in flat:
        return "number"
    if int in flat:
        return "integer"
    if object in flat or dict[str, list[str]] in flat:
        return "json"
    return "string"


def _field(name: str, hint: object) -> Field:
    meta = next(m for m in reversed(get_args(hint)[1:]) if isinstance(m, Meta) and m.extra)
    extra: dict[str, object] = meta.extra or {}
    kind = _kind(hint)
    return Field(
        name=name,
        kind=kind,
        # GreenArrow's consumers read json_… as text, so they are empty as strings are.
        empty="" if kind == "string" or name in {"json_before", "json_after"} else None,
        on=str(extra["on"]),
        part=extra["part"],  # type: ignore[arg-type]  # written by _about alone
        description=str(meta.description),
        sample=(meta.examples or [None])[0],
    )


FIELDS: dict[str, Field] = {
    name: _field(name, hint) for name, hint in get_type_hints(Event, include_extras=True).items()
}
"""Every field that a recorder may give, in the order of the wire."""

CLASSIC: tuple[str, ...] = tuple(f.name for f in FIELDS.values() if f.part == "classic")
DELIVERY: tuple[str, ...] = tuple(f.name for f in FIELDS.values() if f.part == "delivery")
GIVEN_BY_THE_QUEUE = frozenset({"id", "event_unique_id"})
