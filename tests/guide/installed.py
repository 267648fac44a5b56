"""mailvane as a command of the machine, for everybody on it: the one that the tests are run with."""

import os
import shlex
import sys
from pathlib import Path

COMMAND = Path("/usr/local/bin/mailvane")


def install() -> None:
    """Puts the command on the PATH. It needs nothing of its caller's environment: Postfix gives it none."""
    command = shlex.join([f"PYTHONPATH={os.environ['PYTHONPATH']}", sys.executable, "-m", "mailvane"])
    COMMAND.write_text(f'#!/bin/sh\nexec env {command} "$@"\n')
    COMMAND.chmod(0o755)
