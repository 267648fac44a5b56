"""Gets the programs that tests and benchmarks run, and prints where each is: need.py TOOL...

Looked for in PATH and in .tools/bin; else installed from Debian's packages: as root by apt-get install, otherwise (and
always for a server whose package would start a service, or take the place of another server) downloaded and unpacked
into .tools of this checkout, which works without root. Ends with exit status 1 and the names of what is missing.

NAME.deb is a package of Debian's that is only downloaded, with what it needs and this machine has not, into
.tools/packages/NAME: for tests that install it on a machine of their own (tests/support/machine.py).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
TOOLS = CHECKOUT / ".tools"
UNPACKED = TOOLS / "root"
DOWNLOADED = TOOLS / "packages"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PACKAGES = {
    "curl": ("curl",),
    "gcc": ("gcc", "libc6-dev"),
    "ip": ("iproute2",),
    "mariadb-install-db": ("mariadb-server-core", "mariadb-client-core"),
    "mariadbd": ("mariadb-server-core", "mariadb-client-core"),
    "mysql": ("mariadb-server-core", "mariadb-client-core"),
    "nginx": ("nginx",),
    "nsenter": ("util-linux",),
    "setpriv": ("util-linux",),
    "sqlite3": ("sqlite3",),
    "strace": ("strace",),
    "taskset": ("util-linux",),
    "unshare": ("util-linux",),
    "wrk": ("wrk",),
}
# nginx would start a service, MariaDB's core drives out MySQL's.
NEVER_INSTALLED = {"mariadb-install-db", "mariadbd", "mysql", "nginx"}
COMPLETE = ".complete"
"""Lies in the folder of a package once it and all that it needs were downloaded."""
LIBRARIES = ("lib", "usr/lib", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*")


class Missing(Exception):
    """A tool is not there and could not be got; says which, and what was tried."""


def find(tool: str) -> Path | None:
    """Where a tool is on this machine or in .tools, without installing anything."""
    path = os.pathsep.join((str(TOOLS / "bin"), os.environ.get("PATH", ""), SYSTEM_PATH))
    found = shutil.which(tool, path=path)
    return Path(found) if found else None


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def last_words(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join(result.stderr.split())[-300:]


def install(tool: str) -> None:
    """As root: apt-get install; with a fresh list of packages if the one that is there does not do."""
    command = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES[tool])
    result = run(*command)
    if result.returncode:
        run("apt-get", "update", "-q")
        result = run(*command)
    if result.returncode:
        raise Missing(f"{tool}: apt-get install {' '.join(PACKAGES[tool])} failed: {last_words(result)}")


def unpack(tool: str) -> None:
    """Without root: apt-get download and dpkg -x of the packages, and of what they need and this machine has not."""
    downloads = TOOLS / "debs"
    download(tool, PACKAGES[tool], downloads)
    for package in sorted(downloads.glob("*.deb")):
        result = run("dpkg", "-x", str(package), str(UNPACKED))
        if result.returncode:
            raise Missing(f"{tool}: dpkg -x {package.name} failed: {last_words(result)}")
        package.unlink()
    wrap(tool)


def download(tool: str, packages: Sequence[str], downloads: Path) -> None:
    """Gets packages into a folder, and what they need and this machine has not; nothing if it has them all."""
    downloads.mkdir(parents=True, exist_ok=True)
    own_lists = apt_folders()
    for options in ((), own_lists):
        if options:
            run("apt-get", *options, "update", "-q")
        # not --print-uris: that keeps silent about what lies in the machine's own cache of packages
        wanted = run("apt-get", *options, "install", "--simulate", "-q", "--no-install-recommends", *packages)
        # Inst strace (6.1-0.1 Debian:12.11/stable [amd64])
        names = re.findall(r"^Inst (\S+) ", wanted.stdout, re.MULTILINE)
        result = run("apt-get", *options, "download", "-q", *names, cwd=downloads) if names else wanted
        if names and not result.returncode:
            return
        if not names and not wanted.returncode:
            return
    raise Missing(f"{tool}: Debian's packages {' '.join(packages)} could not be had: {last_words(result)}")


def only_downloaded(name: str) -> Path | None:
    """The folder of NAME.deb and what it needs, once all of it is there."""
    folder = DOWNLOADED / name.removesuffix(".deb")
    return folder if (folder / COMPLETE).exists() else None


def download_whole(name: str) -> Path:
    """Downloads NAME.deb. Raises Missing."""
    package = name.removesuffix(".deb")
    folder = DOWNLOADED / package
    if not shutil.which("apt-get", path=SYSTEM_PATH):
        raise Missing(f"{name}: this is no Debian to get the package {package} from")
    download(name, (package,), folder)
    (folder / COMPLETE).touch()
    return folder


def apt_folders() -> tuple[str, ...]:
    """Options that give apt-get lists and a cache of its own, where those of the machine are out of reach."""
    lists, cache = TOOLS / "apt/lists", TOOLS / "apt/cache"
    for folder in (lists / "partial", cache / "archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    return ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User=root")


def libraries(root: Path) -> list[str]:
    """The folders of libraries below the root that packages were unpacked into, for LD_LIBRARY_PATH."""
    return [str(folder) for pattern in LIBRARIES for folder in sorted(root.glob(pattern)) if folder.is_dir()]


def wrap(tool: str) -> None:
    """A small script in .tools/bin that runs an unpacked tool with the libraries that were unpacked beside it."""
    programs = [UNPACKED / folder / tool for folder in ("usr/bin", "usr/sbin", "bin", "sbin")]
    program = next((path for path in programs if path.exists()), None)
    if program is None:
        raise Missing(f"{tool}: not in Debian's packages {' '.join(PACKAGES[tool])}")
    folders = libraries(UNPACKED)
    script = TOOLS / "bin" / tool
    script.parent.mkdir(exist_ok=True)
    arguments = compiler_arguments(folders) if tool == "gcc" else ""
    script.write_text(
        "#!/bin/sh\n"
        f'export LD_LIBRARY_PATH="{":".join(folders)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"\n'
        f'export PATH="{UNPACKED}/usr/bin:$PATH"\n'
        f'exec "{program}" {arguments} "$@"\n'
    )
    script.chmod(0o755)


def compiler_arguments(folders: list[str]) -> str:
    """Lets an unpacked gcc find its headers and start files. libc.so is a text that names its parts by their places."""
    for script in UNPACKED.glob("usr/lib/*-linux-gnu*/libc.so"):
        text = script.read_text()
        script.write_text(re.sub(r"(?<!\S)/usr/lib/(\S+libc_nonshared\.a)", rf"{UNPACKED}/usr/lib/\1", text))
    headers = [UNPACKED / "usr/include", *sorted(UNPACKED.glob("usr/include/*-linux-gnu*"))]
    return " ".join([*(f'-isystem "{h}"' for h in headers), *(f'-B"{f}" -L"{f}"' for f in folders)])


def need(tool: str) -> Path:
    """The path of a tool (of NAME.deb: of the folder of packages), got if it is not there. Raises Missing."""
    if tool.endswith(".deb"):
        return only_downloaded(tool) or download_whole(tool)
    if found := find(tool):
        return found
    if tool not in PACKAGES:
        raise Missing(f"{tool}: not known here; add its Debian package to PACKAGES in scripts/need.py")
    if not shutil.which("apt-get", path=SYSTEM_PATH):
        raise Missing(f"{tool}: not in PATH, and this is no Debian to get it from; please install it")
    if os.geteuid() == 0 and tool not in NEVER_INSTALLED:
        install(tool)
    else:
        unpack(tool)
    if found := find(tool):
        return found
    raise Missing(f"{tool}: still not there after its packages {' '.join(PACKAGES[tool])} were installed")


def main(tools: list[str]) -> int:
    missing: list[str] = []
    for tool in tools:
        try:
            print(tool, need(tool))
        except Missing as problem:
            missing.append(str(problem))
    for problem in missing:
        print(f"missing: {problem}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
