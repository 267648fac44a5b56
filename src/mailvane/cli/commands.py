"""All commands: their names, what each does in a line, and where it is. The only list of them."""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import say
from mailvane.cli.parsing import Command, Spec, parser_of
from mailvane.version import __version__

COMMANDS: dict[str, Command] = {
    c.name: c
    for c in (
        Command("init", "makes a home: settings, control files, the queue's place", "init:INIT"),
        Command("run", "everything configured, in the foreground: API and Event Processor", "run:RUN"),
        Command("processor", "event delivery alone; --once; --check-syntax", "run:PROCESSOR"),
        Command("record", "records events given as JSON", "record:RECORD"),
        Command("enable", "switches types of events on", "setting_up:ENABLE"),
        Command("disable", "switches types of events off", "setting_up:DISABLE"),
        Command("enabled", "which types are recorded", "setting_up:ENABLED"),
        Command("ingest mail", "bounces, feedback reports, unsubscribe mails become events", "ingest:MAIL"),
        Command("events status", "how many events wait, and how each destination is", "events_look:STATUS"),
        Command("events list", "the events that wait", "events_look:LIST"),
        Command("events show", "everything about one event", "events_look:SHOW"),
        Command("events tail", "events as they come in", "events_look:TAIL"),
        Command("events count", "how many events wait", "events_look:COUNT"),
        Command("events retry", "makes failed events due at once, closes open circuits", "events_bulk:RETRY"),
        Command("events pause", "sends nothing more to a destination", "events_act:PAUSE"),
        Command("events resume", "sends to a destination again", "events_act:RESUME"),
        Command("events drop", "deletes events from the queue", "events_bulk:DROP"),
        Command("events replay", "delivers events again that were delivered", "events_bulk:REPLAY"),
        Command("events export", "writes events to a file: NDJSON or CSV", "events_export:EXPORT"),
        Command("config explain", "which rule takes which events, and what takes none", "config:EXPLAIN"),
        Command("config sql-table", "prints a table for events, for a database of yours", "config:SQL_TABLE"),
        Command("queue move", "moves all that waits from one queue to another", "queue_move:MOVE"),
        Command("queue salvage", "copies what can be read of a damaged queue", "queue_salvage:SALVAGE"),
        Command("layout greenarrow", "GreenArrow's files, commands and services", "layout:LAYOUT"),
        Command("listen", "an endpoint for people who develop one: shows what arrives", "trying:LISTEN"),
        Command("trigger", "records a sample event", "trying:TRIGGER"),
        Command("doctor", "checks the installation, and says what to do", "trying:DOCTOR"),
        Command("demo", "a tour on real mail that ends by itself", "trying:DEMO"),
    )
}
GROUPS = tuple(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS if " " in name))

LATER = frozenset(
    {
        "config check",
        *("track", "bounces", "ingest log", "ingest unknown"),
    }
)
"""Commands that the documents name and that come later."""

INTRODUCTION = """\
mailvane records what became of your mail (bounces, complaints, clicks, unsubscribes) durably on disk,
and delivers each event to your endpoint until it has it.

usage: mailvane COMMAND [--home DIR] [--help] …
"""

END = """\
mailvane COMMAND --help tells everything about a command, with examples.
--home DIR, or the variable MAILVANE_HOME, says where the home is; else /var/lib/mailvane if it exists, else
./mailvane-home. --version shows the version.

examples:
  mailvane demo                      see it all work, with nothing to set up
  mailvane init && mailvane run      start for real
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Finds the command, and runs it. Raises WrongUsage; SystemExit after `--help` and for wrong arguments."""
    home, words = _leading_home(list(arguments))
    if not words or words[0] in {"-h", "--help", "help"}:
        if len(words) > 1:
            return dispatch([*words[1:], "--help"])
        say(overview())
        return 0 if words else 2
    if words[0] in {"--version", "-V"}:
        say(f"mailvane {__version__}")
        return 0
    for length in (2, 1):
        command = COMMANDS.get(" ".join(words[:length]))
        if command is not None and len(words) >= length:
            return _run(command, words[length:], home)
    if words[0] in GROUPS and (len(words) == 1 or words[1] in {"-h", "--help"}):
        say(overview(words[0]))
        return 0 if len(words) > 1 else 2
    raise WrongUsage(_unknown(words))


def takes_mail_from_a_server(arguments: Sequence[str]) -> bool:
    """Whether this is `ingest mail -`, in whatever order, rightly spelled behind or not."""
    words = [w for w in arguments if not w.startswith("-") or w == "-"]
    asks = "--help" in arguments or "-h" in arguments
    return not asks and "-" in words and ("ingest", "mail") in pairwise(words)


def spec_of(command: Command) -> Spec:
    """What a command takes and does; imports its module."""
    module, _, name = command.place.partition(":")
    spec = getattr(import_module(f"mailvane.cli.{module}"), name)
    assert isinstance(spec, Spec)
    return spec


def overview(group: str = "") -> str:
    """All commands with a line each, or those of a group."""
    chosen = [c for c in COMMANDS.values() if not group or c.name.startswith(group + " ")]
    width = max(len(c.name) for c in chosen) + 2
    lines = [f"  {c.name.ljust(width)}{c.summary}" for c in chosen]
    if group:
        end = f"example:\n  mailvane {chosen[0].name} --help"
        return "\n".join([f"usage: mailvane {group} COMMAND …", "", "commands:", *lines, "", end])
    return "\n".join([INTRODUCTION, "commands:", *lines, "", END.rstrip()])


def _run(command: Command, words: list[str], home: str | None) -> int:
    spec = spec_of(command)
    parser = parser_of(command, spec)
    if home is not None:
        parser.set_defaults(home=home)
    parsed = parser.parse_intermixed_args(words) if spec.intermixed else parser.parse_args(words)
    try:
        return spec.run(parsed)
    except WrongUsage as error:
        parser.print_usage(sys.stderr)
        raise WrongUsage(f"{parser.prog}: {error}") from None


def _leading_home(words: list[str]) -> tuple[str | None, list[str]]:
    """`--home` may stand before the command, too."""
    if words and words[0].startswith("--home="):
        return words[0].removeprefix("--home="), words[1:]
    if words and words[0] == "--home":
        if len(words) == 1:
            raise WrongUsage("--home: wanted is a folder")
        return words[1], words[2:]
    return None, words


def _unknown(words: Sequence[str]) -> str:
    two, one = " ".join(words[:2]), words[0]
    if two in LATER or one in LATER:
        return f'"mailvane {two if two in LATER else one}" is not there yet'
    if one in GROUPS:
        names = [name for name in COMMANDS if name.startswith(one + " ")]
        near = get_close_matches(two, names, n=1)
        hint = f'did you mean "mailvane {near[0]}"?' if near else f"known are {', '.join(names)}"
        return f'"mailvane {two}" is no command; {hint}'
    near = get_close_matches(one, COMMANDS, n=1) or [n for n in COMMANDS if n.endswith(" " + one)]
    hint = f'; did you mean "mailvane {near[0]}"?' if near else ""
    return f'"mailvane {one}" is no command{hint}'


def parser_for(name: str) -> argparse.ArgumentParser:
    """The parser of a command, for the documentation and its test."""
    command = COMMANDS[name]
    return parser_of(command, spec_of(command))
