"""Runs the steps of a page on a machine of its own: its own files, network and processes, which end with it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.postgresql import program
from support.tools import tool

HERE = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
NAMES = "db.example.com hook.example.com my-hook-server.exampledomain.com"
"""Names of the pages that lead to the machine itself. All others lead nowhere."""
TOOLS = ("curl", "ip", "mysql", "sqlite3")
SECONDS = 300

# Each step by itself: what one leaves on the disk, and what runs, is there for the next.
DRIVER = """
cd "$WORK"
for step in "$STEPS"/*.step; do
    timeout --kill-after=5 20 bash "$step" >"$step.out" 2>&1 </dev/null
    echo $? >"$step.status"
done
stop >"$STEPS/stop.out" 2>&1
echo $? >"$STEPS/stop.status"
"""


@dataclass(frozen=True)
class Step:
    """A command for bash, in which "$1" is a file with `text`. `where` is for people."""

    where: str
    command: str
    text: str = ""


@dataclass(frozen=True)
class Done:
    step: Step
    status: int
    output: str


def run(steps: Sequence[Step], folder: Path, environment: Mapping[str, str], shared: Sequence[Path]) -> list[Done]:
    """What became of each. The folder should have a short path: a home's socket is in it. `shared` are other folders
    where what is written is seen outside, and what listens is reached."""
    work, files, behind, root = (folder / name for name in ("w", "steps", "behind", "root"))
    for made in (work, files, behind, root):
        made.mkdir()
    for number, step in enumerate(steps):
        block = files / f"{number:03}.block"
        block.write_text(step.text, encoding="utf-8")
        (files / f"{number:03}.step").write_text(f"set -e -o pipefail -- {block}\n{step.command}\n", encoding="utf-8")
    real = str(Path(sys.executable).parent)
    found = {str(Path(tool(name)).parent) for name in TOOLS} - set(os.environ["PATH"].split(":"))
    inside = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MAILVANE_", "PG"))},
        "PATH": ":".join([str(PROGRAMS), real, *sorted(found), str(program("psql").parent), os.environ["PATH"]]),
        "REAL": real,
        "HOME": str(work),
        "PYTHONUNBUFFERED": "1",
        "NAMES": NAMES,
        "SHARED": " ".join(map(str, (work, files, behind, *shared))),
        "CHECKOUT": str(HERE),
        "WORK": str(work),
        "STEPS": str(files),
        "BEHIND": str(behind),
        **environment,
    }
    sandbox = [str(PROGRAMS / "sandbox.sh"), str(root), "bash", "-c", DRIVER]
    apart = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for users in ([], ["--map-root-user"]):
        ran = subprocess.run(
            [tool("unshare"), *users, *apart, *sandbox],
            env=inside,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if (files / "stop.status").exists():
            break
    else:
        pytest.fail(f"no machine of its own could be made: {ran.stderr}", pytrace=False)
    ended = Step("at the end of the page", "stop")
    return [_done(step, files / f"{number:03}.step") for number, step in enumerate(steps)] + [
        _done(ended, files / "stop")
    ]


def _done(step: Step, file: Path) -> Done:
    status, output = file.with_name(file.name + ".status"), file.with_name(file.name + ".out")
    return Done(step, int(status.read_text()), output.read_text(encoding="utf-8", errors="replace"))
