"""What `mailvane doctor` looks at of where events go: configuration, switches, certificates, endpoints."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mailvane.configuration.masking import mask_url
from mailvane.configuration.places import places_of, queue_url
from mailvane.configuration.secrets import Secret, SecretMissing, is_reference, resolve_secret
from mailvane.configuration.settings import Settings
from mailvane.configuration.watch import LegacyFile, Look
from mailvane.destinations.addresses import Policy, SystemResolver
from mailvane.destinations.contract import HttpPost, LogFile, SqlStatement
from mailvane.destinations.dsn import BadDsn, parse_dsn
from mailvane.destinations.http_request import endpoint
from mailvane.destinations.logfile_file import look
from mailvane.destinations.sql_driver import missing_driver
from mailvane.destinations.tls import client_context
from mailvane.errors import QueueUnavailable
from mailvane.operations.findings import Finding, note, ok, wrong
from mailvane.queue.reading import kept_value, studio_rows_in
from mailvane.recording.switches import Switches

if TYPE_CHECKING:
    from mailvane.queue.postgresql.rows import PostgreSQLRows

T = TypeVar("T")

RESOLVES_WITHIN = 5.0


def _kept(settings: Settings, name: str) -> str | None:
    if settings.queue_url is not None:
        return _in_postgresql(settings.queue_url, lambda rows: rows.kept(name))
    return kept_value(places_of(settings).database, name)


def _studio_rows(settings: Settings) -> str:
    if settings.queue_url is not None:
        return _in_postgresql(settings.queue_url, lambda rows: rows.studio_rows()) or ""
    return studio_rows_in(places_of(settings).database)


def _in_postgresql(url: Secret, read: "Callable[[PostgreSQLRows], T]") -> T | None:
    from mailvane.queue.postgresql.rows import PostgreSQLRows  # a driver that not everybody needs

    with contextlib.suppress(QueueUnavailable):  # what is the matter is told of the queue
        with PostgreSQLRows(queue_url(url), "mailvane doctor", make=False) as rows:
            return read(rows)
    return None


def _look(settings: Settings) -> Look:
    return LegacyFile(settings.legacy_file, _kept(settings, "legacy")).look()


def configuration(settings: Settings) -> Iterator[Finding]:
    """event_processor.json: in force, or not usable, with its mistakes."""
    look = _look(settings)
    correct = "correct the file: mailvane processor --check-syntax"
    match look.state.kind:
        case "current":
            routes = ", ".join(route.name for route in look.plan.routes) if look.plan else ""
            yield ok("configuration", f"{settings.legacy_file} is right: {routes}")
        case "stale":
            yield wrong("configuration", f"not usable, the last good one is in force:\n{look.state.report}", correct)
        case "none":
            yield wrong("configuration", f"not usable, nothing is delivered:\n{look.state.report}", correct)
    for warning in look.warnings:
        yield wrong("configuration", warning, "see what it says")


def switches(settings: Settings) -> Iterator[Finding]:
    """Which types are recorded, and what is strange about control files and Studio's table."""
    files = Switches(settings.control_directory, _kept(settings, "switches"))
    files.studio.take(_studio_rows(settings))
    gate = files.look()
    for problem in files.problems:
        if problem == files.studio.problem:
            yield wrong("switches", problem, "it must have one row of TRUE and FALSE: mailvane enable --studio TYPE")
        else:
            yield wrong("switches", problem, "write 1 or 0 into it: mailvane enable TYPE, mailvane disable TYPE")
    if gate.engine:
        yield ok("switches", "recorded: " + ", ".join(sorted(gate.engine)))
    if gate.studio:
        yield ok("switches", "recorded of Studio's: " + ", ".join(sorted(gate.studio)))
    if not (gate.engine or gate.studio or files.problems):
        yield note("switches", "no type of event is recorded", "mailvane enable bounce_all bounce_bad_address scomp")


def _targets(settings: Settings) -> list[HttpPost]:
    plan = _look(settings).plan
    return list(dict.fromkeys(r.target for r in plan.routes if isinstance(r.target, HttpPost))) if plan else []


