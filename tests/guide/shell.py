"""A shell that lines are typed into, and a transcript of what was typed and printed.

One bash lives through it all, so that `cd` holds. A line is evaluated as it stands; its standard input is what is
given with it, and ends there. Output is no terminal: no pager, no colours, no prompts of psql's.
"""

import fcntl
import os
import select
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

SECONDS = 60.0
"""After which a line that is not done has failed."""

# Lines and their input come in by 3, exit statuses go out by 4; what a line starts gets neither.
_READER = """
while IFS= read -r -u 3 line; do
    eval "$line" <"$INPUT" 3<&- 4>&-
    echo "$?" >&4
done
"""


@dataclass(frozen=True)
class Typed:
    """A line, what it got as standard input, what it printed (both outputs, in their order), its exit status."""

    line: str
    given: str
    printed: str
    status: int
    varies: bool = False
    """What it prints is another at each run: times, process numbers, logs."""


@dataclass(frozen=True)
class Said:
    """Words between the lines; a heading if it begins with `#`."""

    words: str


class Shell:
    """`type` lines into it. `transcript` is all so far."""

    def __init__(self) -> None:
        self.transcript: list[Typed | Said] = []
        self._folder = tempfile.TemporaryDirectory(prefix="mv-shell-", dir="/tmp")
        folder = Path(self._folder.name)
        self._input, self._output = folder / "input", folder / "output"
        lines, self._lines = _pipe()
        self._statuses, statuses = _pipe()
        with self._output.open("ab") as output:
            self._bash = subprocess.Popen(
                ["bash", "-c", f"exec 3<&{lines} 4>&{statuses} {lines}<&- {statuses}>&-\n{_READER}"],
                env={**os.environ, "INPUT": str(self._input)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lines, statuses),
                cwd="/",
                start_new_session=True,
            )
        os.close(lines)
        os.close(statuses)
        self._read = 0

    def say(self, words: str) -> None:
        self.transcript.append(Said(words))

    def type(self, line: str, given: str = "", status: int = 0, varies: bool = False) -> str:
        """Types a line, waits until it is done, and returns what it printed.

        Raises AssertionError if its exit status is another, or if it is not done within SECONDS.
        """
        typed = replace(self._typed(line, given), varies=varies)
        self.transcript.append(typed)
        if typed.status != status:
            raise AssertionError(f"# {line}\n{given}{typed.printed}exit status {typed.status}, not {status}")
        return typed.printed

    def close(self) -> None:
        os.close(self._lines)
        os.close(self._statuses)
        self._bash.wait(SECONDS)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _typed(self, line: str, given: str) -> Typed:
        if "\n" in line:
            raise ValueError(f"one line at a time: {line!r}")
        self._input.write_text(given, encoding="utf-8")
        os.write(self._lines, f"{line}\n".encode())
        ready, _, _ = select.select([self._statuses], [], [], SECONDS)
        said = os.read(self._statuses, 16) if ready else b""
        printed = self._new_output()
        if not said:
            os.killpg(self._bash.pid, signal.SIGKILL)
            why = "the shell ended" if ready else f"not done in {SECONDS:g} s"
            raise AssertionError(f"# {line}\n{given}{printed}{why}")
        return Typed(line, given, printed, int(said))

    def _new_output(self) -> str:
        with self._output.open("rb") as output:
            output.seek(self._read)
            new = output.read()
        self._read += len(new)
        return new.decode(errors="replace")


def _pipe() -> tuple[int, int]:
    """Numbers far from those that bash is told to use."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
