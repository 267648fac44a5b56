"""What GreenArrow's guide touches, as data. Pure: the machine's facts in, items out.

In the order in which they are made: a supervisor finds a service only when all of it is there.
"""

from dataclasses import dataclass

from mailvane.configuration.directives import commented_file
from mailvane.configuration.home import LEAVE_ALL
from mailvane.operations.layout import scripts, units
from mailvane.operations.layout.facts import Facts, Supervisor
from mailvane.operations.layout.items import File, Folder, Item, Link, Owner
from mailvane.operations.layout.places import (
    BIN,
    COMMANDS,
    CONTROL,
    DATABASE,
    HOME,
    HVMAIL,
    LOG,
    MAIL,
    POSTGRES,
    PRIVATE_QUEUE,
    PSQL,
    QUEUE_URL,
    SCANNED,
    SERVE,
    SERVICES,
    SOCKETS,
    UNITS,
)


@dataclass(frozen=True)
class Service:
    """A process that a supervisor keeps up: what it is called there and in its log, and the words of its command."""

    name: str
    log: str
    about: str
    command: tuple[str, ...]


def services(facts: Facts) -> list[Service]:
    """Those of the guide, and the database where it is ours."""
    mailvane = facts.mailvane
    found = [
        Service("hvmail-passenger", "passenger", "the API", (*mailvane, "run", "--only", "web")),
        Service("hvmail-studio-worker", "studio-worker", "takes mail", (*mailvane, "run", "--only", "mail")),
        Service("hvmail-event-processor", "event-processor", "delivers events", (*mailvane, "processor")),
    ]
    if facts.private:
        found.insert(0, Service("hvmail-postgres", "postgres", "the queue's database", (SERVE,)))
    return found


def items(facts: Facts) -> list[Item]:
    """All of it."""
    return [*_home(facts), *_hvmail(facts), *_database(facts), *_commands(facts), *_services(facts)]


def _home(facts: Facts) -> list[Item]:
    queue = PRIVATE_QUEUE if facts.private else f"@file:{QUEUE_URL}"
    conf = f"{commented_file(queue)}\ncontrol_directory {CONTROL}\nmaildir {MAIL}\n"
    found: list[Item] = [Folder(HOME, 0o750, Owner.SERVICE)]
    if not facts.private:
        found.append(File(QUEUE_URL, f"{facts.queue_url}\n", 0o640, Owner.SHARED))
    return [*found, File(f"{HOME}/mailvane.conf", conf, 0o640, Owner.SHARED)]


def _hvmail(facts: Facts) -> list[Item]:
    return [
        Folder(HVMAIL),
        Folder(CONTROL),
        File(f"{CONTROL}/event_processor.json", LEAVE_ALL, theirs=True),
        *(Folder(f"{MAIL}{part}", 0o700, Owner.SERVICE) for part in ("", "/new", "/cur", "/tmp")),
        Folder(LOG),
        *(Folder(f"{LOG}/{service.log}", owner=Owner.SERVICE) for service in services(facts)),
    ]


def _database(facts: Facts) -> list[Item]:
    found: list[Item] = [Folder(POSTGRES), Folder(f"{POSTGRES}/default"), Folder(f"{POSTGRES}/default/bin")]
    if not facts.private:
        return [*found, File(PSQL, scripts.psql(facts.psql, scripts.environment_of(facts.queue_url)), 0o755)]
    return [
        *found,
        File(PSQL, scripts.psql(facts.psql, {"PGHOST": SOCKETS, "PGDATABASE": DATABASE}), 0o755),
        Folder(SOCKETS, owner=Owner.SERVICE),
        Folder(f"{POSTGRES}/instance", 0o700, Owner.SERVICE),
        File(f"{POSTGRES}/pg_hba.conf", scripts.HBA),
        File(f"{POSTGRES}/pg_ident.conf", scripts.ident()),
    ]


def _commands(facts: Facts) -> list[Item]:
    words = {"hvmail_event_processor": ("processor",), "greenarrow": ()}
    found: list[Item] = [Folder(BIN)]
    if facts.private:
        found.append(File(SERVE, scripts.serve(facts.postgres), 0o755))
    found += [File(f"{BIN}/{name}", scripts.command(facts.mailvane, more), 0o755)
              for name, more in words.items()]  # fmt: skip
    return [*found, Folder(COMMANDS), *(Link(f"{COMMANDS}/{name}", f"{BIN}/{name}") for name in words)]


def _services(facts: Facts) -> list[Item]:
    if facts.supervisor is Supervisor.SYSTEMD:
        return [Folder(UNITS), *(
            File(f"{UNITS}/{service.name}.service", units.unit(service.about, service.command, facts, service.log))
            for service in services(facts)
        )]  # fmt: skip
    found: list[Item] = [Folder(SERVICES)]
    for service in services(facts):
        folder = f"{SERVICES}/{service.name}"
        found += [
            Folder(folder),
            Folder(f"{folder}/log"),
            File(f"{folder}/log/run", scripts.log(f"{LOG}/{service.log}"), 0o755),
            File(f"{folder}/run", scripts.run(service.command), 0o755),
        ]
    links = [Link(f"{SCANNED}/{service.name}", f"{SERVICES}/{service.name}") for service in services(facts)]
    return [*found, Folder(SCANNED), *links]
