"""`config sql-table`: the table that people whose events go to a database create there; `config explain`: which rule
of event_processor.json takes what."""

import argparse
import dataclasses
from importlib.resources import files
from pathlib import Path

from mailvane.cli.output import console, plain, say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.cli.queue_access import plan_now, reading
from mailvane.configuration.home import existing_home
from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.mistakes import render
from mailvane.configuration.settings import load_settings
from mailvane.configuration.text import SIZE
from mailvane.errors import MailvaneError
from mailvane.events.catalogue import TYPES
from mailvane.processor.explaining import Explanation, RuleExplained, explain
from mailvane.processor.plan import Plan
from mailvane.recording.regular import Unreadable, read_regular

TABLES = ("mysql", "postgresql", "sqlite")


def sql_table(database: str) -> str:
    """The queue table of a database as SQL, with the destination that fills it as a comment."""
    return files("mailvane.destinations").joinpath("tables", f"{database}.sql").read_text(encoding="utf-8")


def _table_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", choices=TABLES, metavar="DATABASE", help="mysql (MariaDB too), postgresql, sqlite")


def _sql_table(args: argparse.Namespace) -> int:
    say(sql_table(args.database).rstrip("\n"))
    return 0


SQL_TABLE = Spec(
    about="Prints a table that takes events, as SQL for your own database, and as a comment the destination of "
    "event_processor.json that fills it. A unique key makes an attempt that is repeated harmless; "
    "docs/destinations-sql.md tells how.",
    examples=[
        ("mailvane config sql-table mysql | mysql customer", "makes the table event_queue in MySQL or MariaDB"),
        ("mailvane config sql-table postgresql | psql customer", "the same in PostgreSQL"),
    ],
    arguments=_table_arguments,
    run=_sql_table,
    reports=False,
    needs_home=False,
)


def _explain(args: argparse.Namespace) -> int:
    told = explain(_plan_of(args), TYPES)
    if args.json:
        say_json(dataclasses.asdict(told), indent=2)
        return 0
    _show(told)
    return 0


def _plan_of(args: argparse.Namespace) -> Plan:
    """The plan in force, or that of a file. Raises MailvaneError."""
    if args.config is None:
        settings = load_settings(existing_home(args.home))
        with reading(settings) as reader:
            look = plan_now(settings, reader)
        if look.plan is None:
            raise MailvaneError(
                f"there is no usable configuration, so all events stay in the queue\n{look.state.report}"
            )
        if look.state.kind == "stale":
            tell(f"not usable, so this is the last good one:\n{look.state.report}")
        return look.plan
    path = Path(args.config)
    try:
        legacy = read_legacy(read_regular(path, SIZE).data)
    except Unreadable as error:
        raise MailvaneError(f"{path} {error.why}") from None
    if legacy.plan is None:
        raise MailvaneError(render(legacy.mistakes, legacy.text, str(path)))
    return legacy.plan


def _show(told: Explanation) -> None:
    from rich.table import Table

    names = {rule.number: f"{rule.number}  {plain(rule.name)}" for rule in told.rules}
    table = Table("type", "mail class", "rule", box=None, header_style="bold", pad_edge=False)
    several = {taken.event_type for taken in told.taken if taken.mail_class is not None}
    for taken in told.taken:
        any_other = "any other" if taken.event_type in several else "any"
        mail_class = any_other if taken.mail_class is None else plain(taken.mail_class)
        table.add_row(taken.event_type, mail_class, names[taken.rule] if taken.rule else "none: stays in the queue")
    console().print(table)
    for rule in told.rules:
        for line in _problems(rule):
            say(line)


def _problems(rule: RuleExplained) -> list[str]:
    if not rule.reachable:
        by = sorted({shadowed.by for shadowed in rule.shadowed})
        why = f", because of {_rules(by)}" if by else ", because rules before it take everything"
        return [f"rule {rule.number} ({rule.name}) takes nothing{why}"]
    types: dict[tuple[int, str | None], list[str]] = {}
    for shadowed in rule.shadowed:
        types.setdefault((shadowed.by, shadowed.mail_class), []).append(shadowed.event_type)
    return [
        f"rule {rule.number} ({rule.name}) never gets {', '.join(of_types)}"
        + (f" of {mail_class}" if mail_class is not None else "")
        + f": rule {by} takes that"
        for (by, mail_class), of_types in types.items()
    ]


def _rules(numbers: list[int]) -> str:
    return f"rule{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="this file instead of the one in force")


EXPLAIN = Spec(
    about="Shows which rule of event_processor.json takes events of which type and mail class: the first that matches. "
    "Rules are counted from 1 in the order of the file. What a rule names and never gets is told below the table, and "
    "so are rules that take nothing at all.",
    examples=[
        ("mailvane config explain", "the configuration in force"),
        ("mailvane config explain --config new.json --json", "before it is put in place"),
    ],
    arguments=_explain_arguments,
    run=_explain,
)
