"""What `mailvane doctor` looks at around the queue: versions, home, permissions, disk, limits."""

import os
import platform
import resource
import stat
from collections.abc import Iterator
from importlib.util import find_spec

import apsw

from mailvane.configuration.home import CONTROL
from mailvane.configuration.places import places_of
from mailvane.configuration.secrets import SecretMissing, is_reference
from mailvane.configuration.settings import SETTINGS_FILE, Settings
from mailvane.errors import QueueUnavailable
from mailvane.operations.findings import Finding, note, ok, wrong
from mailvane.queue.ballast import Ballast
from mailvane.queue.sockets import LIMIT
from mailvane.queue.sqlite import refuse_unsafe_sqlite
from mailvane.version import __version__

LITTLE_ROOM = 512 * 1024 * 1024
FEW_FILES = 1_024


def versions() -> Iterator[Finding]:
    """Of mailvane, Python and SQLite."""
    loop = "uvloop" if find_spec("uvloop") else "asyncio (uvloop is not installed: slower)"
    yield ok("versions", f"mailvane {__version__}, Python {platform.python_version()}, {platform.platform()}, {loop}")
    version = apsw.sqlite_lib_version()
    try:
        refuse_unsafe_sqlite(version)
    except QueueUnavailable as error:
        yield wrong("SQLite", str(error), "pip install --upgrade apsw")
    else:
        yield ok("SQLite", f"{version}, without the WAL-reset bug")


def settings_file(settings: Settings) -> Iterator[Finding]:
    """mailvane.conf is right, as it was read; what of it is not mailvane's."""
    path = settings.home / SETTINGS_FILE
    if settings.ignored:
        yield note("settings", f"{path} is right; ignored, for not mailvane's: {', '.join(settings.ignored)}")
    else:
        yield ok("settings", f"{path} is right")
    token = settings.api_token
    if token is None:
        return
    try:
        token.read()
    except SecretMissing as error:
        yield wrong("api_token", str(error), "write the token there; until then the API lets nobody in over TCP")
    if not is_reference(token.given) and path.stat().st_mode & stat.S_IROTH:
        yield wrong("api_token", f"{path} has the token in it and everybody may read it", f"chmod o-r {path}")


def permissions(settings: Settings) -> Iterator[Finding]:
    """Who may write what."""
    places = places_of(settings)
    wanted = [(settings.home, os.R_OK | os.W_OK | os.X_OK), (settings.control_directory, os.R_OK | os.X_OK)]
    wanted += [(settings.home / name, os.R_OK | os.W_OK) for name in (places.database, places.lock)]
    refused = [str(path) for path, mode in wanted if os.path.exists(path) and not os.access(path, mode)]
    if refused:
        user = f"user {os.geteuid()}"
        advice = f"run as the user that runs mailvane, or chown them to {user}"
        yield wrong("permissions", f"{user} may not use {', '.join(refused)}", advice)
    open_to_all = [p for p in (settings.home, settings.control_directory) if _world_writable(str(p))]
    for path in open_to_all:
        yield wrong(
            "permissions", f"everybody may write into {path}, and so decide where events go", f"chmod o-w {path}"
        )
    if not settings.control_directory.is_dir():
        advice = f"mkdir {settings.control_directory}, or set control_directory in {SETTINGS_FILE} ({CONTROL})"
        yield wrong("permissions", f"the control directory {settings.control_directory} is missing", advice)
    elif not refused and not open_to_all:
        yield ok("permissions", f"{settings.home} can be read and written by user {os.geteuid()}, not by everybody")


def _world_writable(path: str) -> bool:
    return os.path.isdir(path) and bool(os.stat(path).st_mode & stat.S_IWOTH)


def socket_path(settings: Settings) -> Iterator[Finding]:
    """Whether the Unix socket in home can be."""
    path = places_of(settings).socket
    length = len(os.fsencode(path))
    if length > LIMIT and not os.path.isdir("/proc/self/fd"):
        found = f"{path} has {length} bytes; a socket's path may have {LIMIT} where there is no /proc"
        yield wrong("socket", found, "move the home to a shorter path: nobody can record while mailvane runs")
    elif os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        yield wrong("socket", f"{path} is no socket", f"remove {path}")
    else:
        yield ok("socket", f"{path} ({length} bytes)")


def disk(settings: Settings) -> Iterator[Finding]:
    """Room, and the ballast that keeps some for removing what was delivered."""
    database, ballast = places_of(settings).database, Ballast(places_of(settings).ballast)
    folder = os.path.dirname(database)
    room = os.statvfs(folder)
    free, share = room.f_bavail * room.f_frsize, room.f_bavail / max(1, room.f_blocks)
    where = "where the queue is" if settings.queue_url is None else f"in {folder}"
    found = f"{free / 1024**2:,.0f} MiB free {where} ({share:.0%})"
    if settings.queue_url is not None:  # nothing but the lock and log files stands there
        yield ok("disk", found)
        return
    if free < 2 * ballast.size():
        yield wrong("disk", found, f"make room in {folder}: recording stops when it is full")
    elif free < LITTLE_ROOM:
        yield note("disk", found, f"a million events take about 1 GiB; make room in {folder}")
    else:
        yield ok("disk", found)
    if room.f_files and room.f_favail < 100:
        yield wrong(
            "disk", f"{room.f_favail} files can be made where the queue is", f"remove files in {folder}'s file system"
        )
    if os.path.exists(database) and os.path.getsize(database) and not ballast.is_there():
        yield wrong(
            "ballast",
            f"{ballast.path} is not there: nothing is recorded until it is",
            "make room; it is made by itself",
        )
    elif ballast.is_there():
        yield ok("ballast", f"{ballast.path} is there: what is delivered can be removed on a full disk, too")


def open_files(settings: Settings) -> Iterator[Finding]:
    """Each connection is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield wrong(
            "open files", f"this user may open {hard:,} files", "raise LimitNOFILE (systemd) or ulimit -Hn to 65536"
        )
    else:
        told = "any number of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
        yield ok("open files", f"mailvane run may open {told} files (this shell: {soft:,})")
