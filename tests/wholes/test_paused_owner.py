"""The process that owns a queue is stopped for a while (SIGSTOP): nobody takes over from it. D14."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mailvane.queue.ownership import Lock
from support.endpoint import Answer, Endpoint
from support.homes import COMMAND, Home, bounce, posts_to
from support.oracle import ids_in


def test_d14_nobody_takes_over_from_an_owner_that_is_paused(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint]
) -> None:
    endpoint = make_endpoint(Answer(200, delay=0.05))
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    process = home.run()
    home.record([bounce(n) for n in range(1, 201)])
    endpoint.wait_for(lambda e: len(e.requests) > 20)
    process.send(signal.SIGSTOP)
    try:
        wait_until_stopped(process.pid)
        answered = len(endpoint.requests)
        for command in ("run", "processor"):
            second = home.mailvane(command, check=False)
            assert second.returncode == 1
            assert f"process {process.pid}" in second.stderr
        assert not Lock(str(home.folder / "queue.lock"), "a thief").take()
        # Who records waits for it, and does not go past it.
        waits = subprocess.Popen([COMMAND, "trigger", "bounce_all", "--home", home.folder], stdout=subprocess.DEVNULL)
        # What was on its way when it was paused may still arrive; nothing new is sent.
        assert len(endpoint.requests) <= answered + 256
        assert waits.poll() is None
    finally:
        process.send(signal.SIGCONT)
    assert waits.wait(60) == 0
    books = home.wait_until_empty(60)["books"]
    assert (books["recorded"], books["delivered"]) == (201, 201)
    arrived = Counter(i for request in endpoint.requests for i in ids_in([request]))
    assert set(arrived) == set(range(1, 202))
    # It was answered while it could not listen: it hears that when it goes on, so that nothing comes twice.
    assert all(times == 1 for times in arrived.values())


def wait_until_stopped(pid: int) -> None:
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end
        os.sched_yield()
