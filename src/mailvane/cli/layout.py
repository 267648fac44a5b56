"""`layout greenarrow`: the files, commands and services that GreenArrow's guide uses."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from mailvane.cli.output import say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.configuration.secrets import resolve_secret
from mailvane.errors import MailvaneError
from mailvane.operations.layout import facts, greenarrow, laying, manifest, places, removing, supervised, users
from mailvane.operations.layout.facts import Facts, Supervisor
from mailvane.operations.layout.laying import Seen, State, at

MACHINE = Path("/")


def _layout(args: argparse.Namespace) -> int:
    root = Path(args.root).absolute()
    if root == MACHINE and os.geteuid() != 0 and not args.dry_run:
        raise MailvaneError("this makes a user and writes where only root may: sudo mailvane layout greenarrow")
    try:
        return _uninstall(args, root) if args.uninstall else _make(args, root)
    except OSError as error:
        raise MailvaneError(f"{error.filename or root}: {error.strerror or error}") from error


def _make(args: argparse.Namespace, root: Path) -> int:
    made = manifest.read(at(root, places.MADE))
    found = _facts(args, root)
    seen = laying.look(greenarrow.items(found), made, root)
    if in_the_way := [s for s in seen if s.state is State.IN_THE_WAY]:
        for one in in_the_way:
            tell(f"{at(root, one.item.path)} {one.why}")
        raise MailvaneError("nothing was changed: move away what is in the way, or name another root by --root")
    new_user = root == MACHINE and not users.is_there()
    if not args.dry_run:
        if new_user:
            users.make()
        laying.lay(seen, made, root, laying.owners() if root == MACHINE else None)
    _tell_made(args, seen, new_user, found)
    return 0


def _facts(args: argparse.Namespace, root: Path) -> Facts:
    supervisor = Supervisor(args.supervisor) if args.supervisor else facts.supervisor()
    if args.postgresql:
        url = resolve_secret(args.postgresql)
        kept = at(root, places.QUEUE_URL)
        if not args.dry_run and not kept.exists():
            from mailvane.operations.layout.database import queue_at  # a driver that not everybody needs

            url = asyncio.run(queue_at(url))
        elif kept.exists():  # with the password that was made
            url = kept.read_text(encoding="utf-8").strip()
        return Facts(facts.our_command(), facts.psql_program(), "", url, supervisor)
    programs = facts.server_programs()
    return Facts(facts.our_command(), facts.psql_program(programs), programs, "", supervisor)


def _tell_made(args: argparse.Namespace, seen: Sequence[Seen], new_user: bool, found: Facts) -> None:
    made = [s.item.path for s in seen if s.state is State.MISSING]
    renewed = [s.item.path for s in seen if s.state is State.OLD]
    kept = [s for s in seen if s.state is State.CHANGED]
    if args.json:
        say_json({"made": made, "renewed": renewed, "kept": [s.item.path for s in kept], "dry_run": args.dry_run})
        return
    would = "would be " if args.dry_run else ""
    if new_user:
        say(f"the user {places.USER} {would}made")
    for path in made if args.dry_run else ():
        say(f"would be made: {path}")
    if not args.dry_run and made:
        say(f"{len(made)} files, folders and links made; {places.MADE} lists them")
    for path in renewed:
        say(f"{would}renewed: {path}")
    for one in kept:
        tell(f"{one.item.path} {one.why}")
    if not made and not renewed:
        return say("all of it is there already; nothing was changed")
    where = (
        f"a database of its own under {places.POSTGRES}"
        if found.private
        else f"the database that {places.QUEUE_URL} names"
    )
    say(f"home: {places.HOME}; queue: PostgreSQL, {where}")
    if args.dry_run:
        return None
    names = " ".join(service.name for service in greenarrow.services(found))
    if found.supervisor is Supervisor.SYSTEMD:
        say(f"start the services: systemctl daemon-reload && systemctl enable --now {names}")
    else:
        say(f"services: {places.SCANNED}; daemontools or runit start them: svscan {places.SCANNED} &")
    return None


def _uninstall(args: argparse.Namespace, root: Path) -> int:
    made = manifest.read(at(root, places.MADE))
    services = [at(root, path) for path in made.folders if Path(path).parent == Path(places.SERVICES)]
    names = [Path(path).name for path in made.files if Path(path).parent == Path(places.UNITS)]

    def end() -> None:
        if root == MACHINE:
            supervised.end(services)
            supervised.end_units(names)

    done = removing.would_remove(made, root) if args.dry_run else removing.remove(made, root, end)
    if args.json:
        say_json({"removed": list(done.gone), "stays": dict(done.stays), "dry_run": args.dry_run})
        return 0
    would = "would be " if args.dry_run else ""
    if not done.gone and not done.stays:
        say("nothing of it is there")
        return 0
    for path in done.gone if args.dry_run else ():
        say(f"would be removed: {path}")
    say(f"{len(done.gone)} files, folders and links {would}removed")
    for path, why in done.stays:
        say(f"stays: {path} {why}")
    if root == MACHINE and users.is_there():
        say(f"stays: the user {places.USER}")
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", default="/", help="lays it out in DIR, for a machine to be")
    parser.add_argument(
        "--postgresql",
        metavar="URL",
        default="",
        help="a PostgreSQL for the queue, in place of one of its own: of the role and database greenarrow, or of an "
        "administrator, who makes them; or @file:PATH, @env:NAME",
    )
    parser.add_argument(
        "--supervisor",
        metavar="NAME",
        choices=[s.value for s in Supervisor],
        default="",
        help="who keeps services up: daemontools (runit, too), or systemd; without it, what is found",
    )
    parser.add_argument("--dry-run", action="store_true", help="says what would be done, and does nothing")
    parser.add_argument(
        "--uninstall", action="store_true", help="takes away what was made; data and changed files stay"
    )


LAYOUT = Spec(
    about="Makes what GreenArrow's guide touches, so that it can be typed as it stands: /var/hvmail with control "
    "files, psql, logs and commands (hvmail_event_processor and greenarrow, also in /usr/local/bin), services in "
    "/service for daemontools or runit, or units for systemd, and the home /var/lib/mailvane. The queue is in "
    "PostgreSQL: an instance of its own that the service hvmail-postgres runs, or the server that --postgresql names. "
    "Services run as the user hvmail, which is made.\n\n"
    "Nothing is overwritten that was not made by it; where something is in the way it changes nothing, says what, and "
    "ends with exit status 1. Done again, it makes what is missing. No type of event is enabled, and events stay in "
    "the queue until event_processor.json says otherwise.",
    examples=[
        ("mailvane layout greenarrow --dry-run", "what it would make"),
        ("mailvane layout greenarrow", "as root"),
        ("mailvane layout greenarrow --postgresql @file:/root/admin.url", "with the queue in a server that is there"),
        ("mailvane layout greenarrow --uninstall", "takes it away"),
    ],
    arguments=_arguments,
    run=_layout,
)
