"""A machine of the tests' own is a whole one, and nothing done on it is done to the real one."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

import mailvane
import need
from support import machine
from support.machine import NoMachine, on_a_machine
from support.tools import tool

LOOKS = "support_checks.machine_looks"


def test_what_is_done_on_a_machine_is_not_done_to_the_real_one() -> None:
    before = [Path(name).read_bytes() for name in ("/etc/hosts", "/etc/passwd", "/usr/bin/true")]
    modes = [folder.stat().st_mode for folder in need.CHECKOUT.parents]
    seen = on_a_machine(LOOKS, ("daemontools", "postfix"))
    assert seen["host"] == machine.HOST and seen["interfaces"] == ["lo"] and seen["processes"] <= 4
    assert seen["svscan"] == "/usr/bin/svscan"
    assert seen["lib"] == Path("/lib").is_symlink()
    assert seen["mailvane of a service"] == mailvane.__file__
    assert seen["pids outside"] != os.readlink("/proc/self/ns/pid")
    assert [Path(name).read_bytes() for name in ("/etc/hosts", "/etc/passwd", "/usr/bin/true")] == before
    assert [folder.stat().st_mode for folder in need.CHECKOUT.parents] == modes
    assert not Path("/etc/mailvane-was-here").exists() and not Path("/tmp/mailvane-was-here").exists()
    with pytest.raises(KeyError):
        pwd.getpwnam("mvguest")


def test_every_process_of_a_machine_ends_with_it() -> None:
    seen = on_a_machine(LOOKS)
    left = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and _pids(pid) == seen["pids outside"]]
    assert left == []


def _pids(process: Path) -> str:
    try:
        return os.readlink(process / "ns/pid")
    except OSError:
        return ""


def test_a_checkout_in_tmp_is_shown_whole(tmp_path: Path) -> None:
    """Its .venv and .tools lie in it, and may be shown first."""
    outer, root = tmp_path / "checkout", tmp_path / "root"
    inner = outer / ".venv"
    inner.mkdir(parents=True)
    for folder in (outer, inner):
        (folder / "file").touch()
    code = """if True:
        import sys
        from pathlib import Path
        from support.machine import show
        root, *folders = map(Path, sys.argv[1:])
        show(root, dict.fromkeys(folders).keys())
        print(*root.rglob("file"))
    """
    command = [tool("unshare"), "--mount", "--propagation=private", sys.executable, "-c", code, root, inner, outer]
    search = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*map(str, command)], env=search, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 2, done.stdout


def test_what_fails_on_a_machine_is_told_with_what_it_said() -> None:
    with pytest.raises(AssertionError, match=r"exit status 1[\s\S]*support_checks\.no_such"):
        on_a_machine("support_checks.no_such")


def test_what_is_missing_for_a_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoMachine, match=r"need\.py no-such\.deb"):
        on_a_machine(LOOKS, ("no-such",))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoMachine, match="root"):
        on_a_machine(LOOKS)


def test_a_machine_that_the_kernel_does_not_give_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a mount namespace of a user who may not mount: as in a container without CAP_SYS_ADMIN.
    monkeypatch.setattr(machine, "NAMESPACES", (*machine.NAMESPACES, "--map-user=1000", "--user"))
    with pytest.raises(NoMachine, match="could not be made here"):
        on_a_machine(LOOKS)
