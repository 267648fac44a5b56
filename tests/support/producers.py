"""Producers in processes of their own: by HTTP, by the socket, by `mailvane record`, by a Recorder in a prefork pool.

As a program: producers.py KIND HOME PORT FIRST LOG [PACE]. It mints events from number FIRST on and notes in LOG what
it offers ("offered FIRST COUNT"), what was acknowledged ("acknowledged FIRST COUNT [ID…]") and what was refused
("refused FIRST COUNT STATUS"), until SIGTERM, or its parent's end. PACE is the pause in seconds after each offer.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Self

from support.homes import Home
from support.oracle import Oracle, mint
from support.processes import Process

HERE = Path(__file__).resolve().parent
MILLION = 1_000_000
WORKERS = 2
THREADS = 2
POSTED = 5
COMMANDED = 20


class Producers:
    """Starts producers on a home, and hands what they noted to an oracle when they are stopped."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._home = home
        self._folder = folder
        self._started = 0
        self._processes: list[Process] = []

    def start(self, *kinds: str, pace: float = 0.01, first: int = 0) -> None:
        """Kinds are http, socket, record (the command) and recorder (the prefork pool)."""
        for kind in kinds:
            self._started += 1
            log = self._folder / f"{self._started}-{kind}.log"
            number = first or self._started * 10 * MILLION
            command = [sys.executable, str(HERE / "producers.py"), kind, str(self._home.folder), str(self._home.port)]
            environment = self._home.environment()
            environment["PYTHONPATH"] = os.pathsep.join(
                [environment.get("PYTHONPATH", ""), str(HERE.parent), str(HERE.parent.parent / "scripts")]
            ).strip(os.pathsep)
            process = Process([*self._home.prefix, *command, str(number), str(log), str(pace)], environment)
            self._processes.append(process)

    def noted(self, what: str) -> int:
        """How many events they have offered, had acknowledged or refused so far."""
        lines = (line.split() for log in self._logs() for line in log.read_text().splitlines(keepends=False))
        return sum(int(words[2]) for words in lines if len(words) > 2 and words[0] == what)

    def wait_for(self, what: str, more: int, timeout: float = 60.0) -> None:
        """Waits until they have noted so many more."""
        wanted, end = self.noted(what) + more, time.monotonic() + timeout
        while self.noted(what) < wanted:
            assert time.monotonic() < end, f"only {self.noted(what)} of {wanted} events {what} within {timeout} s"
            time.sleep(0.01)  # logs tell nobody

    def refusals(self) -> set[str]:
        """What was said to those that were refused."""
        lines = (line.split(maxsplit=3) for log in self._logs() for line in log.read_text().splitlines())
        return {words[3] for words in lines if words and words[0] == "refused"}

    def stop(self) -> None:
        """Ends them when each has its last answer."""
        for process in self._processes:
            process.send(signal.SIGTERM)
        for process in self._processes:
            status = process.wait(60)
            assert status == 0, f"a producer failed: {process}"
        self._processes.clear()

    def kill(self) -> None:
        """In the middle of whatever they do."""
        for process in self._processes:
            process.kill()
            process.close()
        self._processes.clear()

    def tell(self, oracle: Oracle) -> None:
        for log in self._logs():
            oracle.read_log(log)

    def _logs(self) -> Iterator[Path]:
        return self._folder.glob("*.log*")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.close()


# In the process of a producer.

_ending = threading.Event()


class _Log:
    def __init__(self, path: str) -> None:
        self._path = path

    def note(self, what: str, first: int, number: int, *more: object) -> None:
        with open(self._path, "a") as file:
            file.write(" ".join([what, str(first), str(number), *map(str, more)]) + "\n")


def _numbers(first: int, step: int, pace: float) -> Iterator[int]:
    for number in count(first, step):
        if _ending.is_set():
            return
        yield number
        time.sleep(pace)  # the load is a steady one


def by_http(connect: "_Connect", first: int, log: _Log, pace: float) -> None:
    connection = connect()
    for number in _numbers(first, POSTED, pace):
        log.note("offered", number, POSTED)
        body = json.dumps([mint(n) for n in range(number, number + POSTED)])
        try:
            connection.request("POST", "/v1/events", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            told = answer.read()
        except (OSError, HTTPException):  # killed: whether it was recorded is unknown
            connection.close()
            connection = connect()
            continue
        if answer.status == 202:
            log.note("acknowledged", number, POSTED, *(result["id"] for result in json.loads(told)["results"]))
        else:
            log.note("refused", number, POSTED, answer.status)


class _Connect:
    def __init__(self, port: int, path: str = "") -> None:
        self._port, self._path = port, path

    def __call__(self) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        if self._path:
            connection.connect = lambda: self._by_socket(connection)
        return connection

    def _by_socket(self, connection: HTTPConnection) -> None:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(self._path)


def by_command(first: int, log: _Log, pace: float) -> None:
    for number in _numbers(first, COMMANDED, pace):
        log.note("offered", number, COMMANDED)
        lines = "".join(json.dumps(mint(n)) + "\n" for n in range(number, number + COMMANDED))
        command = [str(Path(sys.executable).with_name("mailvane")), "record", "-", "--json"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            assert json.loads(done.stdout)["recorded"] == COMMANDED
            log.note("acknowledged", number, COMMANDED)
        else:
            log.note("refused", number, COMMANDED, done.returncode, done.stderr.strip().replace("\n", " "))


def by_pool(home: str, first: int, path: str, pace: float) -> None:
    """Workers forked after the recorder was made, as a prefork server does; each with threads."""
    from mailvane import Recorder

    recorder = Recorder(home)
    workers: list[int] = []
    for worker in range(WORKERS):
        pid = os.fork()
        if pid:
            workers.append(pid)
            continue
        threading.excepthook = _fail
        with recorder:
            threads: list[threading.Thread] = []
            for thread in range(THREADS):
                place = worker * THREADS + thread
                arguments = (recorder, first + place * MILLION, _Log(f"{path}.{place}"), pace)
                threads.append(threading.Thread(target=_by_recorder, args=arguments))
                threads[-1].start()
            for thread in threads:
                thread.join()
        os._exit(0)
    _ending.wait()
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if any(os.waitpid(pid, 0)[1] for pid in workers):
        sys.exit("a worker failed")


def _fail(what: threading.ExceptHookArgs) -> None:
    traceback.print_exception(what.exc_type, what.exc_value, what.exc_traceback)
    os._exit(1)


def _by_recorder(recorder: object, first: int, log: _Log, pace: float) -> None:
    from mailvane import Event, Recorder
    from mailvane.errors import QueueUnavailable

    assert isinstance(recorder, Recorder)
    for number in _numbers(first, 1, pace):
        log.note("offered", number, 1)
        try:
            event_id = recorder.record(Event(**mint(number)))
        except QueueUnavailable as e:
            log.note("refused", number, 1, str(e).replace("\n", " "))
        else:
            log.note("acknowledged", number, 1, event_id)


def main(kind: str, home: str, port: str, first: str, path: str, pace: str = "0.01") -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: _ending.set())
    match kind:
        case "http":
            by_http(_Connect(int(port)), int(first), _Log(path), float(pace))
        case "socket":
            by_http(_Connect(0, f"{home}/mailvane.sock"), int(first), _Log(path), float(pace))
        case "record":
            by_command(int(first), _Log(path), float(pace))
        case "recorder":
            by_pool(home, int(first), path, float(pace))
        case _:
            sys.exit(f"{kind} is no kind of producer")


if __name__ == "__main__":
    main(*sys.argv[1:])
