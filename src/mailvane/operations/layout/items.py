"""What a layout consists of: folders, files, links. Paths are those of the finished machine, whatever the root."""

from dataclasses import dataclass
from enum import Enum


class Owner(Enum):
    """ROOT: root alone. SHARED: root's, and the service user's group may read. SERVICE: the service user's."""

    ROOT = "root"
    SHARED = "shared"
    SERVICE = "service"


@dataclass(frozen=True)
class Folder:
    """One that is there already stays as it is."""

    path: str
    mode: int = 0o755
    owner: Owner = Owner.ROOT


@dataclass(frozen=True)
class File:
    """`theirs`: people edit it, so one that is there already stays as it is."""

    path: str
    text: str
    mode: int = 0o644
    owner: Owner = Owner.ROOT
    theirs: bool = False


@dataclass(frozen=True)
class Link:
    path: str
    target: str


Item = Folder | File | Link
