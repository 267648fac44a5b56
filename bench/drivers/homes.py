"""Homes for the drivers: made, filled and pointed somewhere, by mailvane's own means."""

import json
import sys
from pathlib import Path

from mailvane import Event, Recorder
from mailvane.configuration.home import init

TYPES = ("bounce_all", "scomp", "unsub")
COMMAND = Path(sys.executable).with_name("mailvane")
"""The command that is measured: the one beside this Python."""


def event(number: int) -> Event:
    """An event whose delivered body has about 915 bytes."""
    return Event(
        event_type="bounce_all",
        event_time=1_790_000_000 + number,
        email=f"user{number}@example.com",
        listid="a1",
        sendid="s1",
        click_tracking_id=f"ct-{number}",
        bounce_type="h",
        bounce_code=10,
        bounce_text="550 5.1.1 " + "x" * 300,
    )


def make(home: Path, conf: str = "") -> Path:
    """A home in which bounces are recorded and left in the queue."""
    init(home)
    for switch in TYPES:
        (home / "control" / f"record_events.simplemh.{switch}").write_text("1\n")
    with open(home / "mailvane.conf", "a") as file:
        file.write(f"\nhttp_listen 127.0.0.1:0\n{conf}\n")
    return home


def fill(home: Path, count: int) -> None:
    """Records so many events."""
    with Recorder(home) as recorder:
        for at in range(0, count, 1_000):
            recorder.record_many([event(at + i) for i in range(min(1_000, count - at))])


def rule(url: str, matches: dict[str, object] | None = None) -> dict[str, object]:
    return {"matches": matches or {"all": True}, "destination": {"type": "http_post", "url": url}}


def point(home: Path, *rules: dict[str, object]) -> None:
    """Writes the legacy configuration."""
    file = home / "control" / "event_processor.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"use_json_for_http_post": True, "event_destinations": list(rules)}))
    new.replace(file)


def log_to(home: Path, log: Path) -> None:
    """Writes a legacy configuration of a log file alone."""
    file = home / "control" / "event_processor.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"logfile": {"filename": str(log)}}))
    new.replace(file)
