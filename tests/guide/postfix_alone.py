"""What test_postfix.py runs on a machine: a message to nobody, and the events that it becomes."""

import json
import subprocess
from pathlib import Path

from guide import postfix
from guide.installed import COMMAND, install

HOME = Path("/var/lib/mailvane")
RETURN_PATH = f"b-news-s7-nobody={postfix.CUSTOMERS}@{postfix.BOUNCES}"
MESSAGE = "From: news@exampledomain.com\nSubject: news\nX-GreenArrow-Click-Tracking-ID: t1\n\nHello\n"


def main() -> None:
    install()
    subprocess.run(["useradd", "--system", "mvhome"], check=True)
    subprocess.run(["install", "-d", "-o", "mvhome", HOME], check=True)
    as_user("init", "--home", str(HOME), "--enable", "bounce_all", "bounce_bad_address")
    postfix.start("mvhome", f"{COMMAND} ingest mail --home {HOME}")
    postfix.send(RETURN_PATH, f"nobody@{postfix.CUSTOMERS}", MESSAGE)
    queue_id = postfix.refused(f"nobody@{postfix.CUSTOMERS}")
    postfix.handed_over(RETURN_PATH)
    events = json.loads(as_user("events", "list", "--home", str(HOME), "--json"))
    shown = [as_user("events", "show", "--home", str(HOME), str(event["id"])) for event in events]
    print(json.dumps({"queue id": queue_id, "events": events, "shown": shown}))


def as_user(*words: str) -> str:
    done = subprocess.run(
        ["setpriv", "--reuid=mvhome", "--regid=mvhome", "--clear-groups", COMMAND, *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
