"""The guide, typed on a machine of its own: what test_guide.py runs. Its last line is the session, in JSON."""

import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

from guide import delivering, examples, happening, operating, postfix, recording
from guide.installed import COMMAND, install
from guide.shell import Shell
from guide.stage import HOOK_HOST, Stage, asked, ready, until
from guide.text import guide
from mailvane.operations.layout.places import HOME, USER
from support.certificates import Authority
from support.endpoint import Endpoint


def main() -> None:
    certificates = Path("/etc/own-certificates")
    certificates.mkdir()
    authority = Authority(certificates)
    install()
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {HOOK_HOST} {examples.DATABASE_HOST}\n")
    with Shell() as shell, Endpoint(certificate=authority.good((HOOK_HOST,)), port=443) as hook:
        stage = Stage(shell, guide(), hook)
        play(stage, authority.file)
        print(json.dumps({"session": [asdict(step) for step in shell.transcript], "of": of()}))


def of() -> str:
    """Which run this is, and on what."""
    postgresql = asked("/var/hvmail/postgres/default/bin/psql", "--version").split()[2]
    mail = asked("postconf", "-h", "mail_version").strip()
    return (
        f"The run: {time.strftime('%Y-%m-%d %H:%M')}, PostgreSQL {postgresql}, Postfix {mail}, daemontools, "
        f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}."
    )


def play(stage: Stage, authority: Path) -> None:
    set_up(stage, authority)
    recording.nothing_is_enabled(stage)
    recording.enable(stage)
    happening.a_message_bounces(stage)
    happening.people_complain(stage)
    happening.people_unsubscribe_open_and_click(stage)
    happening.all_of_it_waits(stage)
    delivering.deliver(stage)
    delivering.break_it(stage)
    examples.all_events_to_a_hook(stage)
    examples.one_type_to_a_hook(stage)
    examples.bounces_into_mysql(stage)
    examples.delivery_attempts_are_dropped(stage)
    stage.configure(stage.guide.configuration)
    operating.look_at_the_log(stage)
    operating.stop_the_processor(stage)
    operating.ask_the_doctor(stage)


def set_up(stage: Stage, authority: Path) -> None:
    """The machine: the guide's files and services, and a mail server whose reports come to us."""
    shell = stage.shell
    shell.say("## A machine that has mailvane")
    shell.say("PostgreSQL, daemontools and Postfix are installed. What the guide touches is made by one command:")
    shell.type("mailvane layout greenarrow", varies=True)
    shell.say(
        f"Name resolution leads `{HOOK_HOST}` to an endpoint on this machine, with a certificate of an authority "
        "that is not known elsewhere:"
    )
    shell.type(f"echo 'tls_ca_file {authority}' >> {HOME}/mailvane.conf")
    shell.say("The services are started:")
    shell.type("svscan /service > /dev/null 2>&1 &")
    postfix.start(USER, f"{COMMAND} ingest mail")
    until(ready, lambda: "the API takes events")


if __name__ == "__main__":
    main()
