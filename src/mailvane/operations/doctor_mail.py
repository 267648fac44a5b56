"""What `mailvane doctor` looks at where mail is taken from."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from mailvane.configuration.settings import Settings
from mailvane.operations.findings import Finding, note, ok, wrong
from mailvane.sources.maildir import ASIDE, NewMail, NoMail

LATE = 300.0
"""Seconds that a mail may lie there: a running process takes it within one or two, unless the queue is away."""


def maildirs(settings: Settings) -> Iterator[Finding]:
    """Each Maildir: whether mail can be taken from it, how much waits, and what could not be processed."""
    for path in settings.maildirs:
        yield from _maildir(path)


def _maildir(path: Path) -> Iterator[Finding]:
    who = f"user {os.geteuid()}"
    try:
        with NewMail(path) as new:
            if not new.can_be_emptied:
                advice = f"run as the user that runs mailvane, or let {path}/new be written by {who}"
                yield wrong("maildir", f"{who} may not remove mails from {path}/new", advice)
                return
            count, oldest = new.count(), new.oldest(1).oldest
            try:
                new.read(oldest[0]) if oldest else None
            except FileNotFoundError:
                pass  # taken meanwhile
            except (OSError, NoMail) as error:
                why = (error.strerror or str(error)) if isinstance(error, OSError) else f"it is {error}"
                yield wrong(
                    "maildir",
                    f"{path}/new/{oldest[0]} cannot be read: {why}",
                    f"have it delivered by {who}, or remove it",
                )
    except FileNotFoundError:
        yield wrong("maildir", f"{path}/new is not there", f"mkdir -p {path}/new {path}/cur {path}/tmp")
        return
    except OSError as error:
        yield wrong("maildir", f"{path}/new: {error.strerror}", f"it must be a folder that {who} may read and write")
        return
    age = _age(path / "new" / oldest[0]) if oldest else 0.0
    if age > LATE:
        found = f"{count:,} mails wait in {path}/new, the oldest for {age:,.0f} s"
        yield wrong("maildir", found, "is mailvane run there, with its part mail? If so, see its log")
    else:
        yield ok("maildir", f"{path}: {count:,} mails wait")
    try:
        aside = len(os.listdir(path / ASIDE / "new"))
    except OSError:
        return
    if aside:
        look = f"mailvane ingest mail --dry-run --explain {path}/{ASIDE}/new/*"
        yield note("maildir", f"{aside:,} mails in {path}/{ASIDE} could not be processed", f"{look}; then remove them")


def _age(path: Path) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
