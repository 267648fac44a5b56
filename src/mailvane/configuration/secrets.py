"""Values that stand elsewhere: `@file:PATH` (the file's first line) and `@env:NAME` (a variable of the environment).

They are read late, when they are needed, so that a secret can be changed without touching the configuration; what is
read is never part of a message.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mailvane.errors import MailvaneError
from mailvane.recording.regular import Unreadable, read_regular

SECRET_LIMIT = 64 * 1024
"""Bytes that a file with a secret may have."""

Resolve = Callable[[str], str]


class SecretMissing(MailvaneError):
    """A reference leads to nothing; the text names the reference, never a value."""


def is_reference(value: str) -> bool:
    return value.startswith(("@file:", "@env:"))


def reference_path(value: str) -> Path | None:
    """The file that an `@file:` reference names; None for all else."""
    return Path(value.removeprefix("@file:")) if value.startswith("@file:") else None


def resolve_secret(value: str) -> str:
    """What a reference leads to, without the line's end; a value that is no reference is returned as it is.

    Raises SecretMissing.
    """
    if value.startswith("@env:"):
        secret = os.environ.get(value.removeprefix("@env:"), "")
        if not secret:
            raise SecretMissing(
                f"{value} leads to nothing: the variable is not set here, in this process's environment, or is empty"
            )
        return secret
    path = reference_path(value)
    if path is None:
        return value
    try:
        data = read_regular(path, SECRET_LIMIT).data
    except Unreadable as error:
        raise SecretMissing(f"{value} leads to nothing: the file {error.why}") from None
    try:
        secret = data.decode("utf-8").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise SecretMissing(f"{value} leads to a file that is no UTF-8 text") from None
    if not secret:
        raise SecretMissing(f"{value} leads to nothing: the file's first line is empty")
    return secret


@dataclass(frozen=True, repr=False)
class Secret:
    """A secret, given itself or by reference. Its text never shows the secret."""

    given: str

    def read(self) -> str:
        """Raises SecretMissing."""
        return resolve_secret(self.given)

    def __repr__(self) -> str:
        return f"Secret({self.given if is_reference(self.given) else '***'})"
