"""Connections that are closed before the process forks: parent and child must not share them."""

import os
import threading
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """What opens its connection again when it is needed."""

    def close_connection(self) -> None: ...


class ClosedBeforeForks:
    """Stores of one kind, for the life of the process. `in_use` is held by whoever uses a connection, and by who
    forks."""

    def __init__(self) -> None:
        self.in_use = threading.Lock()
        self._stores: weakref.WeakSet[Forgetful] = weakref.WeakSet()
        os.register_at_fork(before=self._close, after_in_parent=self.in_use.release, after_in_child=self.in_use.release)

    def add(self, store: Forgetful) -> None:
        self._stores.add(store)

    def _close(self) -> None:
        self.in_use.acquire()
        for store in list(self._stores):
            store.close_connection()
