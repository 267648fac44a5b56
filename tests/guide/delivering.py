"""Step 2 of the guide: its configuration, the check of its syntax, and the delivery."""

from guide.happening import TYPES
from guide.happenings import ENGINE_UNSUB, STUDIO_CLICK
from guide.stage import CONFIGURATION, HOOK_HOST, LOG, Stage, until

COUNT = "SELECT count(*) FROM events;"


def deliver(stage: Stage) -> None:
    """The guide's configuration without a change; each event arrives once, as it was in the table."""
    stage.shell.say("## Step 2: Event Delivery Configuration")
    stage.shell.say("The guide's file without a change, and its check:")
    waiting = stage.look("SELECT id, event_type, email, listid, bounce_code FROM events ORDER BY id")
    stage.configure(stage.guide.configuration)
    said = stage.shell.type(stage.guide.check_syntax)
    assert said == f"{CONFIGURATION}: syntax OK\n", said
    stage.hook.wait_for_requests(len(waiting))
    stage.until_waiting(0)
    stage.shell.say("It has been delivered, and is gone from the table:")
    stage.sql(TYPES)
    requests = list(stage.hook.requests)
    for request in requests:
        said = (request.method, request.path, request.headers["host"], request.headers["content-type"])
        assert said == ("POST", "/notification", HOOK_HOST, "application/json"), said
    arrived = [event for request in requests for event in request.events]
    keys = ("id", "event_type", "email", "listid", "bounce_code")
    found = [[str(event[key] if event[key] is not None else "") for key in keys] for event in arrived]
    assert sorted(found, key=lambda row: int(row[0])) == waiting, f"{found}\nis not\n{waiting}"


def break_it(stage: Stage) -> None:
    """An edit that does not parse is told with its place; the last good configuration goes on."""
    shell, before = stage.shell, len(stage.hook.requests)
    shell.say("## A mistake in the file")
    shell.say("A comma is missing. The check names line and column; the last good configuration goes on:")
    broken = stage.guide.configuration.replace('"json",\n', '"json"\n', 1)
    assert broken != stage.guide.configuration
    stage.configure(broken)
    said = shell.type(stage.guide.check_syntax, status=1)
    line = 1 + broken[: broken.index('"use_json')].count("\n")
    assert f"{CONFIGURATION}:{line}:3: " in said, said
    until(lambda: "the last good one goes on" in LOG.read_text(), LOG.read_text)
    stage.post(ENGINE_UNSUB, STUDIO_CLICK)
    stage.hook.wait_for_requests(before + 2)
    stage.until_waiting(0)
    stage.sql(COUNT)
    shell.say("Mended:")
    stage.configure(stage.guide.configuration)
    shell.type(stage.guide.check_syntax)
