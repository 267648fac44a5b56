"""Which events a person means: the options that the commands on the queue share."""

import argparse
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from mailvane.cli.border import WrongUsage
from mailvane.events.catalogue import INTEGER_MAX, TYPES
from mailvane.operations.inspection import Query
from mailvane.processor.states import EventState

_AGO = re.compile(r"([0-9]{1,9})(s|min|m|h|d)")
_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


def query_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of what looks at the queue, and at delivered events that are kept."""
    _arguments(parser, tuple(EventState))
    delivered_arguments(parser)


def queue_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of what acts on events in the queue."""
    _arguments(parser, tuple(s for s in EventState if s is not EventState.DELIVERED))


def kept_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of what acts on delivered events that are kept."""
    _arguments(parser, ())
    delivered_arguments(parser)


def delivered_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is known of delivered events alone."""
    group = parser.add_argument_group(
        "which delivered events", "those that keep_delivered keeps; other ones never match"
    )
    group.add_argument("--delivered-since", metavar="TIME", help="delivered then or later")
    group.add_argument("--delivered-until", metavar="TIME", help="delivered before that")


def _arguments(parser: argparse.ArgumentParser, states: Sequence[EventState]) -> None:
    group = parser.add_argument_group(
        "which events",
        "All given conditions must hold. TIME: 2026-11-24, 2026-11-24T10:30, seconds since 1970, or 2h ago: 2h",
    )
    group.add_argument("--id", type=int, action="append", default=[], metavar="ID", help="may be given several times")
    group.add_argument("--type", action="append", default=[], metavar="TYPE", help="may be given several times")
    group.add_argument("--email", default="", metavar="ADDRESS", help="* stands for anything: '*@example.com'")
    group.add_argument("--list", default="", metavar="LISTID", help="the mailing list")
    group.add_argument("--since", metavar="TIME", help="event_time is that or later")
    group.add_argument("--until", metavar="TIME", help="event_time is before that")
    if states:
        group.add_argument("--state", choices=[str(s) for s in states], help="where the event stands")
    group.add_argument("--destination", default="", metavar="NAME", help="as events status names it; __legacy__: any")
    group.add_argument("--all", action="store_true", help="everything")


def query_of(args: argparse.Namespace, now: float) -> Query:
    """What was given. Raises WrongUsage."""
    ids: list[int] = args.id
    types: list[str] = args.type
    for event_id in ids:
        if not 0 < event_id <= INTEGER_MAX:
            raise WrongUsage(f"--id: {event_id} is no id")
    for name in types:
        if name.lower() not in TYPES:
            raise WrongUsage(f"--type: {name!r} is no type of event; known are {', '.join(TYPES)}")
    for option in ("email", "list", "destination"):
        text = str(getattr(args, option))
        if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            raise WrongUsage(f"--{option}: these bytes stand in no event")
    return Query(
        all=args.all,
        ids=ids,
        types=types,
        email=args.email,
        list=args.list,
        since=_time(args.since, "--since", now),
        until=_time(args.until, "--until", now),
        state=EventState(args.state) if getattr(args, "state", None) else None,
        destination=args.destination,
        delivered_since=_time(getattr(args, "delivered_since", None), "--delivered-since", now),
        delivered_until=_time(getattr(args, "delivered_until", None), "--delivered-until", now),
    )


def _time(text: str | None, option: str, now: float) -> int | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    if ago := _AGO.fullmatch(text):
        return int(now) - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        raise WrongUsage(
            f"{option}: {text!r} is no time; 2026-11-24, 2026-11-24T10:30, or 2h for two hours ago"
        ) from None
