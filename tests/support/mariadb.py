"""A MariaDB of the tests' own, from the machine or from .tools: started, stopped and killed at will."""

import itertools
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pymysql

import need
from support import servers
from support.certificates import Authority
from support.ports import free_port
from support.tools import tool

USER, PASSWORD = "mailvane", "test/secret"
# Tests kill the server and do not cut the power: what the kernel has is there. A benchmark says 1, as MariaDB does.
SETTINGS = {
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "character-set-server": "utf8mb4",
    "performance-schema": "OFF",
    "skip-name-resolve": "ON",
    "skip-log-bin": "ON",
}


class MariaDB:
    """A server on 127.0.0.1 and on a Unix socket in its folder; it runs after `start`, or inside `with`.

    `settings` are those of my.cnf, beside SETTINGS. `port` and `settings` may be changed while it is stopped. The user
    `mailvane` owns the databases, by TCP and with a password. It offers TLS, with a certificate for 127.0.0.1 and
    localhost that `authority_file` vouches for.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, port: int = 0) -> None:
        self._folder = servers.Folder("my")
        self.folder = self._folder.path
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.socket = self.folder / "socket"
        self.port = port or free_port()
        self.settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        authority = Authority(self.folder)
        self.authority_file = authority.file
        self.certificate = authority.good()
        servers.own(self.certificate.key_file)

    def start(self) -> None:
        """Returns when connections are taken. Does nothing while it runs."""
        if self._process:
            return
        if not (self.data / "mysql").exists():
            servers.run([*_program("mariadb-install-db"), f"--datadir={self.data}", *INITIAL], self.folder)
            self._write_users()
        command = [*_program("mariadbd"), f"--datadir={self.data}", f"--init-file={self.folder}/users"]
        listening = [f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1"]
        tls = [
            f"--ssl-ca={self.authority_file}",
            f"--ssl-cert={self.certificate.certificate_file}",
            f"--ssl-key={self.certificate.key_file}",
        ]
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        self._process = servers.start([*command, *listening, *tls, *settings], self.folder, self.log, at_our_end="KILL")
        servers.wait_until_ready(self._process, self._ready, self.log)

    def stop(self) -> None:
        """Cuts its connections; what they have not committed is rolled back."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(servers.STOP_SECONDS)
            self._process = None

    def restart(self, immediate: bool = False) -> None:
        """Stops it (`immediate`: by SIGKILL, so that recovery follows) and starts it again on the same port."""
        if immediate:
            self.kill()
        else:
            self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process, "MariaDB is stopped"
        return self._process.pid

    @property
    def url(self) -> str:
        """The URL of the user's own database, one for all tests; `database` makes a fresh one."""
        return self.url_of(USER)

    def url_of(self, database: str, user: str = USER, password: str = PASSWORD) -> str:
        return f"mysql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Makes an empty database that the user may do all in; its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.query(f"CREATE DATABASE {name}")
        self.query(f"GRANT ALL ON {name}.* TO {USER}")
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Removes a database. Connections stay, and find it gone."""
        self.query(f"DROP DATABASE IF EXISTS {database_of(url)}")

    def query(self, sql: str, values: Sequence[object] = (), url: str = "") -> list[tuple[Any, ...]]:
        """Runs a statement as the administrator and commits; its rows.

        In the database of the URL; without one, in none.
        """
        with pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            database=database_of(url) if url else None,
            charset="utf8mb4",
            autocommit=True,
        ) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return list(cursor.fetchall())

    def version(self) -> str:
        """As the server reports it: 10.11.19-MariaDB-0+deb12u1."""
        return str(self.query("SELECT version()")[0][0])

    def close(self) -> None:
        """Ends it and removes its data."""
        self.kill()
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

    def _write_users(self) -> None:
        """Run at each start. The administrator comes in through the socket alone: its folder lets nobody else in."""
        users = self.folder / "users"
        users.write_text(
            "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost' OR User = '';\n"
            "FLUSH PRIVILEGES;\n"
            f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"CREATE DATABASE IF NOT EXISTS {USER};\n"
            f"GRANT ALL ON {USER}.* TO {USER}@'%';\n"
        )

    def _ready(self) -> bool:
        try:
            self.query("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True


# --force: whether the host's name can be looked up does not matter.
INITIAL = ("--auth-root-authentication-method=normal", "--skip-test-db", "--force")


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


def _program(name: str) -> list[str]:
    """The command for a program of MariaDB's, and the options that tell it where its parts are.

    What scripts/need.py unpacked is called directly: the server's user may not get to where its wrapper is.
    """
    path = Path(tool(name))
    libraries: list[str] = []
    if path.is_relative_to(need.TOOLS):
        unpacked = servers.within_reach(need.UNPACKED, ("lib", "usr"))
        path = next(unpacked.glob(f"usr/*bin/{name}"))
        libraries = ["env", f"LD_LIBRARY_PATH={':'.join(need.libraries(unpacked))}"]
    return [*libraries, str(path), "--no-defaults", f"--basedir={path.parent.parent}"]
