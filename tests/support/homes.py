"""A home of mailvane's as a user makes and uses it: by its commands, its control files and its HTTP API."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.ports import free_port
from support.processes import Process

COMMAND = Path(sys.executable).parent / "mailvane"
READY_SECONDS = 30.0

Json = Any


def rule(kind: str = "http_post", matches: Mapping[str, Json] | None = None, **destination: Json) -> dict[str, Json]:
    """One of the event destinations of a legacy configuration; matches everything unless told otherwise."""
    return {"matches": dict(matches or {"all": True}), "destination": {"type": kind, **destination}}


def legacy(*rules: Mapping[str, Json], use_json: bool = True) -> dict[str, Json]:
    """A legacy configuration (event_processor.json) of these rules."""
    return {
        "configuration_mode": "json",
        "use_json_for_http_post": use_json,
        "event_destinations": [dict(each) for each in rules],
    }


def posts_to(url: str, **destination: Json) -> dict[str, Json]:
    """The guide's configuration: every event as JSON to one address."""
    return legacy(rule("http_post", url=url, **destination))


LEAVES = legacy(rule("leave_in_queue"))
DROPS = legacy(rule("drop_from_queue"))


def bounce(number: int, event_type: str = "bounce_all", **fields: Json) -> dict[str, Json]:
    """An event to record, told from others by its number."""
    event: dict[str, Json] = {
        "event_type": event_type,
        "event_time": 1_790_000_000 + number,
        "email": f"user{number}@example.com",
        "listid": "a1",
        "sendid": "s1",
        "click_tracking_id": f"ct-{number}",
        "bounce_type": "h",
        "bounce_code": 10,
        "bounce_text": "550 5.1.1 user unknown",
    }
    return {**event, **fields}


@dataclass(frozen=True)
class Reply:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)


