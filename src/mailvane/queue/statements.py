"""SQL lives in .sql files under names; this reads them: `-- name: NAME`, comments, the statement."""

import re
from functools import lru_cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@lru_cache(maxsize=8)
def statements(file: str) -> dict[str, str]:
    """The named statements of `sql/FILE`, comments taken off."""
    text = files("mailvane.queue").joinpath("sql", file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip()
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def migrations(store: str) -> list[tuple[int, str]]:
    """The numbered migrations of a store, `STORE_0001_name.sql`, in order."""
    found: list[tuple[int, str]] = []
    for entry in files("mailvane.queue").joinpath("sql").iterdir():
        if match := re.fullmatch(rf"{store}_(\d{{4}})_\w+\.sql", entry.name):
            found.append((int(match[1]), entry.read_text(encoding="utf-8")))
    return sorted(found)
