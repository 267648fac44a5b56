"""`mailvane queue salvage`: what can be read of a damaged SQLite queue, in a new one."""

import argparse
import os
from pathlib import Path

import msgspec

from mailvane.cli.output import count, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.configuration.home import existing_home
from mailvane.configuration.places import places_of
from mailvane.configuration.settings import load_settings
from mailvane.errors import QueueOwned
from mailvane.queue.ownership import Lock, describe
from mailvane.queue.salvage import Salvaged, salvage

SHOWN = 20
"""Problems that people are shown; --json has more."""


def _salvage(args: argparse.Namespace) -> int:
    if args.file is not None:  # a copy, somewhere: nobody's queue
        return _tell(args, args.file, salvage(args.file, _output(args, args.file)))
    places = places_of(load_settings(existing_home(args.home)))
    lock = Lock(places.lock, "mailvane queue salvage")
    if not lock.take():
        raise QueueOwned(f"the queue belongs to {describe(lock.holder())}: end that first")
    try:
        return _tell(args, places.database, salvage(places.database, _output(args, places.database)))
    finally:
        lock.release()


def _output(args: argparse.Namespace, old: str) -> str:
    return args.output if args.output is not None else f"{Path(old).with_suffix('')}.salvaged.db"


def _tell(args: argparse.Namespace, old: str, done: Salvaged) -> int:
    new = _output(args, old)
    if args.json:
        say_json({"file": new, **msgspec.to_builtins(done)})
        return 1 if done.wrong else 0
    say(f"{count(done.events, 'event')} copied to {new}")
    for problem in done.wrong[:SHOWN]:
        tell(problem)
    if len(done.wrong) > SHOWN:
        tell(f"and {len(done.wrong) - SHOWN:,} more; --json shows them")
    if not done.wrong:
        say("nothing was wrong, and nothing is missing")
    aside = f"{old}.damaged"
    moves = [f"mv {old} {aside}", *(f"mv {old}-wal {aside}-wal" for _ in [0] if os.path.exists(old + "-wal"))]
    say(f"to go on with it, while nothing runs: {' && '.join([*moves, f'rm -f {old}-shm', f'mv {new} {old}'])}")
    return 1 if done.wrong else 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a queue's file; that of the home if none is given")
    parser.add_argument("--output", metavar="NEW", help="the new queue's file (FILE.salvaged.db)")


SALVAGE = Spec(
    about="Copies what can be read of a damaged SQLite queue into a new file, with the ids as they were; FILE and its "
    "log (FILE-wal) stay as they are. It looks at every page for itself, so that it finds events also where SQLite "
    "gives up, and tells what it could not read. Exit status 0: nothing is missing; 1: something was wrong. What was "
    "delivered shortly before the damage may come again, with the same id.\n\n"
    "Nothing may run meanwhile, and there must be room for two copies.",
    examples=[
        ("mailvane queue salvage", "the queue of the home, into queue.salvaged.db beside it"),
        ("mailvane queue salvage /backup/queue.db --output /tmp/found.db --json", ""),
    ],
    arguments=_arguments,
    run=_salvage,
)
