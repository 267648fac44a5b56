"""Free TCP ports for servers that are stopped and come back on the same one."""

import os
import random
import socket

# Below the ports that the kernel gives to outgoing connections, so that one stays free while its server is down.
# Each pytest-xdist worker draws from its own residue class: two never draw the same.
RANGE = range(10_000, 32_000)
WORKERS = 64


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    candidates = RANGE[worker::WORKERS]
    while True:
        port = random.SystemRandom().choice(candidates)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
