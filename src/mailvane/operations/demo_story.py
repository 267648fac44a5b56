"""What the demo tells: GreenArrow's guide, on a queue in a file.

Recording is switched on for both sides; mail comes back, people click and leave; the events wait; a configuration says
where they go, and they go. Then what else may be wanted or go wrong.
"""

from mailvane.operations.demo_processes import Child, DemoFailed, command, fails, until
from mailvane.operations.demo_tour import Tour

ENGINE = ("scomp", "bounce_all", "bounce_bad_address", "unsub")
STUDIO = ("studio_click", "studio_open", "studio_unsub", "bounce_all", "bounce_bad_address", "scomp")
MAILS = ("hard_bounce", "soft_bounce", "spam_complaint", "ordinary_mail")
BY_PROGRAMS: tuple[dict[str, str | int], ...] = (
    {"event_type": "engine_unsub", "email": "ann@example.com", "listid": "news"},
    {"event_type": "engine_open", "email": "ann@example.com", "listid": "news"},
    {
        "event_type": "studio_click",
        "email": "bob@example.com",
        "studio_campaign_id": 7,
        "click_url": "https://example.com/",
    },
    {"event_type": "studio_unsub", "email": "bob@example.com", "studio_campaign_id": 7},
    {"event_type": "scomp", "email": "eve@example.com", "studio_campaign_id": 7},
)
ATTEMPT: dict[str, str | int] = {"event_type": "delivery_attempt", "email": "ann@example.com", "status": "success"}
ALL_TO_HOOK = """\
{
  "configuration_mode": "json",

  "use_json_for_http_post": true,

  "event_destinations": [
    {
      "matches": {
        "all": true
      },
      "destination": {
        "type": "http_post",
        "url": "http://127.0.0.1:PORT/notification"
      }
    }
  ]
}
"""
BY_TYPE = """\
{
  "configuration_mode": "json",
  "use_json_for_http_post": true,
  "event_destinations": [
    { "matches": { "event_type": "delivery_attempt" },
      "destination": { "type": "drop_from_queue" } },
    { "matches": { "event_type": ["bounce_all", "bounce_bad_address"] },
      "destination": { "type": "sqlite", "db_dsn": "DATABASE",
        "sql": "INSERT OR IGNORE INTO bounces VALUES (?, ?, ?)",
        "bind_list": ["event_unique_id", "event_type", "email"] } },
    { "matches": { "all": true },
      "destination": { "type": "http_post", "url": "http://127.0.0.1:PORT/notification" } }
  ]
}
"""
CONFIGURATION = "control/event_processor.json"
WAITING = "SELECT id, event_type, email FROM events"
OF_BOUNCES = "SELECT event_type, email FROM bounces"


def play(tour: Tour) -> None:
    """All of it. Raises DemoFailed for what does not happen."""
    run = _home(tour)
    _switch_on(tour)
    waiting = _happen(tour)
    _deliver(tour, waiting)
    _by_type(tour)
    _endpoint_down(tour)
    _stopped(tour, run)
    books = tour.status().books
    tour.line("status", f"{books.recorded} recorded, {books.delivered} delivered, {books.dropped} dropped, "
              f"{books.waiting} waiting", "green")  # fmt: skip


def _home(tour: Tour) -> Child:
    tour.step("1. A home. Its configuration leaves events in the queue, and no type is recorded yet.")
    tour.type("init")
    with (tour.home / "mailvane.conf").open("a") as settings:
        settings.write(f"\nhttp_listen 127.0.0.1:{tour.api_port}\n")
    run = tour.start("run", who="mailvane")
    run.wait_for_line(" ready: ")
    if tour.ingest("spam_complaint"):
        raise DemoFailed("a type that is off was recorded")
    return run


def _switch_on(tour: Tour) -> None:
    tour.step("2. What is recorded: Engine's types by control files, Studio's by a row in a table. Both hold at once.")
    for name in ENGINE:
        path = f"control/record_events.simplemh.{name}"
        tour.write(path, "1\n", f"echo 1 > {path}")
    tour.type("enable", "--studio", *STUDIO)


