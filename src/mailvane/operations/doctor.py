"""`mailvane doctor`: looks at everything that a support engineer would ask for. Changes nothing, sends nothing.

Each check gives findings; one that fails unexpectedly is a finding itself, and the others go on.
"""

from collections.abc import Callable, Iterator

from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import MailvaneError
from mailvane.operations import doctor_layout, doctor_machine, doctor_mail, doctor_plan, doctor_queue
from mailvane.operations.findings import Finding, Level, wrong

__all__ = ["Finding", "Level", "examine"]

Check = Callable[[Settings], Iterator[Finding]]

IN_SQLITE: tuple[tuple[str, Check], ...] = (
    ("owner", doctor_queue.owner),
    ("queue", doctor_queue.integrity),
    ("log of the queue", doctor_queue.write_ahead_log),
    ("retries", doctor_queue.retries),
    ("clock", doctor_queue.clock),
)


def _in_postgresql() -> tuple[tuple[str, Check], ...]:
    from mailvane.operations import doctor_postgresql as postgresql  # a driver that not everybody needs

    return (("queue", postgresql.queue),)


OF_THE_MACHINE: tuple[tuple[str, Check], ...] = (
    ("settings", doctor_machine.settings_file),
    ("permissions", doctor_machine.permissions),
    ("socket", doctor_machine.socket_path),
    ("disk", doctor_machine.disk),
    ("open files", doctor_machine.open_files),
    ("maildir", doctor_mail.maildirs),
    ("layout", doctor_layout.layout),
)
OF_THE_PLAN: tuple[tuple[str, Check], ...] = (
    ("configuration", doctor_plan.configuration),
    ("switches", doctor_plan.switches),
    ("log file", doctor_plan.log_files),
    ("certificates", doctor_plan.certificates),
    ("endpoints", doctor_plan.endpoints),
    ("databases", doctor_plan.databases),
)


def examine(home: str | None) -> list[Finding]:
    """All findings, in the order of the checks. `home` as for the command line."""
    findings = list(doctor_machine.versions())
    try:
        settings = load_settings(existing_home(home))
    except MailvaneError as error:
        return [*findings, wrong("home", str(error), "nothing else can be looked at before this is right")]
    of_the_queue = IN_SQLITE if settings.queue_url is None else _in_postgresql()
    for name, check in (*OF_THE_MACHINE, *of_the_queue, *OF_THE_PLAN):
        try:
            findings.extend(check(settings))
        except Exception as error:  # the border: a check that fails is a finding
            told = str(error) if isinstance(error, MailvaneError | OSError) else f"{type(error).__name__}: {error}"
            findings.append(wrong(name, f"could not be looked at: {told}", "see what it says"))
    return findings
