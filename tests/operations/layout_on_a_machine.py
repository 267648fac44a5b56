"""What test_layout.py runs on a machine with daemontools or runit: lays it out, and looks at what it does.

Its last line says in JSON what was seen.
"""

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MAILVANE = str(Path(sys.executable).with_name("mailvane"))
PSQL = "/var/hvmail/postgres/default/bin/psql"
POSTED = ("hvmail-passenger", "hvmail-studio-worker", "hvmail-event-processor", "hvmail-postgres")
BOUNCE = json.dumps({"event_type": "bounce_all", "email": "user@example.com"})
MAIL = Path(__file__).parents[1] / "data/mta/postfix/pipe-send1-m1-5.1.1.eml"
SECONDS = 60.0


def main(kind: str) -> None:
    if kind == "runit":
        forbid_setpriv()
    before = snapshot()
    run(MAILVANE, "layout", "greenarrow", "--supervisor", "daemontools")
    after = snapshot()
    assert "nothing was changed" in run(MAILVANE, "layout", "greenarrow", "--supervisor", "daemontools")
    assert snapshot() == after
    scan = ["svscan", "/service"] if kind == "daemontools" else ["runsvdir", "/service"]
    supervisor = subprocess.Popen(scan, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(ready, "the API is ready")
    seen: dict[str, object] = {"users": users()}

    run("useradd", "--system", "mvguest")
    seen["guest"] = as_user("mvguest", [PSQL, "-U", "greenarrow", "-c", "SELECT 1"])
    run("sh", "-c", "echo 1 > /var/hvmail/control/record_events.simplemh.bounce_all")
    until(lambda: record() == 1, "a type that was switched on by echo is recorded")
    seen["psql"] = sql("SELECT event_type, email FROM events")
    until(lambda: "mvguest" not in sql("SELECT 1"), "psql")
    seen["switches"] = sql("SELECT count(*) FROM s_system_configs")

    # The service that delivers is down: events are recorded, and wait.
    down("hvmail-event-processor")
    configure('{ "type": "drop_from_queue" }')
    assert record() == 1
    seen["waiting while it is down"] = sql("SELECT count(*) FROM events")
    up("hvmail-event-processor")
    until(lambda: sql("SELECT count(*) FROM events") == "0", "it delivers what waited")

    # Mail is taken, by the service that does it.
    configure('{ "type": "leave_in_queue" }')
    mail = MAIL.read_bytes()
    down("hvmail-studio-worker")
    deliver(mail, "1")
    up("hvmail-studio-worker")
    until(lambda: sql("SELECT count(*) FROM events") != "0", "the mail is taken")
    # The API is down, and only it.
    down("hvmail-passenger")
    until(lambda: not ready(), "the API is down")
    up("hvmail-passenger")
    until(ready, "the API is there again")

    # As the guide has it: restarted, up and ready within its seven seconds.
    began = {name: pid(name) for name in POSTED}
    restart("hvmail-passenger", "hvmail-studio-worker", "hvmail-event-processor")
    until(lambda: all(pid(name) not in (0, began[name]) for name in POSTED[:3]), "three services run anew")
    until(ready, "the API is ready again")
    restart("hvmail-postgres")
    until(lambda: pid("hvmail-postgres") not in (0, began["hvmail-postgres"]), "the database runs anew")
    until(lambda: record() == 1, "events are recorded again")

    current = Path("/var/hvmail/log/event-processor/current")
    until(lambda: "ended" in current.read_text(), "the processor's log")
    seen["log"] = current.read_text().splitlines()[0]
    if kind == "daemontools":
        seen["tai64nlocal"] = run("sh", "-c", f"tail {current} | tai64nlocal").splitlines()[0]
    seen["status"] = run("greenarrow", "events", "status")
    seen["check"] = run("hvmail_event_processor", "--check-syntax")
    doctor = checks()
    seen["doctor"] = [f for f in doctor if f["check"] in {"layout", "service", "psql"}]
    seen["doctor, wrong"] = [f for f in doctor if f["level"] == "wrong"]
    down("hvmail-passenger")
    doctor = checks()
    seen["doctor, one is down"] = [f["found"] for f in doctor if f["check"] == "service" and f["level"] == "wrong"]

    said = run(MAILVANE, "layout", "greenarrow", "--uninstall")
    seen["uninstalled"] = said
    seen["left"] = sorted(snapshot() - before)
    seen["services that are left"] = os.listdir("/service") if Path("/service").exists() else []
    supervisor.terminate()
    supervisor.wait()
    print(json.dumps(seen))


def forbid_setpriv() -> None:
    """As the filter for system calls in systemd's unit does, in which it may not say which capabilities it keeps."""
    program = Path("/usr/local/bin/setpriv")
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)


