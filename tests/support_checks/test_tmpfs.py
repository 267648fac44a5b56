import subprocess
from pathlib import Path

from support.tmpfs import Tmpfs


def test_runs_full_for_commands_inside_and_is_seen_from_outside(short_folder: Path) -> None:
    with Tmpfs(short_folder / "small", size="1m") as small:
        fill = ["dd", "if=/dev/zero", f"of={small.folder}/ballast", "bs=64k", "count=100"]
        result = subprocess.run([*small.prefix, *fill], capture_output=True, text=True, check=False)
        assert result.returncode and "No space left" in result.stderr
        assert (small.seen / "ballast").stat().st_size == 2**20
        assert not list(small.folder.iterdir())  # mounted in the namespace alone
