"""`mailvane events status|list|show|tail|count`: looking at the queue."""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from datetime import datetime

import msgspec

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import ascii_table, count, duration, moment, say, say_json, say_json_array, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.query import query_arguments, query_of, queue_arguments
from mailvane.cli.queue_access import QueueReader, inspection, reading
from mailvane.cli.views import viewing
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import QueueUnavailable
from mailvane.operations.inspection import Query, Shown
from mailvane.operations.status import Status
from mailvane.processor.plan import LEGACY

SHOWN_AT_FIRST = 100
LOOK_EVERY = 0.1
"""Seconds between two looks of `tail`."""


def _settings(args: argparse.Namespace) -> Settings:
    return load_settings(existing_home(args.home))


def _status(args: argparse.Namespace) -> int:
    with viewing(_settings(args)) as view:
        report = view.status(time.time())
    if args.json:
        say_json(msgspec.to_builtins(report))
        return 0
    say(_table(report))
    for line in _more(report):
        say(line)
    if report.config.report:
        tell(report.config.report)
    for problem in (report.trouble, *report.problems):
        if problem:
            tell(problem)
    return 0


def _table(report: Status) -> str:
    """GreenArrow's table, in which the legacy configuration does not tell first attempts from retries."""
    rows = [
        (
            d.name,
            str(d.first_attempt + d.retries if d.name == LEGACY else d.first_attempt),
            "n/a" if d.name == LEGACY else str(d.retries),
        )
        for d in report.destinations
    ]
    return ascii_table(("Destination Name", "Event Count (First Attempt)", "Event Count (Retries)"), rows)


def _more(report: Status) -> Iterator[str]:
    for route in (r for d in report.destinations for r in d.routes):
        flying = f", {route.in_flight:,} in flight" if route.in_flight else ""
        error = f"; last error: {route.last_error}" if route.last_error else ""
        yield f"{route.destination}: {route.state}, {route.deferred:,} wait for another try{flying}{error}"
    oldest = (
        f", the oldest for {duration(report.queue.oldest_seconds)}" if report.queue.oldest_seconds is not None else ""
    )
    b = report.books
    yield f"{count(report.queue.events, 'event')} in the queue{oldest}"
    became = f"{b.delivered:,} delivered, {b.dropped:,} dropped, {b.deleted:,} deleted"
    yield f"since it was made: {b.recorded:,} recorded, {became}"
    match report.config.state:
        case "current":
            yield "configuration: current"
        case "stale":
            since = moment(report.config.since) if report.config.since else "?"
            yield f"configuration: not usable since {since}; the last good one is in force"
        case _:
            yield "configuration: there is no usable one, events stay in the queue"
    if report.stands_by:
        # Who delivers: were it a process of this home, it would have answered itself.
        yield report.stands_by
    elif report.queue.in_flight is None:
        yield "nobody delivers now; mailvane run does"


def _list(args: argparse.Namespace) -> int:
    query = query_of(args, time.time())
    limit: int | None = args.limit
    if limit is not None and limit < 1:
        raise WrongUsage("--limit: at least 1")
    if limit is None and query.empty:
        limit = SHOWN_AT_FIRST
    with viewing(_settings(args)) as view:
        events = view.select(query, None if limit is None else limit + 1)
        shown = itertools.islice(events, limit)
        if args.json:
            say_json_array(shown)
        else:
            for event in shown:
                say(_line(event))
        if next(events, None) is not None:
            tell(f"there are more than these {limit:,}; --all shows everything, --limit N so many")
    return 0


def _line(event: dict[str, object]) -> str:
    """An event for people: id, time, type, address, state."""
    when = moment(float(str(event["event_time"])))
    bounce = f" {event['bounce_type']} {event['bounce_code']}" if event.get("bounce_type") else ""
    listid = f"  list {event['listid']}" if event.get("listid") else ""
    state = f"  {event['state']}" if "state" in event else ""
    return f"{event['id']}  {when}  {event['event_type']}{bounce}  {event['email']}{listid}{state}"


def _count(args: argparse.Namespace) -> int:
    query = query_of(args, time.time())
    with viewing(_settings(args)) as view:
        n = view.count(query)
    if args.json:
        say_json({"count": n})
    else:
        say(str(n))
    return 0


def _show(args: argparse.Namespace) -> int:
    with viewing(_settings(args)) as view:
        shown = view.show(args.id)
    if shown is None:
        tell(f"event {args.id} is not in the queue: delivered, dropped, or never there")
        return 1
    if args.json:
        say_json(msgspec.to_builtins(shown), indent=2)
    else:
        for name, value in _told(shown):
            say(f"{name.ljust(26)}{value}")
    return 0


