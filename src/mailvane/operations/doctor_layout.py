"""What `mailvane doctor` looks at of GreenArrow's file layout, where `mailvane layout greenarrow` has made it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mailvane.configuration.settings import Settings
from mailvane.errors import MailvaneError
from mailvane.operations.findings import Finding, note, ok, wrong
from mailvane.operations.layout import manifest, places, supervised

AGAIN = "mailvane layout greenarrow"
ANSWERS_WITHIN = 10.0


def layout(settings: Settings) -> Iterator[Finding]:
    """Whether what was made is there as it was made, services are up, and psql leads to the queue."""
    if settings.home != Path(places.HOME):
        return
    try:
        made = manifest.read(Path(places.MADE))
    except MailvaneError as error:
        yield wrong("layout", str(error), f"move it away, then {AGAIN}")
        return
    if not (made.files or made.links):
        return
    yield from _files(made)
    yield from _services(made)
    yield from _psql()


def _files(made: manifest.Manifest) -> Iterator[Finding]:
    missing = [path for path in (*made.folders, *made.files, *made.links) if not os.path.lexists(path)]
    if missing:
        yield wrong("layout", f"{', '.join(missing)} was made, and is gone", f"{AGAIN} makes it again")
    for path in (places.SERVE, places.PSQL, *(p for p in made.files if p.endswith("/run"))):
        if path in made.files and path not in missing and not os.access(path, os.X_OK):
            yield wrong("layout", f"{path} cannot be executed", f"chmod 755 {path}")
    if not missing:
        yield ok("layout", f"{len(made.files)} files, {len(made.links)} links and {len(made.folders)} folders, as made")


def _services(made: manifest.Manifest) -> Iterator[Finding]:
    for link in made.links:
        if not link.startswith(f"{places.SCANNED}/"):
            continue
        name = link.rpartition("/")[2]
        for what, folder in ((name, Path(link)), (f"the log of {name}", Path(link) / "log")):
            yield _service(what, folder)
    for path in made.files:
        if path.startswith(f"{places.UNITS}/"):
            yield _unit(path.rpartition("/")[2])


def _service(what: str, folder: Path) -> Finding:
    try:
        if not supervised.is_supervised(folder):
            return wrong("service", f"nobody supervises {what}", f"svscan {places.SCANNED} & (or: runsvdir)")
        pid = supervised.pid_of(folder)
    except PermissionError:
        return note("service", f"whether {what} is up can be seen by root alone", "sudo mailvane doctor")
    if not pid:
        return wrong("service", f"{what} is down", f"svc -u {folder} (or: sv up {folder})")
    return ok("service", f"{what} is up, process {pid}")


def _unit(name: str) -> Finding:
    try:
        state = subprocess.run(
            ["systemctl", "is-active", name], capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return note("service", f"whether {name} is active is not known: {error}")
    if state == "active":
        return ok("service", f"{name} is active")
    return wrong("service", f"{name} is {state or 'not known to systemd'}", f"systemctl enable --now {name}")


def _psql() -> Iterator[Finding]:
    words = [places.PSQL, "-w", "-X", "-q", "-t", "-U", places.ROLE, "-c", "SELECT 1"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield wrong("psql", f"{places.PSQL}: {error}", f"{AGAIN} makes it again, if it is gone")
        return
    if not done.returncode:
        yield ok("psql", f"{places.PSQL} -U {places.ROLE} leads to the queue's database")
    elif os.geteuid() == 0:
        yield wrong("psql", f"{places.PSQL}: {done.stderr.strip()}", "is hvmail-postgres up, or the server there?")
    else:
        yield note("psql", f"{places.PSQL}: {done.stderr.strip()}", "root may; see pg_ident.conf, or ~/.pgpass")
