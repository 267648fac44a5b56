"""`mailvane run` and `mailvane processor`, which is `hvmail_event_processor` too."""

import argparse
import logging
from pathlib import Path

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.configuration.home import existing_home
from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.mistakes import render
from mailvane.configuration.settings import SETTINGS_FILE, load_settings
from mailvane.configuration.text import SIZE
from mailvane.errors import MailvaneError
from mailvane.recording.regular import read_regular

PARTS = ("web", "processor", "mail")

log = logging.getLogger("mailvane")


def _run(args: argparse.Namespace) -> int:
    from mailvane.cli.logs import log_to_standard_error
    from mailvane.cli.process import Parts, run_process

    only = {part.strip() for part in str(args.only).split(",")} if args.only is not None else set(PARTS)
    for part in sorted(only - {*PARTS}):
        later = " yet" if part == "studio" else ""
        raise WrongUsage(f"--only: {part!r} is no part{later}; there are {', '.join(PARTS)}")
    settings = load_settings(existing_home(args.home))
    if args.only is not None and "mail" in only and not settings.maildirs:
        raise MailvaneError(
            f"{settings.home / SETTINGS_FILE} names no Maildir to take mail from; add a line: maildir DIR"
        )
    log_to_standard_error()
    if settings.ignored:
        log.info("mailvane.conf: ignored, for not mailvane's: %s", ", ".join(settings.ignored))
    mail = "mail" in only and bool(settings.maildirs)
    command = "mailvane run --only mail" if only == {"mail"} else "mailvane run"
    return run_process(settings, Parts(command, "web" in only, "processor" in only, mail=mail))


def _processor(args: argparse.Namespace) -> int:
    if args.check_syntax:
        if args.once:
            raise WrongUsage("--check-syntax delivers nothing; leave out --once")
        return _check_syntax(args)
    if args.json:
        raise WrongUsage("--json goes with --check-syntax")
    from mailvane.cli.logs import log_to_standard_error
    from mailvane.cli.process import Parts, config_file, run_process

    settings = load_settings(existing_home(args.home))
    config = config_file(args.config) if args.config is not None else None
    log_to_standard_error()
    return run_process(settings, Parts("mailvane processor", web=False, once=args.once), config)


def _check_syntax(args: argparse.Namespace) -> int:
    path = Path(args.config) if args.config is not None else load_settings(existing_home(args.home)).legacy_file
    legacy = read_legacy(read_regular(path, SIZE).data)
    if args.json:
        mistakes = [{"line": m.line, "column": m.column, "message": m.message} for m in sorted(legacy.mistakes)]
        say_json({"file": str(path), "ok": not mistakes, "mistakes": mistakes})
    elif legacy.mistakes:
        tell(render(legacy.mistakes, legacy.text, str(path)))
    else:
        say(f"{path}: syntax OK")
    return 1 if legacy.mistakes else 0


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        metavar="PARTS",
        help="some of these, with commas: web (records), processor (delivers), mail (takes mail from Maildirs)",
    )


def _processor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="one run over what is due, then ends")
    parser.add_argument("--check-syntax", action="store_true", help="looks at the configuration file, delivers nothing")
    parser.add_argument("--config", metavar="FILE", help="this file instead of control/event_processor.json")


RUN = Spec(
    about="Runs everything that is configured, in this process, in the foreground: the HTTP API (http_listen in "
    "mailvane.conf, and the Unix socket mailvane.sock in home), recording, the Event Processor, which delivers by "
    "control/event_processor.json, and taking mail from Maildirs (maildir in mailvane.conf). The configuration of "
    "deliveries is read again when it changes. Logs go to "
    "standard error.\n\n"
    "SIGTERM or Ctrl-C end it within 10 seconds with nothing lost; twice: at once. Only one process at a time "
    "has the queue of a home: a second one is refused with the first one's name. Of those on one queue in PostgreSQL "
    "one delivers; the others record and stand by. A process that takes mail alone (--only mail) has no queue of its "
    "own, and runs beside any other.",
    examples=[
        ("mailvane run --home /var/lib/mailvane", "what a service manager starts"),
        ("mailvane run --only web", "records, and delivers nothing"),
        ("mailvane run --only mail", "takes mail, beside the process that delivers"),
    ],
    arguments=_run_arguments,
    run=_run,
    reports=False,
)
PROCESSOR = Spec(
    about="Delivers events, without listening on TCP (others on this machine record through the Unix socket in "
    "home). Also as hvmail_event_processor, with the same flags.\n\n"
    "--once makes one run over what is due and ends: exit status 0 also if deliveries failed, they wait; 1 if "
    "another process owns the queue, naming it, or if what was delivered cannot be noted, as on a full disk. "
    "--check-syntax looks at --config FILE, else at the file in force: exit status 0 if it is right, else 1, and "
    "each mistake as FILE:LINE:COLUMN: …, with the line and a caret.",
    examples=[
        ("mailvane processor --once", "delivers what is due, as from cron"),
        ("mailvane processor --check-syntax --config new.json", "before it is put in place"),
        ("hvmail_event_processor --check-syntax", "the file in force"),
    ],
    arguments=_processor_arguments,
    run=_processor,
)