def snapshot() -> set[str]:
    """Files of the places that are laid out."""
    places = ["/var/hvmail", "/service", "/usr/local/bin", "/var/lib/mailvane", "/etc/systemd/system"]
    return {str(p) for place in places for p in Path(place).rglob("*") if "supervise" not in p.parts}


def run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def as_user(name: str, command: list[str]) -> str:
    user = pwd.getpwnam(name)
    done = subprocess.run(
        command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, text=True, check=False
    )
    return f"{done.returncode} {done.stderr.strip()}"


def users() -> list[str]:
    """Whose the services' processes are."""
    pids = [pid(name) for name in POSTED]
    return sorted({pwd.getpwuid(os.stat(f"/proc/{p}").st_uid).pw_name for p in pids})


def sql(statement: str) -> str:
    return run(PSQL, "-U", "greenarrow", "-A", "-t", "-c", statement)


def ready() -> bool:
    return (
        subprocess.run(["curl", "-sf", "http://127.0.0.1:8425/readyz"], capture_output=True, check=False).returncode
        == 0
    )


def checks() -> list[dict[str, str]]:
    """What doctor says."""
    done = subprocess.run([MAILVANE, "doctor", "--json"], stdout=subprocess.PIPE, check=False)
    return json.loads(done.stdout)["checks"]


def record() -> int:
    done = subprocess.run(
        ["curl", "-s", "-d", BOUNCE, "-H", "Content-Type: application/json", "http://127.0.0.1:8425/v1/events"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return int(json.loads(done.stdout)["recorded"])
    except (ValueError, KeyError):
        return 0


def configure(destination: str) -> None:
    Path("/var/hvmail/control/event_processor.json").write_text(
        '{ "configuration_mode": "json", "use_json_for_http_post": true, "event_destinations": '
        f'[ {{ "matches": {{ "all": true }}, "destination": {destination} }} ] }}'
    )


def deliver(mail: bytes, name: str) -> None:
    """As a mail server does."""
    new = Path("/var/hvmail/mail/tmp") / name
    new.write_bytes(mail)
    owner = pwd.getpwnam("hvmail")
    os.chown(new, owner.pw_uid, owner.pw_gid)
    new.rename(f"/var/hvmail/mail/new/{name}")


def pid(name: str) -> int:
    try:
        return int.from_bytes(Path(f"/service/{name}/supervise/status").read_bytes()[12:16], "little")
    except OSError:
        return 0


def order(letter: str, *names: str) -> None:
    """As `svc` and `sv` do."""
    for name in names:
        with open(f"/service/{name}/supervise/control", "wb", buffering=0) as control:
            control.write(letter.encode())


def down(name: str) -> None:
    order("d", name)
    until(lambda: pid(name) == 0, f"{name} is down")


def up(name: str) -> None:
    order("u", name)
    until(lambda: pid(name) != 0, f"{name} is up")


def restart(*names: str) -> None:
    order("t", *names)


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"not within {SECONDS:g} s: {what}\n{logs()}")
        time.sleep(0.05)  # nobody tells


def logs() -> str:
    return "\n".join(f"{p}: {p.read_text()[-1500:]}" for p in Path("/var/hvmail/log").rglob("current"))
