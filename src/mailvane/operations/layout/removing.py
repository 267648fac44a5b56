"""Takes away what was made: files and links as they were made, folders that are empty. What somebody changed, and what
is data (the queue's database, logs, mail), stays and is named."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mailvane.operations.layout.laying import at
from mailvane.operations.layout.manifest import Manifest, digest, write
from mailvane.operations.layout.places import MADE


@dataclass(frozen=True)
class Removed:
    """Paths of the finished machine: what is gone, and what stays, with the reason."""

    gone: tuple[str, ...]
    stays: tuple[tuple[str, str], ...]


def would_remove(manifest: Manifest, root: Path) -> Removed:
    """What `remove` would do."""
    return _remove(manifest, root, lambda path: None, lambda path: None, lambda: None)


def remove(manifest: Manifest, root: Path, end_services: Callable[[], None]) -> Removed:
    """Links first, so that no supervisor finds half a service; then services are ended. What stays is remembered, for
    when the layout is made again. Raises OSError, and what `end_services` does."""
    made = at(root, MADE)

    def rmdir(folder: Path) -> None:
        if folder == made.parent:
            made.unlink(missing_ok=True)
        os.rmdir(folder)

    removed = _remove(manifest, root, os.unlink, rmdir, end_services)
    left = {path for path, _ in removed.stays}
    if left and made.parent.is_dir():
        files = {path: what for path, what in manifest.files.items() if path in left}
        write(made, Manifest([f for f in manifest.folders if f in left], files))
    return removed


def _remove(
    manifest: Manifest,
    root: Path,
    unlink: Callable[[Path], None],
    rmdir: Callable[[Path], None],
    end_services: Callable[[], None],
) -> Removed:
    gone: list[str] = []
    stays: list[tuple[str, str]] = []
    ended = False
    for path in [*manifest.links, *reversed(manifest.files)]:
        if path in manifest.files and not ended:
            end_services()
            ended = True
        place = at(root, path)
        if not os.path.lexists(place):
            continue
        if _as_made(manifest, path, place):
            unlink(place)
            gone.append(path)
        else:
            stays.append((path, "was changed since it was made"))
    taken = set(gone)
    for path in sorted(manifest.folders, key=len, reverse=True):
        place = at(root, path)
        if not place.is_dir() or place.is_symlink():
            continue
        ours = {p.rpartition("/")[2] for p in (*taken, MADE) if p.rpartition("/")[0] == path}
        if left := sorted(set(os.listdir(place)) - ours):
            stays.append((path, f"has {left[0]} in it"))
        else:
            rmdir(place)
            gone.append(path)
            taken.add(path)
    return Removed(tuple(gone), tuple(stays))


def _as_made(manifest: Manifest, path: str, place: Path) -> bool:
    if path in manifest.links:
        return place.is_symlink() and os.readlink(place) == manifest.links[path]
    return stat.S_ISREG(place.lstat().st_mode) and digest(place.read_bytes()) == manifest.files[path]
