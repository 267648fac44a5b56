"""Where the story is played: the machine's shell, the guide, and the endpoint that its configuration names."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from guide.shell import Shell
from guide.text import Guide
from support.endpoint import Endpoint

LOG = Path("/var/hvmail/log/event-processor/current")
CONFIGURATION = "/var/hvmail/control/event_processor.json"
HOOK_HOST = "my-hook-server.exampledomain.com"
API = "http://127.0.0.1:8425"
POST = f"curl -sS --fail-with-body -H 'Content-Type: application/x-ndjson' --data-binary @- {API}/v1/events"
SECONDS = 30.0

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    shell: Shell
    guide: Guide
    hook: Endpoint

    def sql(self, statement: str) -> str:
        """Types a statement into the guide's psql; what is printed."""
        return self.shell.type(self.guide.psql, given=f"{statement}\n")

    def post(self, *events: Json) -> Json:
        """Types events into the API; what it answers."""
        lines = "".join(f"{json.dumps(event)}\n" for event in events)
        return json.loads(self.shell.type(POST, given=lines))

    def configure(self, text: str) -> None:
        """Types a configuration into its file."""
        self.shell.type(f"cat > {CONFIGURATION}", given=text)

    # Not part of the transcript

    def offer(self, *events: Json) -> Json:
        """What the API answers to events, told as `post` tells it."""
        lines = "".join(f"{json.dumps(event)}\n" for event in events).encode()
        request = Request(f"{API}/v1/events", lines, {"Content-Type": "application/x-ndjson"})
        with urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    def look(self, statement: str) -> list[list[str]]:
        """The rows that a query gives, columns as text."""
        printed = asked(*self.guide.psql.split(), "--no-psqlrc", "--csv", "--tuples-only", "-c", statement)
        return [line.split(",") for line in printed.splitlines()]

    def waiting(self) -> list[tuple[str, str]]:
        """Type and address of each event in the queue's table, in the order of their ids."""
        return [(kind, email) for kind, email in self.look("SELECT event_type, email FROM events ORDER BY id")]

    def until_waiting(self, count: int) -> None:
        until(lambda: len(self.waiting()) == count, lambda: f"{count} events wait; there are {self.waiting()}")


def asked(*command: str) -> str:
    """What a command prints. Raises subprocess.CalledProcessError."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout


def ready() -> bool:
    """Whether the API takes events now."""
    return subprocess.run(["curl", "-sf", f"{API}/readyz"], capture_output=True, check=False).returncode == 0


def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    """Waits for what nobody tells of. Raises AssertionError."""
    end = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {SECONDS:g} s: {what()}")
        time.sleep(0.05)
