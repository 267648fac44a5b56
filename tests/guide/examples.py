"""The guide's other examples of event destinations, each run: some types to a hook, some into MySQL, some dropped."""

import json
from pathlib import Path
from typing import Any

from guide.delivering import COUNT
from guide.happening import TYPES
from guide.happenings import (
    ATTEMPT,
    ENGINE_BAD_ADDRESS,
    ENGINE_BOUNCE,
    ENGINE_COMPLAINT,
    ENGINE_UNSUB,
    STUDIO_BAD_ADDRESS,
    STUDIO_BOUNCE,
)
from guide.stage import Stage
from support.mariadb import PASSWORD, USER, MariaDB
from support.tools import tool

DATABASE = "customer"
DATABASE_HOST = "db.example.com"
"""As `mailvane config sql-table` prints it: name resolution leads it to this machine."""
PASSWORD_FILE = Path("/etc/mailvane/db-password")
HOOK = {"type": "http_post", "url": "https://my-hook-server.exampledomain.com/notification"}
BOUNCES = ("bounce_all", "bounce_bad_address")
ROWS = "SELECT event_type, email, bounce_type, bounce_code FROM event_queue ORDER BY id"


def all_events_to_a_hook(stage: Stage) -> None:
    stage.shell.say("## The guide's other examples")
    stage.shell.say("*Deliver all events to an HTTP POST hook* is the file that is in force: one of each side.")
    before = len(stage.hook.requests)
    stage.post(ENGINE_UNSUB, STUDIO_BOUNCE)
    _arrive(stage, before, "engine_unsub", "bounce_all")


def one_type_to_a_hook(stage: Stage) -> None:
    stage.shell.say("*Deliver events of type bounce_all to an HTTP POST hook*; the rest stays in the queue:")
    before = len(stage.hook.requests)
    _configure(stage, ({"event_type": "bounce_all"}, HOOK), ({"all": True}, {"type": "leave_in_queue"}))
    stage.post(ENGINE_BOUNCE, ENGINE_BAD_ADDRESS, ENGINE_COMPLAINT)
    _arrive(stage, before, "bounce_all")
    stage.until_waiting(2)
    stage.sql(TYPES)
    assert [kind for kind, _ in stage.waiting()] == ["bounce_bad_address", "scomp"]


def bounces_into_mysql(stage: Stage) -> None:
    Path("/usr/local/bin/mysql").symlink_to(tool("mysql"))
    Path("/run/mysqld").mkdir()
    with MariaDB(port=3306) as mariadb:
        Path("/run/mysqld/mysqld.sock").symlink_to(mariadb.socket)
        mariadb.query(f"CREATE DATABASE {DATABASE}")
        mariadb.query(f"GRANT ALL ON {DATABASE}.* TO {USER}")
        _bounces_into(mariadb, stage)


def _bounces_into(mariadb: MariaDB, stage: Stage) -> None:
    shell, before = stage.shell, len(stage.hook.requests)
    shell.say(
        "*Deliver events of types bounce_all and bounce_bad_address to a MySQL database by running an SQL query*: "
        "into the table, and by the statement, that mailvane prints. What has waited goes, too:"
    )
    destination = _printed_destination(shell.type("mailvane config sql-table mysql | tee /tmp/table.sql"))
    shell.type(f"mysql {DATABASE} < /tmp/table.sql")
    _configure(stage, ({"event_type": BOUNCES}, destination), ({"all": True}, {"type": "leave_in_queue"}))
    stage.until_waiting(1)
    stage.post(STUDIO_BOUNCE, STUDIO_BAD_ADDRESS)
    stage.until_waiting(1)
    shell.type(f'mysql {DATABASE} --table -e "{ROWS}"')
    expected = [
        (event["event_type"], event["email"], "h", 10)
        for event in (ENGINE_BAD_ADDRESS, STUDIO_BOUNCE, STUDIO_BAD_ADDRESS)
    ]
    assert mariadb.query(ROWS, url=mariadb.url_of(DATABASE)) == expected
    assert [kind for kind, _ in stage.waiting()] == ["scomp"]
    assert len(stage.hook.requests) == before


def delivery_attempts_are_dropped(stage: Stage) -> None:
    shell, before = stage.shell, len(stage.hook.requests)
    shell.say("*Drop all events of type delivery_attempt*. They are off, until their own control file says otherwise:")
    assert stage.post(ATTEMPT)["disabled"] == 1
    shell.type("echo '{\"enabled\": true}' > record_events.delivery_attempt.json")
    assert stage.post(ATTEMPT)["recorded"] == 1
    stage.sql(TYPES)
    assert [kind for kind, _ in stage.waiting()] == ["scomp", "delivery_attempt"]
    shell.say("What had waited as well goes to the hook:")
    _configure(stage, ({"event_type": "delivery_attempt"}, {"type": "drop_from_queue"}), ({"all": True}, HOOK))
    _arrive(stage, before, "scomp")
    stage.post(ATTEMPT, ENGINE_UNSUB, ATTEMPT)
    _arrive(stage, before, "scomp", "engine_unsub")
    stage.until_waiting(0)
    stage.sql(COUNT)
    said = shell.type("greenarrow events status", varies=True)
    assert " 3 dropped" in said, said
    shell.type("rm record_events.delivery_attempt.json")


def _configure(stage: Stage, *destinations: tuple[dict[str, Any], dict[str, Any]]) -> None:
    rules = [{"matches": matches, "destination": destination} for matches, destination in destinations]
    text = json.dumps({"use_json_for_http_post": True, "event_destinations": rules}, indent=2)
    stage.configure(f"{text}\n")
    stage.shell.type(stage.guide.check_syntax)


def _printed_destination(table: str) -> dict[str, Any]:
    """The object in what `config sql-table` prints; user, password and host as they stand there."""
    text = "\n".join(line.removeprefix("--") for line in table.splitlines() if line.startswith("--"))
    found: dict[str, Any] = json.loads(text[text.index("{") :])
    said = (found["db_dsn"], found["db_username"], found["db_password"])
    assert said == (f"mysql://{DATABASE_HOST}/{DATABASE}", USER, f"@file:{PASSWORD_FILE}"), said
    PASSWORD_FILE.parent.mkdir(exist_ok=True)
    PASSWORD_FILE.write_text(PASSWORD)
    return found


def _arrive(stage: Stage, before: int, *types: str) -> None:
    """These types, and no others, have come since then, in whatever order."""
    requests = stage.hook.wait_for_requests(before + len(types))[before:]
    came = sorted(event["event_type"] for request in requests for event in request.events)
    assert came == sorted(types), came
