"""`mailvane events pause|resume`: stopping destinations, by the process that owns the queue or in its place."""

import argparse
from collections.abc import Sequence

import msgspec

from mailvane.cli.acting import Hand, by_who_has_it
from mailvane.cli.border import WrongUsage
from mailvane.cli.output import say, say_json
from mailvane.cli.parsing import Spec
from mailvane.cli.queue_access import plan_in_force, reading, who_delivers
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import load_settings
from mailvane.errors import MailvaneError
from mailvane.operations.routes import names_of
from mailvane.operations.status import Status
from mailvane.processor.plan import LEGACY
from mailvane.queue.remote import OwnerClient


def _paused(args: argparse.Namespace, act: str) -> int:
    """Pauses or resumes destinations, over restarts too."""
    settings = load_settings(existing_home(args.home))
    given: Sequence[str] = args.destinations
    if bool(given) == bool(args.all):
        raise WrongUsage(f"which destinations? Name them as events status does, or --all to {act} all")

    def locally(hand: Hand) -> list[str]:
        with reading(settings) as reader:
            known = names_of(plan_in_force(settings, reader, who_delivers(settings, reader)))
        chosen = _chosen(given, known)
        hand.pause(chosen, act == "pause")
        return chosen

    def by_owner(owner: OwnerClient) -> list[str]:
        report = msgspec.json.decode(owner.request("GET", "/v1/status"), type=Status)
        chosen = _chosen(given, [r.destination for d in report.destinations for r in d.routes])
        for name in chosen:
            owner.request("POST", f"/v1/events/{act}", msgspec.json.encode({"destination": name}))
        return chosen

    names = by_who_has_it(settings, locally, by_owner)
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
