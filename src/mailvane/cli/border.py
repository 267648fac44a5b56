"""The border between commands and the shell: what goes wrong becomes an exit status and a line for people.

0: done. 1: a problem, told on standard error. 2: wrong usage. 130: Ctrl-C. A traceback only with MAILVANE_DEBUG=1.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

from mailvane.cli.output import flush, prepare, silence, tell
from mailvane.errors import MailvaneError

PROBLEM = 1
WRONG_USAGE = 2
INTERRUPTED = 130
TEMPORARY_FAILURE = 75
"""EX_TEMPFAIL of sysexits.h: a mail server keeps the mail and tries again."""

REPORT = "this is a defect of mailvane: please report it with this line, and what MAILVANE_DEBUG=1 adds to it"


class WrongUsage(Exception):
    """What was typed cannot be meant; the text says why."""


class _Terminated(BaseException):
    """SIGTERM came."""


def guarded(act: Callable[[], int]) -> int:
    """Runs a command; whatever happens becomes an exit status."""
    try:
        prepare()
        status = act()
        flush()
        return status
    except WrongUsage as error:
        tell(f"{error}\nmailvane --help has the commands")
        return WRONG_USAGE
    except MailvaneError as error:
        tell(str(error))
        return PROBLEM
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as with `| head`
        silence()
        return PROBLEM
    except MemoryError:
        with contextlib.suppress(Exception):
            tell("out of memory; give it more, or less to do at once")
        return PROBLEM
    except OSError as error:
        with contextlib.suppress(OSError):
            _debug()
            tell(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        silence()
        return PROBLEM
    except Exception as error:  # the border: people get a line, not a traceback
        with contextlib.suppress(Exception):
            _debug()
            tell(f"unexpected {type(error).__name__}: {error}; {REPORT}")
        return PROBLEM


def kept_by_the_mail_server(act: Callable[[], int]) -> int:
    """Runs a command that a mail server hands a mail to: 0, or 75 for whatever else happens.

    Other numbers, wrong usage included, would make a mail server send the mail back, or throw it away.
    """
    try:
        signal.signal(signal.SIGTERM, _terminate)
        status = guarded(act)
    except BaseException as error:  # MemoryError, SystemExit of the parser, SIGTERM: the mail must not be lost
        with contextlib.suppress(BaseException):
            if isinstance(error, _Terminated):
                tell("ended by SIGTERM; the mail stays with the mail server")
            elif not isinstance(error, SystemExit):
                tell(f"unexpected {type(error).__name__}; the mail stays with the mail server")
        status = PROBLEM
    with contextlib.suppress(BaseException):
        silence()  # a standard output that cannot be flushed at the end would change the status
    return 0 if status == 0 else TEMPORARY_FAILURE


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


def _debug() -> None:
    if os.environ.get("MAILVANE_DEBUG") == "1":
        traceback.print_exc(file=sys.stderr)
