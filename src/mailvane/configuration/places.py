"""Where the files of a home are, for those parts that only need to know that."""

import os
from pathlib import Path

from mailvane.configuration.home import existing_home
from mailvane.configuration.secrets import Secret, SecretMissing
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import QueueUnavailable
from mailvane.queue.short import Places
from mailvane.recording.session import Where

SOCKET = "mailvane.sock"


def places_of(settings: Settings) -> Places:
    """The queue's files. Lock and ballast stand beside the database: two homes may name one, and it may have a disk of
    its own."""
    beside = settings.queue_file.parent
    return Places(
        database=str(settings.queue_file),
        lock=str(beside / "queue.lock"),
        socket=str(settings.home / SOCKET),
        ballast=str(beside / "ballast"),
    )


def where_of(settings: Settings) -> Where:
    """What recording needs to know."""
    url = settings.queue_url
    database = None if url is None else lambda: queue_url(url)
    return Where(places_of(settings), settings.control_directory, settings.server_id, database)


def queue_url(url: Secret) -> str:
    """The URL of the queue in PostgreSQL, or what it refers to. Raises QueueUnavailable."""
    try:
        return url.read()
    except SecretMissing as e:
        raise QueueUnavailable(f"the queue is not known: {e}") from None


def places_for_recording(home: str | os.PathLike[str] | None) -> Where:
    """The same for a home given by a program, None for the usual one. Raises HomeMissing and SettingsBroken."""
    return where_of(load_settings(Path(existing_home(None if home is None else os.fspath(home)))))