def _happen(tour: Tour) -> set[int]:
    tour.step("3. Mail comes back; people click, and leave. engine_open was not switched on.")
    found = [i for name in MAILS for i in tour.ingest(name)]
    found += tour.post(*BY_PROGRAMS)
    if len(found) != 8:
        raise DemoFailed(f"{len(found)} events were recorded, not 8")
    tour.step("4. The events wait in the queue's table, on disk.")
    if len(tour.look(tour.home / "queue.db", WAITING)) != len(found):
        raise DemoFailed("not all of them wait")
    return set(found)


def _deliver(tour: Tour, waiting: set[int]) -> None:
    tour.step("5. Where they go. A mistake changes nothing, and is told with its place; without it they are delivered.")
    endpoint = tour.start("listen", "--port", str(tour.endpoint_port), "--json", who="endpoint", json_lines=True)
    endpoint.wait_for_line("listening on")
    right = ALL_TO_HOOK.replace("PORT", str(tour.endpoint_port))
    tour.write(CONFIGURATION, right.replace('"all": true\n', '"all": true,\n'))
    tour.shell("hvmail_event_processor --check-syntax")
    for line in fails(["processor", "--check-syntax"], tour.environment).splitlines():
        tour.line("check", line.replace(f"{tour.home}/", ""), "red")
    if tour.arrived:
        raise DemoFailed("a configuration that does not parse was delivered by")
    tour.write(CONFIGURATION, right, f"vi {CONFIGURATION}")
    tour.shell("hvmail_event_processor --check-syntax")
    said = command(["processor", "--check-syntax"], tour.environment).replace(f"{tour.home}/", "")
    tour.line("check", said.strip(), "green")
    until(lambda: waiting <= tour.arrived, "not all events arrived at the endpoint")
    until(lambda: tour.status().queue.events == 0, "what was delivered was not removed")
    tour.look(tour.home / "queue.db", WAITING)
    tour.line("sqlite3", "(no rows: what is delivered is gone)")


def _by_type(tour: Tour) -> None:
    tour.step("6. By type: delivery attempts are dropped, bounces go into a database, the rest to the endpoint.")
    database = tour.home / "customer.db"
    make = "CREATE TABLE bounces (event TEXT PRIMARY KEY, event_type TEXT, email TEXT)"
    tour.make(database, make)
    rules = BY_TYPE.replace("PORT", str(tour.endpoint_port)).replace("DATABASE", f"sqlite:{database}")
    tour.write(CONFIGURATION, rules)
    attempts = "control/record_events.delivery_attempt.json"
    tour.write(attempts, '{"enabled": true}\n', f"echo '{{\"enabled\": true}}' > {attempts}")
    tour.post(ATTEMPT)
    bounces = tour.ingest("hard_bounce")
    until(lambda: tour.status().queue.events == 0, "the events were not delivered")
    if len(tour.look(database, OF_BOUNCES)) != len(bounces):
        raise DemoFailed("the bounces are not in the database")


def _endpoint_down(tour: Tour) -> None:
    tour.step("7. The endpoint is down, so events wait. It comes back; `events retry` spares us the pause.")
    endpoint = tour.processes.pop()
    endpoint.end()
    waiting = set(tour.ingest("spam_complaint"))
    until(lambda: tour.status().destinations[0].last_error, "no attempt was made")
    report = tour.status()
    tour.line("status", f"{report.queue.events} waits; {report.destinations[0].last_error}", "yellow")
    endpoint = tour.start("listen", "--port", str(tour.endpoint_port), "--json", who="endpoint", json_lines=True)
    endpoint.wait_for_line("listening on")
    tour.type("events", "retry", "--all")
    until(lambda: waiting <= tour.arrived, "the event did not arrive")


def _stopped(tour: Tour, run: Child) -> None:
    tour.step("8. mailvane is stopped: recording goes on, events pile up. It is started again, and they go.")
    tour.processes.remove(run)
    tour.shell("kill %1")
    run.end()
    waiting = {i for _ in range(2) for i in tour.ingest("spam_complaint")}
    tour.look(tour.home / "queue.db", WAITING)
    tour.start("run", who="mailvane").wait_for_line(" ready: ")
    until(lambda: waiting <= tour.arrived, "what was recorded meanwhile did not arrive")
    until(lambda: tour.status().queue.events == 0, "what was delivered was not removed")
