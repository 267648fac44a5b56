"""The most memory that `mailvane run` takes over its start, a status report and 100,000 deliveries of 1,000,000."""

import shutil
import subprocess
import time
import urllib.request

from drivers.homes import COMMAND, fill, make, point, rule
from measure import Figure, Sink, Work, peak_memory_mib, pinned, plain_sink

WAITING = 1_000_000
DELIVERED = 100_000


def run(work: Work) -> Figure:
    with plain_sink(work) as sink:
        home = make(work.folder / "memory")
        fill(home, WAITING)
        point(home, rule(sink.url))
        before = _arrived(sink)
        with subprocess.Popen(pinned(work.core, COMMAND, "--home", home, "run"), stderr=subprocess.DEVNULL) as process:
            try:
                subprocess.run([COMMAND, "--home", home, "events", "status"], check=True, capture_output=True)
                end = time.monotonic() + 60
                while _arrived(sink) - before < DELIVERED:
                    if time.monotonic() > end:
                        raise SystemExit("too slow: not delivered within a minute")
                    time.sleep(0.05)
                peak = peak_memory_mib(process.pid)
            finally:
                process.terminate()
        shutil.rmtree(home)
    return Figure(
        "memory",
        "VmHWM of `mailvane run`, first 100,000 of 1,000,000 waiting events",
        "MiB",
        (peak,),
        150,
        better="less",
    )


def _arrived(sink: Sink) -> int:
    with urllib.request.urlopen(sink.url.removesuffix("/hook") + "/stats") as answer:
        return int(answer.read().split()[0])
