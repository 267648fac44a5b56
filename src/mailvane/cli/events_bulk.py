"""`mailvane events retry|drop|replay`: acting on all events that somebody means."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from mailvane.cli.acting import Hand, by_who_has_it
from mailvane.cli.border import WrongUsage
from mailvane.cli.output import count, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.progress import Advance, on_terminal, progress
from mailvane.cli.query import kept_arguments, query_of, queue_arguments
from mailvane.cli.queue_access import inspection, reading, who_delivers
from mailvane.cli.views import viewing
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import Settings, load_settings
from mailvane.operations.inspection import Query
from mailvane.operations.parts import ACT_LIMIT, Act, Acted, meant_by
from mailvane.queue.remote import OwnerClient

DONE = {Act.RETRY: "due now", Act.DROP: "deleted", Act.REPLAY: "in the queue again"}
WOULD = {Act.RETRY: "would be due now", Act.DROP: "would be deleted", Act.REPLAY: "would be in the queue again"}


def _run(args: argparse.Namespace, act: Act) -> int:
    query = query_of(args, time.time())
    if query.empty:
        raise WrongUsage(f"which events? Say what they have in common, or --all to {act} all")
    settings = load_settings(existing_home(args.home))
    if args.dry_run:
        with viewing(settings) as view:
            _tell(args, view.would(act, query), WOULD[act])
        return 0
    n = _done(settings, act, query)
    _tell(args, n, DONE[act])
    if act is Act.REPLAY and not n and not settings.keep_delivered:
        tell("no delivered events are kept: mailvane.conf needs a line such as keep_delivered 7d for that")
    return 0


def _tell(args: argparse.Namespace, n: int, became: str) -> None:
    if args.json:
        say_json({"matched": n})
    else:
        say(f"{count(n, 'event')} {became}")


def _done(settings: Settings, act: Act, query: Query) -> int:
    in_parts = on_terminal() and not (act is Act.RETRY and query.everything)  # that is one statement
    total = None
    if in_parts:
        with viewing(settings) as view:
            total = view.would(act, query)
    with progress(f"{act}:", total) as advance:
        return by_who_has_it(
            settings,
            lambda hand: _locally(settings, act, query, hand, advance),
            lambda owner: _by_owner(owner, act, query, advance) if in_parts else _asked(owner, act, query).matched,
        )


def _locally(settings: Settings, act: Act, query: Query, hand: Hand, advance: Advance) -> int:
    now = int(time.time() * 1000)
    if act is Act.RETRY and query.everything:
        return hand.make_due(None, now)
    changes: dict[Act, Callable[[Sequence[int]], int]] = {
        Act.RETRY: lambda ids: hand.make_due(ids, now),
        Act.DROP: hand.delete,
        Act.REPLAY: lambda ids: len(hand.replay(ids)),
    }
    done = 0
    for ids in _ids(settings, meant_by(act, query)):
        n = changes[act](ids)
        done += n
        advance(n)
    return done


def _ids(settings: Settings, query: Query) -> Iterator[Sequence[int]]:
    with reading(settings) as reader:
        delivers = who_delivers(settings, reader)
        ids = inspection(settings, reader, delivers).ids(query) if reader else iter(())
        while page := list(islice(ids, ACT_LIMIT)):
            yield page


def _by_owner(owner: OwnerClient, act: Act, query: Query, advance: Advance) -> int:
    """Part by part, up to what was there at the beginning."""
    upto = _asked(owner, act, query, "?dry_run=true").upto or 0
    done, after = 0, 0
    while True:
        part = _asked(owner, act, query, f"?after={after}&upto={upto}&limit={ACT_LIMIT}")
        done += part.matched
        advance(part.matched)
        if part.next is None:
            return done
        after = part.next


def _asked(owner: OwnerClient, act: Act, query: Query, part: str = "") -> Acted:
    answer = owner.request("POST", f"/v1/events/{act}{part}", msgspec.json.encode(query))
    return msgspec.json.decode(answer, type=Acted)


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="changes nothing, tells how many it would be")


def _queue_arguments(parser: argparse.ArgumentParser) -> None:
    queue_arguments(parser)
    _dry_run(parser)


def _kept_arguments(parser: argparse.ArgumentParser) -> None:
    kept_arguments(parser)
    _dry_run(parser)


RETRY = Spec(
    about="Makes failed events due at once instead of after their wait, and closes open circuits: for when you know "
    "that the endpoint is back. Done by the process that delivers; with none running, directly.",
    examples=[
        ("mailvane events retry --all", ""),
        ("mailvane events retry --email '*@example.com' --json", 'prints {"matched": 12}'),
        ("mailvane events retry --type scomp --dry-run", "how many it would be"),
    ],
    arguments=_queue_arguments,
    run=lambda args: _run(args, Act.RETRY),
)
DROP = Spec(
    about="Deletes events from the queue: they are not delivered. What is on its way at that moment may still arrive.",
    examples=[
        ("mailvane events drop --type engine_open --until 2026-11-01", "opens of before November"),
        ("mailvane events drop --list old-list --dry-run", "how many it would be"),
        ("mailvane events drop --all", "everything"),
    ],
    arguments=_queue_arguments,
    run=lambda args: _run(args, Act.DROP),
)
REPLAY = Spec(
    about="Delivers events again that were delivered: for when an endpoint took them and lost them. They go back into "
    "the queue with the ids they had, as not tried yet, and by the rules of now. mailvane.conf must have said before "
    "they were delivered how long they are kept (keep_delivered). An endpoint that knows ids it has had will take them "
    "for repeats.",
    examples=[
        ("mailvane events replay --id 4711", ""),
        ("mailvane events replay --delivered-since 2h --dry-run", "how many it would be"),
        (
            "mailvane events replay --type scomp --delivered-since 2026-11-01T08:00 --delivered-until 2026-11-01T09:30",
            "",
        ),
    ],
    arguments=_kept_arguments,
    run=lambda args: _run(args, Act.REPLAY),
)