class Home:
    """A home in `folder`/h (short: a Unix socket's path has at most 107 bytes), made by `mailvane init`.

    `queue` is the URL of one in PostgreSQL; else there is a queue in SQLite. Every command runs with `prefix` before it
    (strace, or the namespace of a Tmpfs); `seen` is where the test finds `folder` if that is not the same place.
    `close` ends all that was started.
    """

    def __init__(
        self,
        folder: Path,
        *,
        legacy: Mapping[str, Json] | str | None = None,
        enable: Iterable[str] = (),
        conf: str = "",
        queue: str = "",
        prefix: Sequence[str] = (),
        seen: Path | None = None,
    ) -> None:
        self.folder = folder / "h"
        self.seen = (seen or folder) / "h"
        self.port = free_port()
        self.prefix = tuple(prefix)
        self.queue = queue
        self.processes: list[Process] = []
        self.mailvane("init")
        named = f'queue "{queue}"\n' if queue else ""
        self.configure(f"http_listen 127.0.0.1:{self.port}\n{named}{conf}")
        if legacy is not None:
            self.write_legacy(legacy)
        for event_type in enable:
            self.switch(event_type)

    # Files, as an operator edits them

    def configure(self, directives: str) -> None:
        """Appends to mailvane.conf."""
        with (self.seen / "mailvane.conf").open("a") as file:
            file.write(f"\n{directives}\n")

    @property
    def legacy_file(self) -> Path:
        return self.seen / "control" / "event_processor.json"

    def write_legacy(self, document: Mapping[str, Json] | str) -> None:
        """Replaces event_processor.json in one step, as a careful editor does."""
        new = self.legacy_file.with_suffix(".new")
        new.write_text(document if isinstance(document, str) else json.dumps(document, indent=2))
        new.replace(self.legacy_file)

    def switch(self, event_type: str, content: str = "1\n") -> None:
        """Writes the control file of a type; `echo 1 > control/record_events.simplemh.TYPE`."""
        (self.seen / "control" / f"record_events.simplemh.{event_type}").write_text(content)

    # Commands

    def environment(self) -> dict[str, str]:
        return {**os.environ, "MAILVANE_HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}

    def mailvane(
        self,
        *arguments: str,
        input: str | bytes = b"",
        check: bool = True,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end. Fails the test on an exit status other than 0 unless check=False."""
        result = subprocess.run(
            [*self.prefix, *_command(), *arguments],
            input=input.encode() if isinstance(input, str) else input,
            env=self.environment(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        out, error = result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")
        if check and result.returncode:
            raise AssertionError(
                f"mailvane {' '.join(arguments)}: exit status {result.returncode}\n{error[-2000:]}{out[-2000:]}"
            )
        return subprocess.CompletedProcess(result.args, result.returncode, out, error)

    def json(self, *arguments: str, input: str | bytes = b"", check: bool = True) -> Json:
        """What a command prints with --json (which this adds)."""
        result = self.mailvane(*arguments, "--json", input=input, check=check)
        try:
            return json.loads(result.stdout)
        except ValueError:
            raise AssertionError(
                f"mailvane {' '.join(arguments)} --json printed no JSON (exit status {result.returncode}):"
                f" {result.stdout[-1000:]!r} {result.stderr[-1000:]!r}"
            ) from None

    def record(self, events: Iterable[Mapping[str, Json]], check: bool = True) -> Json:
        """`mailvane record -`: {"recorded": n, "disabled": n, "rejected": n}."""
        return self.json("record", "-", input="".join(json.dumps(event) + "\n" for event in events), check=check)

    def waiting(self) -> list[dict[str, Json]]:
        """`mailvane events list --all`: every event in the queue, in the order of their ids."""
        return self.json("events", "list", "--all")

    # Processes

    def start(self, *arguments: str, prefix: Sequence[str] = ()) -> Process:
        """Starts a command and does not wait for anything."""
        process = Process([*self.prefix, *prefix, *_command(), *arguments], self.environment())
        self.processes.append(process)
        return process

    def run(self, *arguments: str, prefix: Sequence[str] = ()) -> Process:
        """Starts `mailvane run` and waits until it takes events (/readyz)."""
        process = self.start("run", *arguments, prefix=prefix)
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            try:
                if self.get("/readyz").status == 200:
                    return process
            except OSError:
                pass
            if process.exit_status() is not None:
                break
            try:
                process.wait(0.02)
            except AssertionError:  # runs on, which is well
                continue
        raise AssertionError(f"did not get ready: {process}")

    # The API

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        by_socket: bool = False,
        timeout: float = 30.0,
    ) -> Reply:
        """One request on a connection of its own, by TCP or by the Unix socket in home. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if by_socket:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(timeout)
        try:
            if by_socket:
                connection.sock.connect(str(self.seen / "mailvane.sock"))
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except http.client.HTTPException as cut:  # the server was killed in the middle of its answer
            raise ConnectionError(f"{method} {path}: {cut!r}") from cut
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Reply:
        return self.request("GET", path, **options)

    def post(self, path: str, document: Json, **options: Any) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("POST", path, body, {"content-type": "application/json"}, **options)

    def post_events(self, events: Sequence[Mapping[str, Json]]) -> Reply:
        """POST /v1/events; 202 when all is on disk."""
        return self.post("/v1/events", [dict(event) for event in events])

    def status(self) -> Json:
        """The status of the process that runs (GET /v1/status)."""
        return self.get("/v1/status").json

    def wait_for_status(self, predicate: Callable[[Json], bool], timeout: float = 30.0) -> Json:
        """Asks the running process for its status until the predicate holds of it."""
        end = time.monotonic() + timeout
        while True:
            status = self.status()
            if predicate(status):
                return status
            if time.monotonic() > end:
                raise AssertionError(f"not so within {timeout} s: {json.dumps(status, indent=1)}")
            time.sleep(0.01)  # the status is not pushed

    def wait_until_empty(self, timeout: float = 30.0) -> Json:
        return self.wait_for_status(lambda status: status["queue"]["events"] == 0, timeout)

    def close(self) -> None:
        for process in self.processes:
            process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _command() -> list[str]:
    if not COMMAND.exists():
        raise AssertionError(f"{COMMAND} is missing: `make install` first")
    return [str(COMMAND)]
