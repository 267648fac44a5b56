"""The switches: `enable`, `disable`, `enabled`."""

import argparse
import time
from collections.abc import Callable, Set
from pathlib import Path

import msgspec

from mailvane.cli.acting import by_who_has_it
from mailvane.cli.output import console, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.queue_access import reading
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import MailvaneError, QueueUnavailable
from mailvane.queue.studio import COLUMNS
from mailvane.recording.control_files import SWITCHED
from mailvane.recording.gate import Gate
from mailvane.recording.switches import Switches
from mailvane.recording.switching import disable, enable, meant, of_studio


def _types(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("types", nargs="+", metavar="TYPE", help="a type of event, or `all` for each that has a switch")
    parser.add_argument(
        "--studio", action="store_true", help="of Studio's events: a column of the table s_system_configs in the queue"
    )


def _switched(switch: Callable[[Path, str], Path], word: str, args: argparse.Namespace) -> int:
    settings = load_settings(existing_home(args.home))
    if args.studio:
        return _switched_of_studio(settings, word, args)
    directory = settings.control_directory
    status, done = 0, list[dict[str, str]]()
    for name in meant(args.types):
        try:
            path = switch(directory, name)
        except MailvaneError as error:
            tell(str(error))
            status = 1
            continue
        done.append({"type": name.lower(), "state": word, "file": str(path)})
        if not args.json:
            say(f"{name.lower()} is {word} ({path})")
    if args.json:
        say_json(done)
    return status


def _switched_of_studio(settings: Settings, word: str, args: argparse.Namespace) -> int:
    names, unknown = of_studio(args.types)
    for why in unknown:
        tell(why)
    if states := dict.fromkeys(names, word == "on"):
        body = msgspec.json.encode({"states": states})
        by_who_has_it(
            settings,
            lambda hand: hand.switch_studio(states),
            lambda owner: owner.request("POST", "/v1/switches/studio", body) and None,
        )
    if args.json:
        say_json([{"type": name, "state": word, "column": COLUMNS[name]} for name in names])
    else:
        for name in names:
            say(f"{name} is {word} for Studio (s_system_configs.{COLUMNS[name]})")
    return 1 if unknown else 0


def switches_now(switches: Switches) -> Gate:
    """The gate, once it is known of each file whether it is empty or being written."""
    gate = switches.look()
    while (wait := switches.undecided_for) is not None:
        time.sleep(wait + 0.001)
        gate = switches.look()
    return gate


def _enabled(args: argparse.Namespace) -> int:
    settings = load_settings(existing_home(args.home))
    switches, trouble = _switches(settings)
    gate = switches_now(switches)
    engine = {name: _state(name, gate.engine, gate.unknown) for name in SWITCHED}
    studio = {name: _state(name, gate.studio, gate.unknown_of_studio) for name in COLUMNS}
    if args.json:
        say_json({"types": engine, "studio": studio, "problems": list(switches.problems)})
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table("type", "of", "state", "control file, column", box=None, header_style="bold")
        for side, states, switch in (("Engine", engine, SWITCHED), ("Studio", studio, COLUMNS)):
            for name, state in states.items():
                colour = {"on": "green", "off": "dim", "unknown": "red"}[state]
                table.add_row(name, side, Text(state, colour), switch[name])
        console().print(table)
    for problem in (*switches.problems, *trouble):
        tell(problem)
    return 1 if switches.problems or trouble else 0


def _switches(settings: Settings) -> tuple[Switches, list[str]]:
    """The switches, and what of them is not known: the control files tell most in any case."""
    try:
        with reading(settings) as reader:
            switches = Switches(settings.control_directory, reader.kept("switches") if reader else None)
            switches.studio.take(reader.studio_rows() if reader else "")
            return switches, []
    except QueueUnavailable as error:
        why = f"Studio's switches, and the last known ones, are not known now: {error}"
        return Switches(settings.control_directory), [why]


def _state(name: str, on: Set[str], unknown: Set[str]) -> str:
    return "unknown" if name in unknown else "on" if name in on else "off"


ENABLE = Spec(
    about="Switches types of events on: from now on they are recorded, without a restart. It writes 1 into the "
    "type's control file, as `echo 1 > control/record_events.simplemh.bounce_all` does; with --studio it sets the "
    "type's column in the one row of s_system_configs, as an UPDATE by hand does, within a second. An event is "
    "Studio's if it has one of Studio's ids, or is of one of Studio's own types.",
    examples=[
        ("mailvane enable bounce_all bounce_bad_address scomp", "bounces and complaints"),
        ("mailvane enable all", "every type that has a control file"),
        ("mailvane enable --studio studio_unsub bounce_all scomp", "of Studio's events"),
    ],
    arguments=_types,
    run=lambda args: _switched(enable, "on", args),
)
DISABLE = Spec(
    about="Switches types of events off: from now on they are not recorded. What is in the queue stays there.",
    examples=[("mailvane disable engine_open", "no more opens")],
    arguments=_types,
    run=lambda args: _switched(disable, "off", args),
)
ENABLED = Spec(
    about="Shows which types of events are recorded, of Engine's and of Studio's, and what is strange about the "
    "control files or Studio's table. Exit status 1 if something is.",
    examples=[
        ("mailvane enabled", ""),
        ("mailvane enabled --json", 'prints {"types": {"bounce_all": "on", …}, "studio": {…}, "problems": []}'),
    ],
    run=_enabled,
)
