"""A machine of the tests' own: what is done on it as root touches nothing of the real one.

Its root is an overlay: everything of the real root is there to read, everything written lies in memory and is gone at
the end. Mounts, processes, network (lo alone) and host name are its own. Users can be made, packages be unpacked,
/etc/hosts be written. It needs root, and a kernel with overlay mounts and namespaces.

    on_a_machine("guide.story", packages=("daemontools", "postfix"))

runs that module on one, with the Python and the search path of the tests.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import need
from support.tools import tool

TIMEOUT = 120.0
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--propagation=private")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOST = "mail1.machine.test"


class NoMachine(Exception):
    """A machine cannot be made here; says what is missing."""


def on_a_machine(module: str, packages: Sequence[str] = (), timeout: float = TIMEOUT) -> Any:
    """Runs a module as a program on a fresh machine on which these packages are unpacked; what its last line of output
    says in JSON.

    Raises NoMachine; AssertionError with the end of what it printed if it fails, or is not done in time (seconds).
    """
    if os.geteuid() != 0:
        raise NoMachine("a machine of the tests' own needs root: it mounts, makes users and runs services")
    folders = [_packages(name) for name in packages]
    with tempfile.TemporaryDirectory(prefix="mv-machine-", dir="/tmp") as place:
        command = [tool("unshare"), *NAMESPACES, sys.executable, "-m", __name__, place, module, *map(str, folders)]
        try:
            done = subprocess.run(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{module} was not done in {timeout:g} s; it had said\n{_end(late.stderr)}") from None
    if done.returncode == MADE_NOT:
        raise NoMachine(done.stderr.strip()[-2000:])
    if done.returncode:
        raise AssertionError(
            f"{module} ended with exit status {done.returncode}\n{_end(done.stdout)}{_end(done.stderr)}"
        )
    return json.loads(done.stdout.splitlines()[-1])


MADE_NOT = 71
"""Exit status (EX_OSERR) of a machine that could not be made."""


def _packages(name: str) -> Path:
    folder = need.only_downloaded(f"{name}.deb")
    if folder is None:
        raise NoMachine(f"the package {name} is missing: `make test` gets it (python3 scripts/need.py {name}.deb)")
    return folder


def _environment() -> dict[str, str]:
    """Nothing of the user's own settings but where Python finds the modules."""
    search = os.pathsep.join(os.path.abspath(path) for path in sys.path if path and "site-packages" not in path)
    return {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONPATH": search}


def _end(output: str | bytes | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return text[-4000:]


# From here on: on the machine, while it is made


def main(place: str, module: str, *packages: str) -> int:
    """Makes the machine in the folder `place`, and runs the module on it. This is the machine's first process."""
    try:
        seen = _seen_outside()
        root = make_root(Path(place))
        show(root, seen)
        os.chroot(root)
        os.chdir("/")
        Path("/etc/hosts").write_text(f"127.0.0.1 localhost {HOST}\n::1 localhost\n")
        Path("/etc/resolv.conf").unlink(missing_ok=True)
        Path("/etc/resolv.conf").write_text("")
        socket.sethostname(HOST)
        bring_lo_up()
        for folder in packages:
            unpack(Path(folder))
        _run("ldconfig")
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or ""
        print(f"a machine of the tests' own could not be made here: {error} {said}".strip(), file=sys.stderr)
        return MADE_NOT
    return first_process([sys.executable, "-m", module])


def _seen_outside() -> set[Path]:
    """Folders that the tests themselves need: the checkout, its tools, the Python that runs them."""
    places = [need.CHECKOUT, need.TOOLS, Path(sys.prefix), Path(sys.base_prefix)]
    return {path.resolve() for path in places if path.exists()}


def make_root(place: Path) -> Path:
    """Mounts the overlay, and what a system has besides its files."""
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "machine", str(place))
    upper, work, root = (place / name for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    _run("mount", "-t", "overlay", "machine", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(root))
    _run("mount", "-t", "proc", "proc", str(root / "proc"))
    for name, mode in (("tmp", "1777"), ("run", "755"), ("dev", "755")):
        _run("mount", "-t", "tmpfs", "-o", f"mode={mode}", name, str(root / name))
    for name in DEVICES:
        (root / "dev" / name).touch()
        _run("mount", "--bind", f"/dev/{name}", str(root / "dev" / name))
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (root / "dev" / name).symlink_to(target)
    for name, kind, options in (("shm", "tmpfs", "mode=1777"), ("pts", "devpts", "newinstance,ptmxmode=666")):
        (root / "dev" / name).mkdir()
        _run("mount", "-t", kind, "-o", options, name, str(root / "dev" / name))
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    return root


def show(root: Path, folders: Set[Path]) -> None:
    """Lets everybody on the machine get to these folders; those on a file system of their own are bound, to read."""
    outside = os.stat("/").st_dev
    for folder in sorted(folders):  # one that lies in another makes that one's place, which then seems to be there
        inside = root / folder.relative_to("/")
        if os.stat(folder).st_dev != outside or not inside.exists():
            inside.mkdir(parents=True, exist_ok=True)
            _run("mount", "--rbind", str(folder), str(inside))
            _run("mount", "-o", "remount,bind,ro", str(inside))
        for parent in folder.parents:
            # /root lets nobody in, and services run as somebody else.
            there = root / parent.relative_to("/")
            if not there.is_symlink() and not there.stat().st_mode & 0o001:
                there.chmod(there.stat().st_mode | 0o011)


def bring_lo_up() -> None:
    """What `ip link set lo up` does, where there may be no `ip`: SIOCGIFFLAGS, SIOCSIFFLAGS with IFF_UP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, 0x8913, request))
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))


def unpack(folder: Path) -> None:
    """Unpacks the packages in a folder. Their own scripts do not run: no service starts, no user is made."""
    for package in sorted(folder.glob("*.deb")):
        # not dpkg -x: its tar puts a folder in the place of /lib, which is a link
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as files:
            _run("tar", "-x", "--keep-directory-symlink", "-C", "/", "-f", "-", input_from=files)
        if files.returncode:
            raise OSError(f"dpkg-deb --fsys-tarfile {package.name}: exit status {files.returncode}")


def first_process(command: Sequence[str]) -> int:
    """Runs a command, and takes in what is left over by processes whose parents are gone, as init does.

    When it returns, and this process ends, the kernel ends all others of the machine.
    """
    started = subprocess.Popen(command)
    while True:
        pid, status = os.wait()
        if pid == started.pid:
            return os.waitstatus_to_exitcode(status)


def _run(*command: str, input_from: subprocess.Popen[bytes] | None = None) -> None:
    subprocess.run(
        command,
        stdin=input_from.stdout if input_from else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
