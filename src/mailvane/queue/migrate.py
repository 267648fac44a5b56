"""Makes the schema and brings an older one up: numbered migrations, each in a transaction, a newer schema refused."""

import os
from functools import lru_cache

import apsw

from mailvane.errors import QueueTooNew, QueueUnavailable
from mailvane.queue.sqlite_errors import BUSY_MS, sync, told
from mailvane.queue.statements import migrations


def schema_version(db: apsw.Connection) -> int:
    return int(db.pragma("user_version"))


@lru_cache(maxsize=1)
def newest() -> int:
    """The schema that this mailvane writes."""
    return migrations("sqlite")[-1][0]


def refuse_newer(db: apsw.Connection, path: str) -> None:
    """Raises QueueTooNew if a newer mailvane wrote this queue."""
    if (found := schema_version(db)) > newest():
        raise QueueTooNew(
            f"{path} has schema {found}, this mailvane knows {newest()}: it was written by a newer mailvane. "
            "Install that version again; nothing was changed"
        )


def migrate(path: str) -> None:
    """Makes the tables, or brings them up. Only for who holds the queue's lock, before anybody else has it open.

    What was written is on disk when it returns: SQLite does not tell when the first sync of a new file or of its
    folder fails, so both are synced here again, through descriptors of our own, while SQLite has none open. Raises
    QueueUnavailable if the file cannot be made or is no queue.
    """
    try:
        with told(path):
            _migrate(path)
    except OSError as e:
        raise QueueUnavailable(f"{path}: {e.strerror or e}") from e


def _migrate(path: str) -> None:
    db = apsw.Connection(path)
    try:
        db.set_busy_timeout(BUSY_MS)
        refuse_newer(db, path)
        version = schema_version(db)
        if version == newest():
            return
        if version == 0:
            if db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                raise QueueUnavailable(f"{path} belongs to another program; name another file by `queue`")
            os.chmod(path, 0o660 & ~_umask())
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", 2)
        for number, script in migrations("sqlite"):
            if number > version:
                with db:
                    db.execute(script)
                    db.pragma("user_version", number)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)  # closing would do it, and keep a failure to itself
    finally:
        db.close()
    sync(path)
    sync(os.path.dirname(path) or ".")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
