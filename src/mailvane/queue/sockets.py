"""Paths of Unix sockets, however long: the kernel takes 107 bytes, and homes may lie deep."""

import os
from collections.abc import Generator
from contextlib import contextmanager

LIMIT = 107
"""Bytes that the path of a Unix socket may have."""


@contextmanager
def within_limit(path: str) -> Generator[str, None, None]:
    """The path in a form to bind or connect to: a long one by way of its open folder (Linux). Raises OSError."""
    if len(os.fsencode(path)) <= LIMIT:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)
