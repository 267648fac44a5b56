"""Mail goes out and comes back, people unsubscribe, open and click: on both sides, as far as it is switched on."""

import re
from pathlib import Path

from guide import postfix
from guide.happenings import (
    ENGINE_CLICK,
    ENGINE_OPEN,
    ENGINE_UNSUB,
    MESSAGE,
    NOBODY,
    RETURN_PATH,
    STUDIO,
    STUDIO_SUBSCRIBER,
)
from guide.stage import Stage, until
from mailvane.operations.layout.places import MAIL, USER
from support.machine import HOST

MAILS = Path(__file__).parents[1] / "data" / "bounces" / "mails"
PIPED = "arf-21.eml"
COMPLAINTS = {PIPED: "kijitora@example.org", "arf-23.eml": "kijitora@example.com"}
TYPES = "SELECT event_type, count(*) FROM events GROUP BY event_type ORDER BY event_type;"
RECORDED = [
    ("bounce_all", NOBODY),
    ("bounce_bad_address", NOBODY),
    *(("scomp", who) for who in COMPLAINTS.values()),
]


def a_message_bounces(stage: Stage) -> None:
    """By a real Postfix; the queue id that it gave in this run is found again in the events."""
    shell = stage.shell
    shell.say("## What happens: a message bounces")
    shell.say(
        f"Postfix hands what comes back to `mailvane ingest mail -` ({postfix.FOLDER}/master.cf, as README has it). "
        "The server of the recipient's domain refuses: there is no such user."
    )
    shell.type(f"sendmail -i -f {RETURN_PATH} {NOBODY}", given=MESSAGE)
    queue_id = postfix.refused(NOBODY)
    postfix.handed_over(RETURN_PATH)
    assert stage.waiting() == [("bounce_all", NOBODY), ("bounce_bad_address", NOBODY)], stage.waiting()
    shell.say("Both events name the message by the queue id that Postfix gave it:")
    shell.type(f"grep status=bounced {postfix.LOG}", varies=True)
    for event_id, email in stage.look("SELECT id, email FROM events ORDER BY id"):
        assert email == NOBODY
        shown = shell.type(f"mailvane events show {event_id}", varies=True)
        assert re.search(rf"^msguid +{queue_id}$", shown, re.MULTILINE), f"{queue_id} is not in\n{shown}"
        assert re.search(rf"^server_id +{re.escape(HOST)}$", shown, re.MULTILINE), shown


def people_complain(stage: Stage) -> None:
    """By both doors for mail: the command, and the Maildir that one of the restarted services looks at."""
    shell = stage.shell
    shell.say("## Readers call it spam")
    shell.say("Feedback reports that providers sent. One is handed in by a pipe, as mail servers do it:")
    for name, who in COMPLAINTS.items():
        Path("/tmp", name).write_bytes((MAILS / name).read_bytes())
        if name == PIPED:
            shell.type(f"mailvane ingest mail - < /tmp/{name}")
        else:
            shell.say("One is delivered into the Maildir that `hvmail-studio-worker` takes mail from:")
            shell.type(f"install -o {USER} /tmp/{name} {MAIL}/tmp/1")
            shell.type(f"mv {MAIL}/tmp/1 {MAIL}/new/")
        until(lambda who=who: stage.waiting()[-1] == ("scomp", who), lambda: f"{stage.waiting()}")
    assert not list(Path(MAIL, "new").iterdir())


def people_unsubscribe_open_and_click(stage: Stage) -> None:
    stage.shell.say("## People unsubscribe, open and click")
    stage.shell.say("Engine's opens and clicks are not switched on: they do not come.")
    said = stage.post(ENGINE_UNSUB, ENGINE_OPEN, ENGINE_CLICK)
    assert [result.get("disabled") for result in said["results"]] == [None, "engine_open", "engine_click"], said
    stage.shell.say("Studio's are; that a subscriber was created is not.")
    said = stage.post(*STUDIO, STUDIO_SUBSCRIBER)
    expected = [*[None for _ in STUDIO], "studio_subscriber_created"]
    assert [result.get("disabled") for result in said["results"]] == expected, said


def all_of_it_waits(stage: Stage) -> None:
    stage.shell.say("## All of it waits")
    stage.shell.say("The configuration of an installation leaves events in the queue.")
    expected = [*RECORDED, *((e["event_type"], e["email"]) for e in (ENGINE_UNSUB, *STUDIO))]
    assert stage.waiting() == expected, stage.waiting()
    stage.sql(TYPES)
    stage.shell.type("greenarrow events status", varies=True)
    assert stage.hook.requests == []
