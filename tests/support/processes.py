"""A program under test as a process: its output is kept and awaited, and it ends with the test."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

WAIT_SECONDS = 30.0


class Process:
    """Started in a process group of its own, so that whatever it started ends with it. Output and errors are one."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self._popen = subprocess.Popen(
            self.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"output-{self.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        with self._changed:
            return "".join(self._lines)

    def exit_status(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._popen.poll()

    def wait_for_output(self, pattern: str, timeout: float = WAIT_SECONDS) -> re.Match[str]:
        """Waits until a line has been printed in which the regular expression is found."""
        found: list[re.Match[str]] = []
        searched = 0

        def there() -> bool:
            nonlocal searched
            while not found and searched < len(self._lines):
                if match := re.search(pattern, self._lines[searched]):
                    found.append(match)
                searched += 1
            return bool(found) or self._ended

        with self._changed:
            self._changed.wait_for(there, timeout)
        if not found:
            raise AssertionError(f"{pattern!r} was not printed within {timeout} s by {self}")
        return found[0]

    def wait(self, timeout: float = WAIT_SECONDS) -> int:
        """Waits for its end and gives its exit status; all its output is there then."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self}") from None
        self._reader.join(1)  # a process of its own may hold the pipe open
        return status

    def send(self, number: signal.Signals) -> None:
        """To this process alone; under strace that is strace."""
        self._popen.send_signal(number)

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM to the group, and its exit status; more than 10 s breaks what `mailvane run` promises."""
        self._signal_group(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the group at once (to what strace runs, too), and waits until the process is gone."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait()

    def peak_memory_kib(self) -> int:
        """VmHWM: the most memory it has had resident so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0])

    def close(self) -> None:
        """Ends it with all its children, whatever state they are in."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait()
        self._reader.join(WAIT_SECONDS)
        if self._popen.stdout and not self._reader.is_alive():
            self._popen.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{' '.join(self.command)} (exit status {self.exit_status()}), which printed:\n{self.output[-2000:]}"

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.pid, number)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
