"""The package as people install it, with no repository around it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mailvane

CHECKOUT = Path(mailvane.__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # As `pip wheel .` does it, but with what is installed: no registry is asked.
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, *words, str(CHECKOUT)], check=True, capture_output=True)
    (made,) = folder.glob("mailvane-*.whl")
    return made


def test_a_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("mailvane/")}
    source = CHECKOUT / "src"
    files = {p for p in (source / "mailvane").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert packed == {str(p.relative_to(source)) for p in files}


def test_what_a_wheel_installs_works_anywhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-P", "-c", "import mailvane, mailvane.cli; print(mailvane.__file__); mailvane.cli.main()"]
    tried = {
        "init --home home --enable bounce_all": "bounce_all",
        "--home home doctor": "all is well",
        "config sql-table mysql": "CREATE TABLE",
        "layout greenarrow --help": "takes it away",
    }
    for command, said in tried.items():
        done = subprocess.run(
            [*words, *command.split()], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(str(tmp_path)) and said in " ".join(done.stdout.split())
