"""How a command is described, and the parser that is made of it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from textwrap import fill

WIDTH = 100
"""Characters of a line of help."""


@dataclass(frozen=True)
class Command:
    """A command's name (one word or two), a line on it, and `module:NAME` of its Spec."""

    name: str
    summary: str
    place: str


def _none(parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Spec:
    """What a command takes and does.

    `about` is everything that a reader of `--help` needs, `examples` are whole command lines with a word on each;
    `reports` gives it `--json`; `run` returns the exit status, and raises MailvaneError or WrongUsage.
    """

    about: str
    examples: Sequence[tuple[str, str]]
    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = _none
    reports: bool = True
    needs_home: bool = True
    intermixed: bool = True
    notes: Callable[[], str] = field(default=lambda: "")
    """What is made only when help is shown, such as tables from the catalogue."""


class _Parser(argparse.ArgumentParser):
    """argparse prints and ends by itself; only help that has to be made is made late."""

    notes: Callable[[], str] = staticmethod(lambda: "")

    def format_help(self) -> str:
        more = self.notes()
        return super().format_help() + (f"\n{more}\n" if more else "")


def parser_of(command: Command, spec: Spec) -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = _Parser(
        prog=f"mailvane {command.name}",
        description="\n\n".join(fill(paragraph, WIDTH) for paragraph in spec.about.split("\n\n")),
        epilog=_examples(spec.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.notes = spec.notes
    spec.arguments(parser)
    if spec.reports:
        parser.add_argument("--json", action="store_true", help="for programs: JSON on standard output")
    if spec.needs_home:
        parser.add_argument(
            "--home", metavar="DIR", help="the home folder (MAILVANE_HOME, /var/lib/mailvane, ./mailvane-home)"
        )
    else:
        parser.add_argument("--home", metavar="DIR", help=argparse.SUPPRESS)
    return parser


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    lines = ["examples:" if len(examples) > 1 else "example:"]
    for line, what in examples:
        lines += [f"  {line}", f"      {what}"] if what else [f"  {line}"]
    return "\n".join(lines)
