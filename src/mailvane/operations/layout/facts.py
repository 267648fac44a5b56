"""What of a machine the layout depends on: where our command is, PostgreSQL's programs, who supervises."""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mailvane.errors import MailvaneError

PROGRAMS = ("/usr/lib/postgresql", "/usr/pgsql-*", "/usr/local/pgsql")
"""Where packages put PostgreSQL: Debian's, a folder a version; that of PostgreSQL's own project; its default."""


class Supervisor(StrEnum):
    """Who keeps services up: daemontools (or runit, by the same files), or systemd."""

    DAEMONTOOLS = "daemontools"
    SYSTEMD = "systemd"


@dataclass(frozen=True)
class Facts:
    """`mailvane`: the words of our command. `postgres`: the folder of the server's programs, "" where the queue is in a
    server of somebody else's, at `queue_url`."""

    mailvane: tuple[str, ...]
    psql: str
    postgres: str
    queue_url: str
    supervisor: Supervisor

    @property
    def private(self) -> bool:
        return not self.queue_url


def our_command() -> tuple[str, ...]:
    """The words by which everybody on the machine can call us. Raises MailvaneError if the service user could not."""
    beside = Path(sys.executable).with_name("mailvane")
    found = str(beside) if beside.exists() else shutil.which("mailvane")
    words = (found,) if found else (sys.executable, "-m", "mailvane")
    path = Path(words[0])
    for folder in path.parents:
        if folder.exists() and not folder.stat().st_mode & 0o001:
            raise MailvaneError(
                f"{path} is in {folder}, which the services' user may not enter. Install mailvane where everybody can "
                "reach it, such as in /opt: python3 -m venv /opt/mailvane, and /opt/mailvane/bin/pip install"
            )
    return words


def supervisor() -> Supervisor:
    """Who keeps services up here."""
    others = shutil.which("svscan") or shutil.which("runsvdir")
    return Supervisor.SYSTEMD if os.path.isdir("/run/systemd/system") and not others else Supervisor.DAEMONTOOLS


def server_programs() -> str:
    """The folder with initdb and postgres, of the newest version. Raises MailvaneError, with what to do."""
    folders = [Path(program).resolve().parent for program in filter(None, [shutil.which("postgres")])]
    for place in PROGRAMS:
        base = Path(place)
        folders += sorted(
            [*base.parent.glob(f"{base.name}/bin"), *base.parent.glob(f"{base.name}/*/bin")], key=_version
        )
    for folder in reversed(folders):
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return str(folder)
    raise MailvaneError(
        "no PostgreSQL server is installed: apt-get install postgresql (or dnf install postgresql-server), or name one "
        "by --postgresql URL"
    )


def psql_program(beside: str = "") -> str:
    """psql. Raises MailvaneError, with what to do."""
    if beside and (Path(beside) / "psql").exists():
        return f"{beside}/psql"
    if found := shutil.which("psql"):
        return found
    raise MailvaneError("psql is not installed: apt-get install postgresql-client (or dnf install postgresql)")


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", str(folder)))
