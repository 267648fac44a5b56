import os
import select
import sys

import pytest

from support.processes import Process


def test_output_is_awaited_and_an_end_without_it_is_told_at_once() -> None:
    with Process([sys.executable, "-c", "print('ready on 7')"]) as process:
        assert process.wait_for_output(r"ready on (\d)")[1] == "7"
        with pytest.raises(AssertionError, match="never"):
            process.wait_for_output("never")


def test_children_end_with_it() -> None:
    parent = "import subprocess, sys; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); c.wait()"
    process = Process([sys.executable, "-c", parent])
    child = os.pidfd_open(int(process.wait_for_output(r"^\d+$")[0]))
    process.close()
    ended, _, _ = select.select([child], [], [], 10)
    os.close(child)
    assert ended
