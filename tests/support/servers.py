"""What the private database servers share: whom they run as, where they live, and that they end with the tests.

A database server refuses to run as root. Where the tests run as root, servers run as `nobody`, else as the user
of the tests.
"""

import functools
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.tools import tool

ACCOUNT = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
START_SECONDS = 60.0
STOP_SECONDS = 60.0

# The kernel tells a process of the end of the thread that started it: this one stays until the tests end.
_starter = ThreadPoolExecutor(1, thread_name_prefix="starts-servers")


class Folder:
    """A folder with a short path (that of a Unix socket has at most 107 bytes) which only the server's user enters.

    It is gone after `remove`, and when the process of the tests ends in whatever way.
    """

    def __init__(self, kind: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"mv-{kind}-", dir="/tmp"))
        own(self.path)
        # Outlives the tests: sees the end of its input when they are gone. The server ends at the same moment (see
        # `start`), and may write once more while it does.
        self._sweeper = subprocess.Popen(
            ["sh", "-c", 'cat; for i in 1 2 3 4 5; do rm -rf "$1" && break; sleep 1; done', "-", self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remove(self) -> None:
        assert self._sweeper.stdin
        self._sweeper.stdin.close()
        self._sweeper.wait()


def own(path: Path) -> Path:
    """Gives a file or an empty folder to the server's user."""
    if ACCOUNT:
        os.chown(path, ACCOUNT.pw_uid, ACCOUNT.pw_gid)
    return path


def unprivileged(command: Sequence[str | Path], at_our_end: str = "KILL") -> list[str]:
    """A command that runs as the server's user, and gets this signal when the thread that started it ends."""
    identity = ()
    if ACCOUNT:
        identity = (f"--reuid={ACCOUNT.pw_uid}", f"--regid={ACCOUNT.pw_gid}", "--clear-groups")
    return [tool("setpriv"), *identity, "--pdeathsig", at_our_end, "--", *map(str, command)]


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Runs a command of a server to its end, as the server's user, and gives what it printed."""
    result = subprocess.run(
        unprivileged(command),
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stdout[:4000]}")
    return result.stdout


def start(command: Sequence[str | Path], folder: Path, log: Path, at_our_end: str) -> subprocess.Popen[bytes]:
    """Starts a server; what it prints is added to `log`."""

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                unprivileged(command, at_our_end),
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for the tests, which then stop the server
            )

    return _starter.submit(fork).result()


def wait_until_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    """Raises AssertionError with the end of its log if the server ends, or takes no connections in time."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if ready():
            return
        time.sleep(0.01)  # neither server tells anyone
    last_words = log.read_text(errors="replace")[-2000:]
    raise AssertionError(f"{process.args} did not get ready (exit status {process.poll()}):\n{last_words}")


def environment(folder: Path) -> Mapping[str, str]:
    """Nothing of the user's own settings (PGHOST, MYSQL_HOME) gets to a server.

    Each has its temporary files in its own folder: MariaDB removes those of every other when it starts.
    """
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "LC_ALL": "C", "TZ": "UTC", "HOME": str(folder), "TMPDIR": str(folder)}


@functools.cache
def within_reach(base: Path, parts: tuple[str, ...]) -> Path:
    """The folder with these parts of an installation; a copy of them if the server's user cannot get there (/root)."""
    there = [base / part for part in parts if (base / part).exists()]
    if not ACCOUNT or all(folder.stat().st_mode & stat.S_IXOTH for folder in (*there, base, *base.parents)):
        return base
    copy = Folder("copy")
    _copies.append(copy)
    copy.path.chmod(0o755)
    for folder in there:
        shutil.copytree(folder, copy.path / folder.name, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", copy.path], check=True)
    return copy.path


_copies: list[Folder] = []
"""Kept until the tests end."""
