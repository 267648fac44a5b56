"""What the guide leaves to other pages: the processor's logs, and stopping it for a while."""

import re

from guide.delivering import COUNT
from guide.happenings import ENGINE_UNSUB, STUDIO_CLICK
from guide.stage import LOG, Stage, asked, until

PROCESSOR = "/service/hvmail-event-processor"


def look_at_the_log(stage: Stage) -> None:
    stage.shell.say("## The processor's log")
    said = stage.shell.type(f"tail -n 5 {LOG} | tai64nlocal", varies=True)
    lines = said.splitlines()
    assert lines, "the log is empty"
    timed_once = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} [a-z]+: ")
    assert [line for line in lines if not timed_once.match(line)] == [], said


def stop_the_processor(stage: Stage) -> None:
    """Recording goes on without it; when it is back, what has piled up goes."""
    shell, before = stage.shell, len(stage.hook.requests)
    shell.say("## The processor is stopped for a while")
    shell.type(f"svc -d {PROCESSOR}")
    until(lambda: ": down " in asked("svstat", PROCESSOR), lambda: f"{PROCESSOR} is down")
    shell.type(f"svstat {PROCESSOR}", varies=True)
    shell.say("Recording goes on, and events pile up:")
    stage.post(ENGINE_UNSUB, STUDIO_CLICK)
    stage.post(STUDIO_CLICK)
    stage.sql(COUNT)
    assert len(stage.waiting()) == 3 and len(stage.hook.requests) == before
    shell.say("It is started again, and they go:")
    shell.type(f"svc -u {PROCESSOR}")
    stage.hook.wait_for_requests(before + 3)
    stage.until_waiting(0)
    stage.sql(COUNT)


def ask_the_doctor(stage: Stage) -> None:
    stage.shell.say("## The doctor finds nothing wrong")
    said = stage.shell.type("mailvane doctor | tail -n 1")
    assert said == "all is well\n", asked("mailvane", "doctor")
