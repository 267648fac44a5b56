"""The command line. `main` is `mailvane`, `event_processor` is `hvmail_event_processor`.

Nothing but the standard library is needed to show a help text: each command's module is imported when that command is
called. The table of commands is in commands.py, what an exit status means in border.py.
"""

import sys
from collections.abc import Sequence

from mailvane.cli.border import guarded, kept_by_the_mail_server
from mailvane.cli.commands import dispatch, takes_mail_from_a_server


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; never raises but for `--help` and wrong usage (SystemExit)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if takes_mail_from_a_server(arguments):
        return kept_by_the_mail_server(lambda: dispatch(arguments))
    return guarded(lambda: dispatch(arguments))


def event_processor() -> int:
    """`hvmail_event_processor`: the flags of `mailvane processor`."""
    return main(["processor", *sys.argv[1:]])
