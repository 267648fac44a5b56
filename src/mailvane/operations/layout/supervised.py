"""Services as daemontools and runit keep them: a folder `supervise` in each, with its status and a pipe for orders.

Both write the process id at the same place (12 to 15) of `status`, and take the same letters.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from mailvane.errors import MailvaneError

ENDS_WITHIN = 20.0
"""Seconds for which services are waited for to end."""


def is_supervised(service: Path) -> bool:
    """Whether somebody supervises it now. Raises PermissionError for who may not know."""
    try:
        os.close(os.open(service / "supervise" / "ok", os.O_WRONLY | os.O_NONBLOCK))
    except OSError as e:
        if e.errno in (errno.ENXIO, errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True


def pid_of(service: Path) -> int:
    """Its process; 0 while it is down. Raises OSError."""
    status = (service / "supervise" / "status").read_bytes()
    return int.from_bytes(status[12:16], "little")


def end(services: Sequence[Path]) -> None:
    """Ends services, their logs and who supervises them. Nothing may lead the supervisor there any more. Raises
    MailvaneError for one that does not end, OSError."""
    folders = [folder for service in services for folder in (service, service / "log")]
    for folder in folders:
        _order(folder, b"dx")
    until = time.monotonic() + ENDS_WITHIN
    for folder in folders:
        while is_supervised(folder):
            if time.monotonic() > until:
                raise MailvaneError(f"{folder} does not end: svc -dx {folder} (or: sv force-shutdown {folder})")
            time.sleep(0.05)  # nobody tells
        for name in ("ok", "control", "status", "lock", "pid", "stat", "status.new", "stat.new", "pid.new"):
            with contextlib.suppress(FileNotFoundError):
                (folder / "supervise" / name).unlink()
        with contextlib.suppress(FileNotFoundError):
            (folder / "supervise").rmdir()


def _order(folder: Path, letters: bytes) -> None:
    if is_supervised(folder):
        handle = os.open(folder / "supervise" / "control", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(handle, letters)
        finally:
            os.close(handle)


def end_units(names: Sequence[str]) -> None:
    """The same of systemd's. Raises MailvaneError."""
    if not names or not os.path.isdir("/run/systemd/system") or not (systemctl := shutil.which("systemctl")):
        return
    done = subprocess.run([systemctl, "disable", "--now", *names], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MailvaneError(f"systemctl disable --now {' '.join(names)}: {done.stderr.strip()}")
