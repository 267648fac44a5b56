"""`init`: makes a home, and on demand says at once what is recorded and where it goes."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mailvane.cli.border import WrongUsage
from mailvane.cli.output import say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.configuration.directive_values import queue_in
from mailvane.configuration.home import Initialized, find_home, init
from mailvane.configuration.secrets import SecretMissing, is_reference
from mailvane.configuration.settings import SETTINGS_FILE, load_settings
from mailvane.errors import MailvaneError
from mailvane.recording.switching import enable, meant, switched_type


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--queue",
        metavar="URL",
        default="",
        help="where events wait: sqlite:FILE (sqlite:queue.db), postgresql://USER@HOST/DATABASE, or @file:PATH, "
        "@env:NAME with such a URL",
    )
    parser.add_argument("--schema", metavar="NAME", default="", help="of the PostgreSQL database (public)")
    parser.add_argument(
        "--enable", nargs="+", metavar="TYPE", default=[], help="types of events to record, as `mailvane enable` does"
    )
    parser.add_argument(
        "--post-to", metavar="URL", default="", help="an endpoint that gets every event, in place of leaving them"
    )


def _init(args: argparse.Namespace) -> int:
    home = find_home(args.home)
    url = _with_schema(args.queue, args.schema)
    types = [switched_type(name) for name in meant(args.enable)]
    warnings = [] if not url or (home / SETTINGS_FILE).exists() else _looked_at(url, home)
    done = init(home, url, args.post_to)
    if types:
        directory = load_settings(done.home).control_directory
        for name in types:
            enable(directory, name)
    if args.json:
        say_json({"home": str(done.home), "made": done.made, "enabled": types})
    else:
        _tell(done, types)
    for warning in warnings:
        tell(warning)
    return 0


def _tell(done: Initialized, types: Sequence[str]) -> None:
    say(f"made the home {done.home}" if done.made else f"{done.home} is a home already")
    if types:
        say(f"recorded from now on: {', '.join(types)}")
    elif done.made:
        say("nothing is recorded yet. To record bounces:")
        say(f"  mailvane enable bounce_all bounce_bad_address --home {done.home}")
    else:
        say("nothing was changed")


def _with_schema(url: str, schema: str) -> str:
    if not schema:
        return url
    if not url.startswith(("postgresql:", "postgres:")):
        raise WrongUsage("--schema goes with --queue postgresql://…; where a reference leads, write ?schema=NAME there")
    if "schema=" in url.partition("?")[2]:
        raise WrongUsage("--schema: --queue has a schema in it already")
    return f"{url}{'&' if '?' in url else '?'}schema={schema}"


def _looked_at(url: str, home: Path) -> list[str]:
    """What a person should know of the queue before it is used. Raises MailvaneError if it cannot be one."""
    place = queue_in(url, home.absolute(), lambda why: MailvaneError(f"--queue: {why}"))
    if isinstance(place, Path):
        return []
    from mailvane.queue.postgresql import Disconnected, look_at_postgresql  # only now: the driver takes long to load

    warnings: list[str] = []
    if not is_reference(url) and ":" in urlsplit(url).netloc.rpartition("@")[0]:
        warnings.append(
            f"the password stands in {home / SETTINGS_FILE}; to have it elsewhere, put the whole URL into a file that "
            "only mailvane's user may read, and write there: queue @file:PATH"
        )
    try:
        asyncio.run(look_at_postgresql(place.read(), "mailvane init"))
    except (Disconnected, SecretMissing) as error:
        warnings.append(f"the queue could not be looked at, which is done when it is first used: {error}")
    return warnings


INIT = Spec(
    about="Makes a home: mailvane.conf (every directive as a comment), control/ with an event_processor.json that "
    "leaves events in the queue, and no type of event enabled, unless --enable and --post-to say so. The queue itself "
    "(a file, or tables in a PostgreSQL database, which must be encoded in UTF8 and have nothing of the same names) "
    "comes with the first event. A folder that is a home already stays as it is.",
    examples=[
        ("mailvane init --home /var/lib/mailvane", "a home for this machine"),
        ("mailvane init --queue postgresql://mailvane@db.example.com/mailvane", "with the queue in PostgreSQL"),
        (
            "mailvane init --enable bounce_all scomp --post-to http://localhost:3000/notification",
            "records two types, and posts every event there",
        ),
        ("mailvane init", "a home in ./mailvane-home, to try things"),
    ],
    arguments=_init_arguments,
    run=_init,
)