def log_files(settings: Settings) -> Iterator[Finding]:
    """Whether the log file of the plan can be written, as far as can be seen without touching it."""
    plan = _look(settings).plan
    for target in [] if plan is None else [plan.logfile, *(route.target for route in plan.routes)]:
        if not isinstance(target, LogFile):
            continue
        try:
            path = resolve_secret(target.filename)
        except SecretMissing as error:
            yield wrong("log file", str(error), "correct event_processor.json, or what it refers to")
            continue
        if why := look(path):
            advice = "see what it says; what was delivered waits for it, and nothing new is attempted"
            yield wrong("log file", f"{path} {why}", advice if plan and plan.logfile else "see what it says")
        else:
            yield ok("log file", path)


def certificates(settings: Settings) -> Iterator[Finding]:
    """Whom TLS trusts."""
    file = settings.tls_ca_file
    try:
        context = client_context(str(file or ""))
    except OSError as error:
        advice = "name a file with certificates in PEM form, or take tls_ca_file out of mailvane.conf"
        yield wrong("certificates", f"tls_ca_file {file} cannot be used: {error}", advice)
        return
    trusted = context.cert_store_stats()["x509_ca"]
    if trusted or not any(t.url.startswith("https:") for t in _targets(settings)):
        beside = f", those of {file} among them" if file else ""
        yield ok("certificates", f"{trusted} authorities are trusted{beside}")
    else:
        yield wrong("certificates", "no authority is trusted, so no https endpoint is", "install ca-certificates")


def endpoints(settings: Settings) -> Iterator[Finding]:
    """Whether the endpoints' names resolve, to addresses that may be reached. No request is sent."""
    policy = Policy(settings.destination_networks, settings.allow_networks, settings.deny_networks)
    for target in _targets(settings):
        shown = mask_url(target.url)
        try:
            secret = is_reference(target.url)
            to = endpoint(resolve_secret(target.url) if secret else target.url, secret)
        except (SecretMissing, ValueError) as error:
            yield wrong("endpoint", f"{shown}: {error}", "correct event_processor.json, or what it refers to")
            continue
        yield asyncio.run(_reach("endpoint", to.host, to.port, shown, policy))


def databases(settings: Settings) -> Iterator[Finding]:
    """Whether the databases' names resolve, to addresses that may be reached, and drivers are installed. Nobody logs
    in."""
    policy = Policy(settings.destination_networks, settings.allow_networks, settings.deny_networks)
    plan = _look(settings).plan
    for target in dict.fromkeys(route.target for route in plan.routes) if plan else ():
        if not isinstance(target, SqlStatement):
            continue
        try:
            resolve_secret(target.username)
            resolve_secret(target.password)
            dsn = parse_dsn(resolve_secret(target.dsn))
        except (SecretMissing, BadDsn) as error:
            yield wrong("database", str(error), "correct event_processor.json, or what it refers to")
            continue
        shown = f"{dsn.database} {target.dsn if is_reference(target.dsn) else dsn.shown}"
        if why := missing_driver(dsn.database):
            yield wrong("database", f"{shown}: {why}", "install it where mailvane is installed")
        elif dsn.host:
            yield asyncio.run(_reach("database", dsn.host, dsn.port, shown, policy))
        elif Path(dsn.socket or dsn.name).exists():
            yield ok("database", shown)
        else:
            yield wrong("database", f"{shown}: it is not there", "start it, or correct db_dsn")


async def _reach(what: str, host: str, port: int, shown: str, policy: Policy) -> Finding:
    try:
        async with asyncio.timeout(RESOLVES_WITHIN):
            addresses = await SystemResolver().resolve(host, port)
    except TimeoutError:
        return wrong(
            what, f"{shown}: the name server did not answer in {RESOLVES_WITHIN:.0f} s", "look at the resolver"
        )
    except OSError as error:
        return wrong(
            what, f"{shown}: the name does not resolve: {error.strerror or error}", "correct it, or the resolver"
        )
    of_http = port if what == "endpoint" else None
    judged = {address: policy.judge(address, of_http) for address in dict.fromkeys(addresses)}
    allowed = [address for address, reason in judged.items() if reason is None]
    reasons = "; ".join(reason for reason in judged.values() if reason)
    if not allowed:
        return wrong(what, f"{shown}: {reasons}", "see destination_networks and allow_network in mailvane.conf")
    return ok(what, f"{shown}: {', '.join(allowed)}" + (f" (not: {reasons})" if reasons else ""))
