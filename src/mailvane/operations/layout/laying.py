"""Looks at what is there of a layout, and makes what is missing.

Files appear whole, with their owner, and never in the place of something that was not made here: a new one by a link,
which takes no name that is taken; a changed one over what was made before. No symbolic link is followed.
"""

import contextlib
import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mailvane.operations.layout.items import File, Folder, Item, Link, Owner
from mailvane.operations.layout.manifest import Manifest, digest, write
from mailvane.operations.layout.places import MADE, USER

MADE_BEFORE_US = "was not made by this, and is left as it is"


class State(StrEnum):
    """IN_THE_WAY: something that was not made here, where something of ours belongs. CHANGED: made here, and changed
    by somebody since; it stays."""

    MISSING = "missing"
    OLD = "old"
    THERE = "there"
    CHANGED = "changed"
    IN_THE_WAY = "in the way"


@dataclass(frozen=True)
class Seen:
    """An item, and what stands in its place."""

    item: Item
    state: State
    why: str = ""


@dataclass(frozen=True)
class Owners:
    """Numbers of the service user; none where owners are not to be set."""

    uid: int
    gid: int


def owners() -> Owners | None:
    """Of the service user; None as long as there is none."""
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return None
    return Owners(user.pw_uid, user.pw_gid)


def at(root: Path, path: str) -> Path:
    """Where a path of the finished machine is now."""
    return root / path.lstrip("/")


def look(items: Sequence[Item], manifest: Manifest, root: Path) -> list[Seen]:
    """What there is. Raises OSError for what cannot be looked at."""
    return [_look(item, manifest, at(root, item.path)) for item in items]


def _look(item: Item, manifest: Manifest, path: Path) -> Seen:
    if not os.path.lexists(path):
        return Seen(item, State.MISSING)
    match item:
        case Folder():
            there = path.is_dir()
            return Seen(item, State.THERE if there else State.IN_THE_WAY, "" if there else "is no folder")
        case Link(target=target):
            if path.is_symlink() and os.readlink(path) == target:
                return Seen(item, State.THERE)
            return Seen(item, State.IN_THE_WAY, MADE_BEFORE_US)
        case File():
            return _look_at_file(item, manifest, path)


def _look_at_file(item: File, manifest: Manifest, path: Path) -> Seen:
    made = manifest.files.get(item.path)
    if item.theirs:
        return Seen(item, State.THERE)
    found = path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else None
    if found == item.text.encode():
        return Seen(item, State.THERE)
    if made is None or found is None:
        return Seen(item, State.IN_THE_WAY, MADE_BEFORE_US)
    if digest(found) == made:
        return Seen(item, State.OLD)
    return Seen(item, State.CHANGED, "was changed since it was made, and stays as it is")


def lay(seen: Sequence[Seen], manifest: Manifest, root: Path, owner: Owners | None) -> None:
    """Makes what is missing, and renews what is old. It is remembered before the first file is made, so that it can be
    gone on with, and taken away, wherever it was cut short. Raises OSError."""
    todo = [s.item for s in seen if s.state in (State.MISSING, State.OLD)]
    folders = [i for i in todo if isinstance(i, Folder)]
    files = [i for i in todo if isinstance(i, File)]
    links = [i for i in todo if isinstance(i, Link)]
    manifest = Manifest(
        list(dict.fromkeys([*manifest.folders, *(f.path for f in folders)])),
        {**manifest.files, **{f.path: digest(f.text.encode()) for f in files}},
        {**manifest.links, **{link.path: link.target for link in links}},
    )
    for folder in folders:
        _make_folder(folder, at(root, folder.path), owner)
    if todo:
        write(at(root, MADE), manifest)
    for file in files:
        _write_file(file, at(root, file.path), owner, new=os.path.lexists(at(root, file.path)) is False)
    for link in links:
        os.symlink(link.target, at(root, link.path))


def _make_folder(item: Folder, path: Path, owner: Owners | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkdir(path, 0o700)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _own(handle, item.owner, owner)
        os.fchmod(handle, item.mode)
    finally:
        os.close(handle)


def _write_file(item: File, path: Path, owner: Owners | None, new: bool) -> None:
    beside = path.with_name(f".{path.name}.mailvane-new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(item.text)
            file.flush()
            _own(handle, item.owner, owner)
            os.fchmod(handle, item.mode)
            os.fsync(handle)
        if new:
            os.link(beside, path)
        else:
            os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def _own(handle: int, whose: Owner, owner: Owners | None) -> None:
    if owner is None or whose is Owner.ROOT:
        return
    os.fchown(handle, 0 if whose is Owner.SHARED else owner.uid, owner.gid)