def _told(shown: Shown) -> Iterator[tuple[str, str]]:
    for name, value in shown.event.items():
        if value in ("", None) or name == "state":
            continue
        told = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        yield name, f"{told} ({moment(float(told))})" if name == "event_time" else told
    if shown.event_unique_id:
        yield "event_unique_id", shown.event_unique_id
    yield "state", shown.state
    if shown.delivered is None:  # else it is not remembered where it went
        yield "destination", shown.destination or "none: no rule takes it"
    for name in ("recorded", "first_failed", "last_failed", "due", "delivered"):
        value = getattr(shown, name)
        if value is not None:
            yield name, _exact_moment(value)
    yield "failed attempts", str(shown.attempts)
    before = 0
    for attempt in shown.failed:
        if attempt.number > before + 1:
            yield "", f"({attempt.number - before - 1:,} more)"
        status = f", status {attempt.status}" if attempt.status else ""
        yield (
            f"attempt {attempt.number}",
            f"{_exact_moment(attempt.at)}, {attempt.seconds:.3f} s{status}, {attempt.error}",
        )
        before = attempt.number
    if shown.last_error:
        yield "last error", shown.last_error


def _exact_moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "milliseconds")


def _tail(args: argparse.Namespace) -> int:
    query = query_of(args, time.time())
    settings = _settings(args)
    after: int | None = None
    said = ""
    while True:
        try:
            with reading(settings) as reader:
                while True:
                    after = 0 if reader is None else _follow(args, query, settings, reader, after)
                    said = ""
                    time.sleep(LOOK_EVERY)
                    if settings.queue_url is None:  # another file may stand there by now
                        break
        except QueueUnavailable as error:
            if settings.queue_url is None:
                raise
            if str(error) != said:  # the server restarts
                tell(str(error))
            said = str(error)
            time.sleep(LOOK_EVERY)


def _follow(args: argparse.Namespace, query: Query, settings: Settings, reader: QueueReader, after: int | None) -> int:
    """Shows what came above `after` (None: the last few), and returns how far that was."""
    newest = reader.last_id()
    if after is None:
        recent = max(0, newest - 100 * args.lines)
        shown = list(inspection(settings, reader).select(query, recent))[-args.lines :] if args.lines else []
        _print((seen.legacy() for seen in shown), args.json)
        return newest
    if newest <= after:
        return after
    found = itertools.takewhile(lambda seen: seen.row.id <= newest, inspection(settings, reader).select(query, after))
    n = _print((seen.legacy() for seen in found), args.json)
    if query.everything and n < newest - after:
        tell(f"({newest - after - n:,} came and were delivered before they could be shown)")
    return newest


def _print(events: Iterator[dict[str, object]], as_json: bool) -> int:
    n = 0
    for event in events:
        n += 1
        if as_json:
            say_json(event)
        else:
            say(_line(event))
    sys.stdout.flush()
    return n


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    query_arguments(parser)
    parser.add_argument(
        "--limit", type=int, metavar="N", help=f"at most N ({SHOWN_AT_FIRST} if nothing says which events)"
    )


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=int, metavar="ID", help="the event's id")


def _tail_arguments(parser: argparse.ArgumentParser) -> None:
    queue_arguments(parser)
    parser.add_argument("--lines", "-n", type=int, default=10, metavar="N", help="begins with the last N (10)")


STATUS = Spec(
    about="Shows how many events wait for each destination (GreenArrow's table; the legacy configuration, "
    "event_processor.json, is one: __legacy__, which does not tell first attempts from retries), how each of "
    "the addresses it names is, and what is wrong. Works while everything runs, and while nothing does.",
    examples=[
        ("mailvane events status", ""),
        ("mailvane events status --json", "the same object as GET /v1/status"),
    ],
    run=_status,
)
LIST = Spec(
    about="Lists events in the queue in the order of their ids: id, event_time, type, address, list, state. A state "
    "is waiting, in_flight, deferred (failed, waits for another try) or left (the configuration leaves it); --state "
    "delivered, or --delivered-since, lists those that keep_delivered keeps. "
    "--json prints one array of legacy objects, each with its state; mailvane record --help tells the fields.",
    examples=[
        ("mailvane events list --type bounce_all --email '*@example.com' --since 2h", ""),
        ("mailvane events list --all --json", "everything, as an array"),
        ("mailvane events list --state deferred --limit 20", "what failed"),
    ],
    arguments=_list_arguments,
    run=_list,
)
SHOW = Spec(
    about="Shows everything about one event in the queue, or kept after it was delivered (keep_delivered): its fields, "
    "where it goes, the first and the last nine of its failed attempts (when it ended, how long it took, the status, "
    "what the other side said), the last error.",
    examples=[("mailvane events show 4711", "")],
    arguments=_show_arguments,
    run=_show,
)
TAIL = Spec(
    about="Shows events as they are recorded, until Ctrl-C. Events that are delivered within a tenth of a second "
    "are counted, not shown: look at the endpoint for those. --json prints one object a line.",
    examples=[("mailvane events tail --type scomp", "complaints as they come")],
    arguments=_tail_arguments,
    run=_tail,
)
COUNT = Spec(
    about="Counts events in the queue: all, or those that meet every condition given.",
    examples=[
        ("mailvane events count", "all"),
        ("mailvane events count --type scomp --since 2026-11-01 --json", 'prints {"count": 3}'),
    ],
    arguments=query_arguments,
    run=_count,
)
