"""A small file system in memory that can run full, in a mount namespace of its own: no root needed."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Self

import pytest

from support.tools import tool

KEEPER = 'mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && echo ready && exec cat'


class Tmpfs:
    """Mounted on `folder` for the commands that are started with `prefix`; `seen` is the same place for the test.

    The namespace lives as long as its keeper, a `cat` that ends with `close`.
    """

    def __init__(self, folder: Path, size: str = "4m") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        refused: list[str] = []
        for kind in ("-Urm", "-m"):  # in a user namespace; else as root without one
            keeper = subprocess.Popen(
                [tool("unshare"), kind, "sh", "-c", KEEPER, "keeper", size, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert keeper.stdout and keeper.stderr
            if keeper.stdout.readline() == b"ready\n":
                break
            refused.append(f"unshare {kind}: {keeper.stderr.read().decode().strip()}")
            _end(keeper)
        else:
            pytest.fail(
                "this test needs a small tmpfs, by user namespaces (sysctl kernel.unprivileged_userns_clone=1, and no"
                f" AppArmor rule against them) or as root: {'; '.join(refused)}",
                pytrace=False,
            )
        self._keeper = keeper
        self.folder = folder
        self.seen = Path(f"/proc/{keeper.pid}/root{folder}")
        users = ["--user", "--preserve-credentials"] if kind == "-Urm" else []
        self.prefix = (tool("nsenter"), "--target", str(keeper.pid), *users, "--mount", f"--wd={os.getcwd()}")

    def close(self) -> None:
        _end(self._keeper)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _end(keeper: subprocess.Popen[bytes]) -> None:
    for pipe in (keeper.stdin, keeper.stdout, keeper.stderr):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    keeper.kill()
    keeper.wait()
