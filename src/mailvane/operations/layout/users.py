"""The user that services run as."""

import pwd
import shutil
import subprocess

from mailvane.errors import MailvaneError
from mailvane.operations.layout.places import HOME, USER


def is_there() -> bool:
    """Whether the service user is."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def make() -> None:
    """A system user without a password, with a group of its own. Raises MailvaneError."""
    useradd = shutil.which("useradd") or shutil.which("useradd", path="/usr/sbin:/sbin")
    if useradd is None:
        raise MailvaneError(
            f"useradd is not there: make a system user {USER} with a group of its own, then do it again"
        )
    shell = shutil.which("nologin", path="/usr/sbin:/sbin") or "/bin/false"
    words = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", HOME, "--shell", shell, USER]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MailvaneError(f"the user {USER} cannot be made: {done.stderr.strip()}")
