"""Getting a queue for the life of a process: its lock, or the name of who has it.

A queue in PostgreSQL is had by several processes; the lock is that of the home then: for who serves the socket in it.
"""

import asyncio

from mailvane.configuration.places import places_of
from mailvane.configuration.settings import Settings
from mailvane.errors import QueueOwned, QueueUnavailable
from mailvane.queue.ownership import Lock, describe

LOCK_WAIT = 5.0
"""Seconds that a command of a moment may still have the queue when a long-running process starts."""


async def take_ownership(settings: Settings, command: str) -> Lock:
    """The queue's lock, for the life of this process. Raises QueueOwned, naming who has it.

    Of a queue in PostgreSQL it is not held (`Lock.held`) if another process of this home has it.
    """
    lock = Lock(places_of(settings).lock, command)
    try:
        if lock.take():
            return lock
        if settings.queue_url is not None:
            return lock
        holder = lock.holder()
        of_a_moment = holder is None or not holder.command.startswith("mailvane ")
        if of_a_moment and await asyncio.to_thread(lock.take_in_line, LOCK_WAIT):
            return lock
    except OSError as e:
        raise QueueUnavailable(f"{lock.path}: {e.strerror}; is the home there, and ours to write?") from e
    raise QueueOwned(f"the queue of {settings.home} belongs to {describe(lock.holder())}; one process at a time has it")
