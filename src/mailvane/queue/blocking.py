"""Finds the process that holds a SQLite lock, for a message that names it."""

import os


def who_holds(path: str) -> str:
    """The processes with a lock on the database at `path`, other than this one, in words (Linux; else "a process")."""
    inodes: set[int] = set()
    for name in (path, path + "-wal", path + "-shm"):
        try:
            inodes.add(os.stat(name).st_ino)
        except OSError:
            continue
    try:
        with open("/proc/locks", encoding="ascii") as f:
            lines = [line.split() for line in f]
    except OSError:
        return "another process"
    found: dict[int, str] = {}
    for words in lines:
        # 1: POSIX  ADVISORY  WRITE 4711 fe:00:131 120 120
        at = words.index("->") if "->" in words else 0
        kind, mode, pid, place = words[at + 1], words[at + 3], words[at + 4], words[at + 5]
        # A shell that only has the database open has read locks.
        if kind == "POSIX" and mode == "WRITE" and int(place.rsplit(":", 1)[1]) in inodes and int(pid) != os.getpid():
            found[int(pid)] = _command(int(pid))
    if not found:
        return "another process"
    return ", ".join(f"process {pid} ({command})" for pid, command in found.items())


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return "gone by now"
