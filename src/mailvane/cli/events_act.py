"""`mailvane events retry|pause|resume|drop`: acting on the queue, by the process that owns it or in its place."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import count, say, say_json
from mailvane.cli.parsing import Spec
from mailvane.cli.query import query_arguments, query_of
from mailvane.cli.queue_access import inspection, plan_now, reading
from mailvane.configuration.home import existing_home
from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import MailvaneError
from mailvane.operations.inspection import Query
from mailvane.operations.routes import PAUSED, names_of, with_paused
from mailvane.operations.status import Status
from mailvane.processor.plan import LEGACY, Plan
from mailvane.queue.local import BallastedStore
from mailvane.queue.remote import OwnerClient
from mailvane.queue.short import ShortStore

T = TypeVar("T")

ONE_TRANSACTION = 1_000
"""Ids that are changed at once."""
ACT_TIMEOUT = 3_600.0
"""Seconds that the owner may take to act on all that is meant: a queue of millions takes minutes."""


class _Matched(msgspec.Struct, frozen=True):
    matched: int


def _meant(args: argparse.Namespace, act: str) -> Query:
    query = query_of(args, time.time())
    if query.empty:
        raise WrongUsage(f"which events? Say what they have in common, or --all to {act} all")
    return query


def _retry(args: argparse.Namespace) -> int:
    query, settings = _meant(args, "retry"), load_settings(existing_home(args.home))

    def locally(store: BallastedStore) -> int:
        now = int(time.time() * 1000)
        if query.everything:
            return store.writer.make_due(None, now)
        return sum(store.writer.make_due(ids, now) for ids in _ids(settings, query))

    n = _done(settings, locally, lambda owner: _asked(owner, "retry", query))
    _tell(args, n, "due now")
    return 0


def _drop(args: argparse.Namespace) -> int:
    query, settings = _meant(args, "drop"), load_settings(existing_home(args.home))

    def locally(store: BallastedStore) -> int:
        return sum(store.writer.delete(ids) for ids in _ids(settings, query))

    n = _done(settings, locally, lambda owner: _asked(owner, "drop", query))
    _tell(args, n, "deleted")
    return 0


def _ids(settings: Settings, query: Query) -> Iterator[Sequence[int]]:
    with reading(settings) as reader:
        ids = inspection(settings, reader).ids(query) if reader else iter(())
        while page := list(islice(ids, ONE_TRANSACTION)):
            yield page


def _asked(owner: OwnerClient, act: str, query: Query) -> int:
    answer = owner.request("POST", f"/v1/events/{act}", msgspec.json.encode(query))
    return msgspec.json.decode(answer, type=_Matched).matched


def _tell(args: argparse.Namespace, n: int, became: str) -> None:
    if args.json:
        say_json({"matched": n})
    else:
        say(f"{count(n, 'event')} {became}")


def _done(
    settings: Settings, locally: Callable[[BallastedStore], T], by_owner: Callable[[OwnerClient], T]
) -> T:  # fmt: skip
    places = places_of(settings)
    store, owner = ShortStore(places, "a command that looks after the queue"), OwnerClient(places.socket, ACT_TIMEOUT)
    try:
        return store.do(locally, lambda _: by_owner(owner))
    finally:
        owner.close()
        store.close()


def _paused(args: argparse.Namespace, act: str) -> int:
    """Pauses or resumes destinations, over restarts too."""
    settings = load_settings(existing_home(args.home))
    given: Sequence[str] = args.destinations
    if bool(given) == bool(args.all):
        raise WrongUsage(f"which destinations? Name them as events status does, or --all to {act} all")

    def locally(store: BallastedStore) -> list[str]:
        with reading(settings) as reader:
            known = names_of(plan_now(settings, reader).plan or Plan())
        chosen = _chosen(given, known)
        store.writer.keep(PAUSED, with_paused(store.writer.kept(PAUSED), chosen, act == "pause"))
        return chosen

    def by_owner(owner: OwnerClient) -> list[str]:
        report = msgspec.json.decode(owner.request("GET", "/v1/status"), type=Status)
        chosen = _chosen(given, [r.destination for d in report.destinations for r in d.routes])
        for name in chosen:
            owner.request("POST", f"/v1/events/{act}", msgspec.json.encode({"destination": name}))
        return chosen

    names = _done(settings, locally, by_owner)
    if args.json:
        say_json({"destinations": names})
    else:
        for name in names:
            say(f"{name} is {'paused: events for it wait' if act == 'pause' else 'resumed'}")
    return 0


def _chosen(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """The destinations that were named: as the status report has them, or their address alone; none given: all."""
    if not known:
        raise MailvaneError("the configuration sends to no destination, so there is none to pause or resume")
    if not given or LEGACY in given:
        return list(known)
    chosen: list[str] = []
    for name in given:
        found = [k for k in known if name in (k, k.partition(" ")[2])]
        if not found:
            raise MailvaneError(f"no destination is called {name!r}; there are: {', '.join(known)}")
        chosen += found
    return chosen


def _pause_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destinations", nargs="*", metavar="DESTINATION", help="its name, or its address alone")
    parser.add_argument("--all", action="store_true", help="all destinations")


RETRY = Spec(
    about="Makes failed events due at once instead of after their wait, and closes open circuits: for when you know "
    "that the endpoint is back. Done by the process that delivers; with none running, directly.",
    examples=[
        ("mailvane events retry --all", ""),
        ("mailvane events retry --email '*@example.com' --json", 'prints {"matched": 12}'),
    ],
    arguments=query_arguments,
    run=_retry,
)
PAUSE = Spec(
    about="Sends nothing more to a destination until it is resumed, over restarts too. Events for it are recorded "
    "and wait.",
    examples=[
        ("mailvane events pause https://hook.example.com/notification", ""),
        ("mailvane events pause --all", "every destination"),
    ],
    arguments=_pause_arguments,
    run=lambda args: _paused(args, "pause"),
)
RESUME = Spec(
    about="Sends to a destination again that was paused, or that said that it is gone (410).",
    examples=[("mailvane events resume --all", "")],
    arguments=_pause_arguments,
    run=lambda args: _paused(args, "resume"),
)
DROP = Spec(
    about="Deletes events from the queue: they are not delivered. What is on its way at that moment may still arrive.",
    examples=[
        ("mailvane events drop --type engine_open --until 2026-11-01", "opens of before November"),
        ("mailvane events drop --all", "everything"),
    ],
    arguments=query_arguments,
    run=_drop,
)
