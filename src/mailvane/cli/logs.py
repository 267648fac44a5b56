"""The log of a long-running command: one line an entry on standard error, with time, level and message.

Messages carry what others said (servers, files). Control characters come out as escapes, and of a message with several
lines all but the first are indented, so that no text from outside can look like an entry.
"""

import logging
import os
import sys
import time

from mailvane.cli.output import plain

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_DIM, _OFF = "\x1b[2m", "\x1b[0m"


class _Line(logging.Formatter):
    def __init__(self, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}"
        text = record.getMessage()
        if record.exc_info and os.environ.get("MAILVANE_DEBUG") == "1":
            text += "\n" + self.formatException(record.exc_info)
        elif record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        message = "\n    ".join(plain(line) for line in text.split("\n"))
        level = record.levelname.lower()
        if self._coloured:
            colour = _COLOURS.get(record.levelname, "")
            return f"{_DIM}{when}{_OFF} {colour}{level}: {message}{_OFF if colour else ''}"
        return f"{when} {level}: {message}"


class _Quiet(logging.StreamHandler):  # pyright: ignore[reportMissingTypeArgument, reportUnknownVariableType]
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written (its disk is full, its reader is gone) stops nothing."""


def log_to_standard_error() -> None:
    """Sets logging up for the whole process."""
    handler: logging.Handler = _Quiet(sys.stderr)
    coloured = sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ  # pyright: ignore[reportUnnecessaryComparison]
    handler.setFormatter(_Line(coloured))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mailvane").setLevel(logging.INFO)
