"""What was made, so that it and nothing else is overwritten or taken away: paths, and what each was like."""

import hashlib
import os
from pathlib import Path

import msgspec

from mailvane.errors import MailvaneError


class Manifest(msgspec.Struct, frozen=True):
    """Folders that were made; files by a digest of what was written; links by their target."""

    folders: list[str] = []
    files: dict[str, str] = {}
    links: dict[str, str] = {}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> Manifest:
    """An empty one where there is none. Raises MailvaneError for one that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except (OSError, msgspec.DecodeError) as e:
        raise MailvaneError(f"{path}: what was made here cannot be read: {e}") from e


def write(path: Path, manifest: Manifest) -> None:
    """At once and on disk. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    with open(new, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
