"""The log of a long-running command: one line an entry on standard error, with time, level and message.

Messages carry what others said (servers, files). Control characters come out as escapes, and of a message with several
lines all but the first are indented, so that no text from outside can look like an entry.

Where somebody else writes the time of every line, ours would stand beside it. multilog and svlogd are known by
MAILVANE_LOG_TIMES=no, which the layout's scripts set; the journal by JOURNAL_STREAM (systemd.exec(5)), and it is told
the level of each line as well (sd-daemon(3)).
"""

import logging
import os
import sys
import time

from mailvane.cli.output import plain

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_DIM, _OFF = "\x1b[2m", "\x1b[0m"
_PRIORITIES = {"DEBUG": "<7>", "INFO": "<6>", "WARNING": "<4>", "ERROR": "<3>", "CRITICAL": "<2>"}


class _Line(logging.Formatter):
    def __init__(self, coloured: bool, timed: bool, journal: bool) -> None:
        super().__init__()
        self._coloured = coloured
        self._timed = timed
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and os.environ.get("MAILVANE_DEBUG") == "1":
            text += "\n" + self.formatException(record.exc_info)
        elif record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        priority = _PRIORITIES.get(record.levelname, "") if self._journal else ""
        message = f"\n{priority}    ".join(plain(line) for line in text.split("\n"))
        entry = f"{record.levelname.lower()}: {message}"
        if self._coloured and (colour := _COLOURS.get(record.levelname)):
            entry = f"{colour}{entry}{_OFF}"
        if not self._timed:
            return priority + entry
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}"
        return f"{_DIM}{when}{_OFF} {entry}" if self._coloured else f"{when} {entry}"


class _Quiet(logging.StreamHandler):  # pyright: ignore[reportMissingTypeArgument, reportUnknownVariableType]
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written (its disk is full, its reader is gone) stops nothing."""


def _leads_to_the_journal() -> bool:
    """Whether standard error is the stream that systemd made for the journal, and not, say, a file put in its place."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def log_to_standard_error() -> None:
    """Sets logging up for the whole process."""
    handler: logging.Handler = _Quiet(sys.stderr)
    coloured = sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ  # pyright: ignore[reportUnnecessaryComparison]
    journal = _leads_to_the_journal()
    timed = not journal and os.environ.get("MAILVANE_LOG_TIMES") != "no"
    handler.setFormatter(_Line(coloured, timed, journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mailvane").setLevel(logging.INFO)
