"""The switches: `enable`, `disable`, `enabled`."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from mailvane.cli.output import console, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.queue_access import reading
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import MailvaneError, QueueUnavailable
from mailvane.recording.control_files import SWITCHED
from mailvane.recording.gate import Gate
from mailvane.recording.switches import Switches
from mailvane.recording.switching import disable, enable, meant


def _types(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("types", nargs="+", metavar="TYPE", help="a type of event, or `all` for each that has a switch")


def _switched(switch: Callable[[Path, str], Path], word: str, args: argparse.Namespace) -> int:
    directory = load_settings(existing_home(args.home)).control_directory
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


def switches_now(switches: Switches) -> Gate:
    """The gate, once it is known of each file whether it is empty or being written."""
    gate = switches.look()
    while (wait := switches.undecided_for) is not None:
        time.sleep(wait + 0.001)
        gate = switches.look()
    return gate


def _enabled(args: argparse.Namespace) -> int:
    settings = load_settings(existing_home(args.home))
    kept, trouble = _kept_switches(settings)
    switches = Switches(settings.control_directory, kept)
    gate = switches_now(switches)
    rows = [(name, _state(gate, name), switch) for name, switch in SWITCHED.items()]
    if args.json:
        states = {name: state for name, state, _ in rows}
        say_json({"types": states, "problems": list(switches.problems)})
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table("type", "state", "control file", box=None, header_style="bold")
        for name, state, switch in rows:
            colour = {"on": "green", "off": "dim", "unknown": "red"}[state]
            table.add_row(name, Text(state, colour), switch)
        console().print(table)
    for problem in (*switches.problems, *trouble):
        tell(problem)
    return 1 if switches.problems or trouble else 0


def _kept_switches(settings: Settings) -> tuple[str | None, list[str]]:
    """The last known switches, or why they are not known: the control files tell most in any case."""
    try:
        with reading(settings) as reader:
            return reader.kept("switches") if reader else None, []
    except QueueUnavailable as error:
        return None, [f"the last known switches are not known now: {error}"]


def _state(gate: Gate, name: str) -> str:
    return "unknown" if name in gate.unknown else "on" if name in gate.engine else "off"


ENABLE = Spec(
    about="Switches types of events on: from now on they are recorded, without a restart. It writes 1 into the "
    "type's control file, as `echo 1 > control/record_events.simplemh.bounce_all` does.",
    examples=[
        ("mailvane enable bounce_all bounce_bad_address scomp", "bounces and complaints"),
        ("mailvane enable all", "every type that has a control file"),
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
    about="Shows which types of events are recorded, and what is strange about the control files. Exit status 1 if "
    "something is.",
    examples=[
        ("mailvane enabled", ""),
        ("mailvane enabled --json", 'prints {"types": {"bounce_all": "on", …}, "problems": []}'),
    ],
    run=_enabled,
)
