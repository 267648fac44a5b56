"""The processes of the demo: their output is shown and awaited, and they end with it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mailvane.errors import MailvaneError

T = TypeVar("T")

WAIT = 30.0
LOOK_EVERY = 0.02

# -P: a folder `mailvane` in the current one is not taken for the package.
MAILVANE = (sys.executable, "-P", "-m", "mailvane")


class DemoFailed(MailvaneError):
    """Something did not happen in time; the text says what, and what the processes said last."""


class Child:
    """A `mailvane` command that keeps running. Each line that it prints is handed to `show`, in a thread of its own."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], show: Callable[[str], None]) -> None:
        self.arguments = arguments
        self.lines: list[str] = []
        self._show = show
        self._popen = subprocess.Popen(
            [*MAILVANE, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours: we end it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_for_line(self, part: str) -> None:
        """Raises DemoFailed."""
        until(lambda: any(part in line for line in self.lines) or not self.running, f"{self} did not say {part!r}")
        if not any(part in line for line in self.lines):
            raise DemoFailed(f"{self} ended early: {' '.join(self.lines[-3:])}")

    def end(self) -> None:
        """SIGTERM, and its end awaited; SIGKILL if that takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self.lines.append(line)
                with contextlib.suppress(OSError):  # whoever looked on has gone; the main thread notices
                    self._show(line)

    def __str__(self) -> str:
        return f"mailvane {' '.join(self.arguments)}"


def until(condition: Callable[[], object], otherwise: str) -> None:
    """Waits until it holds. Raises DemoFailed with `otherwise`."""
    end = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > end:
            raise DemoFailed(f"{otherwise}, within {WAIT:.0f} s")
        time.sleep(LOOK_EVERY)


def command(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a command of a moment prints. Raises DemoFailed if it fails."""
    done = subprocess.run(
        [*MAILVANE, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise DemoFailed(f"mailvane {' '.join(arguments)} failed: {said}")
    return done.stdout.decode(errors="replace")


def fails(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a command that is to fail says. Raises DemoFailed if it does not."""
    words = [*MAILVANE, *arguments]
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 1:
        raise DemoFailed(f"mailvane {' '.join(arguments)} found nothing wrong")
    return done.stderr.decode(errors="replace")


def environment_for(home: str) -> dict[str, str]:
    return {**os.environ, "MAILVANE_HOME": home, "PYTHONUNBUFFERED": "1"}
