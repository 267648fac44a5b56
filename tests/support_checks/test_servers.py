"""The database servers that the tests start: whom they run as, and that none outlives the tests."""

import os
import re
import select
import sys
import threading
from pathlib import Path

import pytest

from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.processes import Process

STARTS = """
import sys, threading
sys.path[:0] = {path!r}
from support.{module} import {name}
server = {name}()
starting = threading.Thread(target=server.start)
starting.start(); starting.join()  # the end of a thread is no end of the tests
server.query("SELECT 1")
print("runs", server.pid, server.folder, flush=True)
threading.Event().wait()
"""


def test_they_have_no_privileges(postgresql: PostgreSQL, mariadb: MariaDB) -> None:
    for server in (postgresql, mariadb):
        status = Path(f"/proc/{server.pid}/status").read_text()
        identities = re.findall(r"^[UG]id:\t(.*)$", status, re.MULTILINE)
        assert len(identities) == 2 and all("0" not in line.split() for line in identities)
        assert re.findall(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert server.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("module", "name"), [("postgresql", "PostgreSQL"), ("mariadb", "MariaDB")])
def test_they_and_their_data_are_gone_when_the_tests_are_killed(module: str, name: str) -> None:
    script = STARTS.format(path=sys.path, module=module, name=name)
    with Process([sys.executable, "-c", script]) as tests:
        found = tests.wait_for_output(r"^runs (\d+) (\S+)")
        server, folder = os.pidfd_open(int(found[1])), Path(found[2])
        assert folder.exists()
        os.kill(tests.pid, 9)
        ended, _, _ = select.select([server], [], [], 30)
        os.close(server)
        assert ended
        gone = threading.Event()
        for _ in range(300):
            if not folder.exists():
                break
            gone.wait(0.1)  # the sweeper is nobody's child any more
        assert not folder.exists()


@pytest.mark.parametrize("kind", [PostgreSQL, MariaDB])
def test_a_start_that_fails_says_why(kind: type[PostgreSQL] | type[MariaDB]) -> None:
    with pytest.raises(AssertionError, match="no_such_setting"), kind({"no_such_setting": "1"}):
        pass
