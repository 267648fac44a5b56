"""`listen`, `trigger`, `doctor`, `demo`: for people who try, develop, or look for what is wrong."""

import argparse
import sys

import msgspec

from mailvane.cli.border import WrongUsage
from mailvane.cli.catalogue_help import types_and_fields
from mailvane.cli.output import console, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import load_settings
from mailvane.events.catalogue import TYPES
from mailvane.recording.control_files import SWITCHED

DEFAULT_PORT = 3000
DELAY_LIMIT = 3_600.0


def _listen(args: argparse.Namespace) -> int:
    from mailvane.operations.listen import listen

    if not 0 <= args.delay <= DELAY_LIMIT:
        raise WrongUsage(f"--delay: from 0 to {DELAY_LIMIT:.0f} seconds")
    if not 200 <= args.status <= 599:
        raise WrongUsage(f"--status: {args.status} is no status that ends a request; from 200 to 599")
    if not 0 <= args.port <= 65535:
        raise WrongUsage(f"--port: {args.port} is no port; from 1 to 65535, or 0 for one that is free")
    return listen(args.port, args.status, args.delay, bool(args.json), sys.stdout)


def _listen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N", help=f"{DEFAULT_PORT}; 0: a free one")
    parser.add_argument("--status", type=int, default=200, metavar="CODE", help="answers with this status (200)")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="answers after that many seconds (0)")


def _trigger(args: argparse.Namespace) -> int:
    from mailvane.operations.trigger import sample_event
    from mailvane.recorder import Recorder

    event = sample_event(args.type, args.fields)
    with Recorder(args.home) as recorder:
        event_id = recorder.record(event)
    if event_id is None:
        tell(_how_to_enable(event.event_type, str(load_settings(existing_home(args.home)).control_directory)))
        return 1
    if args.json:
        say_json({"id": event_id, **msgspec.to_builtins(event)})
    else:
        say(f"recorded {event.event_type} of {event.email} as event {event_id}")
    return 0


def _how_to_enable(name: str, directory: str) -> str:
    if switch := SWITCHED.get(name):
        return (
            f"not recorded: {name} is off. Switch it on with: mailvane enable {name}"
            f" (or echo 1 > {directory}/{switch})"
        )  # fmt: skip
    return f"not recorded: {name} is off; it is switched in Studio's table, which is not there yet"


def _trigger_arguments(parser: argparse.ArgumentParser) -> None:
    made = [t.name for t in TYPES.values() if t.made]
    parser.add_argument("type", metavar="TYPE", help=f"one of {', '.join(made)}")
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="instead of the sample's; FIELD= takes it out")


def _doctor(args: argparse.Namespace) -> int:
    from mailvane.operations.doctor import Level, examine

    findings = examine(args.home)
    wrong = [f for f in findings if f.level is Level.WRONG]
    if args.json:
        say_json({"ok": not wrong, "checks": [msgspec.to_builtins(f) for f in findings]}, indent=2)
        return 1 if wrong else 0
    from rich.table import Table
    from rich.text import Text

    colours = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "red"}
    table = Table("", "what", "found", box=None, header_style="bold", pad_edge=False)
    for f in findings:
        told = Text(f.found)
        if f.advice:
            told.append(f"\n→ {f.advice}", "bold")
        table.add_row(Text(str(f.level), colours[f.level]), f.check, told)
    console(wrap=True).print(table)
    say("")
    say("all is well" if not wrong else f"{len(wrong)} of {len(findings)} checks found something wrong")
    return 1 if wrong else 0


def _demo(args: argparse.Namespace) -> int:
    from mailvane.operations.demo import demo

    return demo(bool(args.stay), sys.stdout)


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stay", action="store_true", help="keeps it all running to play with, until Ctrl-C")


LISTEN = Spec(
    about="An endpoint for people who develop one: listens on this machine, shows each request that arrives and "
    "answers as it is told, until Ctrl-C. --json prints one line a request: path, headers, events, status.",
    examples=[
        ("mailvane listen", f"on http://127.0.0.1:{DEFAULT_PORT}/, answers 200"),
        ("mailvane listen --port 8000 --status 503", "what happens while the endpoint is down?"),
    ],
    arguments=_listen_arguments,
    run=_listen,
    needs_home=False,
)
TRIGGER = Spec(
    about="Records a sample event, as a real one: it goes where the configuration says. Exit status 1 if its type "
    "is off.",
    examples=[
        ("mailvane trigger scomp", "a complaint"),
        ("mailvane trigger bounce_all email=me@example.com bounce_type=s bounce_code=22", "with fields of your own"),
    ],
    arguments=_trigger_arguments,
    run=_trigger,
    notes=types_and_fields,
)
DOCTOR = Spec(
    about="Checks the installation: home, settings, permissions, disk, the queue and its books, who owns it, the "
    "configuration, switches, endpoints' names and addresses (nothing is sent), certificates, limits, "
    "versions. Says what to do about what it finds. Exit status 1 if something is wrong. It changes nothing.",
    examples=[
        ("mailvane doctor", ""),
        ("mailvane doctor --json", "for a report, or for monitoring"),
    ],
    run=_doctor,
)
DEMO = Spec(
    about="A tour that ends by itself, the story of GreenArrow's guide on real mail: makes a home in a temporary "
    "folder, starts mailvane and an endpoint, switches types on for both sides, takes in mail and other events, shows "
    "how they wait in the table, checks a configuration and delivers by it: to the endpoint, into a database. Then the "
    "endpoint is down for a while, and mailvane itself. Needs nothing, and leaves nothing behind.",
    examples=[
        ("mailvane demo", ""),
        ("mailvane demo --stay", "keeps it running, and prints commands to play with"),
    ],
    arguments=_demo_arguments,
    run=_demo,
    reports=False,
    needs_home=False,
)
