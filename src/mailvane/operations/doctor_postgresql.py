"""What `mailvane doctor` looks at in a queue in PostgreSQL: the server, who delivers, the books, what waits."""

from collections.abc import Iterator

from mailvane.configuration.places import places_of, queue_url
from mailvane.configuration.settings import Settings
from mailvane.errors import QueueUnavailable
from mailvane.operations.doctor_queue import ANSWERS_WITHIN, clock_by, readiness, retries_in
from mailvane.operations.findings import Finding, note, ok, wrong
from mailvane.queue.contract import Filter
from mailvane.queue.postgresql.errors import NoQueueYet
from mailvane.queue.postgresql.rows import PostgreSQLRows
from mailvane.queue.remote import NobodyThere, OwnerClient

LONG = 600.0
"""Seconds of a transaction after which it is told: what was removed since it began keeps its room."""


def queue(settings: Settings) -> Iterator[Finding]:
    """All of it, by one session."""
    assert settings.queue_url is not None
    with PostgreSQLRows(queue_url(settings.queue_url), "mailvane doctor", make=False) as rows:
        try:
            yield from _server(rows)
        except NoQueueYet as none:
            yield ok("queue", str(none))
            return
        yield from _owner(settings, rows)
        yield from _books(rows)
        yield from _inbox(rows)
        yield from retries_in(rows)
        yield from clock_by(rows)


def _server(rows: PostgreSQLRows) -> Iterator[Finding]:
    """Reachable, durable, writable, kept clean."""
    facts = rows.facts()
    yield ok("queue", f"{rows.shown}: PostgreSQL {facts.version}")
    if not facts.fsync or not facts.full_page_writes:
        off = " and ".join(
            name for name, on in (("fsync", facts.fsync), ("full_page_writes", facts.full_page_writes)) if not on
        )
        yield wrong(
            "durability",
            f"the server runs with {off} off: a power cut may lose or damage all that was acknowledged",
            f"set {off} = on in postgresql.conf and reload",
        )
    if facts.read_only:
        advice = "promote it, name the primary by `queue`, or set default_transaction_read_only = off"
        yield wrong("queue", "the server is read-only: nothing is recorded or delivered", advice)
    if not facts.autovacuum:
        advice = "set autovacuum = on in postgresql.conf and reload"
        yield wrong("queue", "autovacuum is off: what was removed keeps its room, and reading gets slower", advice)
    if facts.oldest_transaction > LONG:
        yield note(
            "transactions",
            f"{facts.whose} has a transaction open for {facts.oldest_transaction / 60:,.0f} minutes: what was removed"
            " since then keeps its room",
            "end it: commit, or SELECT pg_terminate_backend(…) of that backend",
        )


def _owner(settings: Settings, rows: PostgreSQLRows) -> Iterator[Finding]:
    """Who delivers; and whether the process in this home, if there is one, takes events."""
    if who := rows.owner():
        yield ok("owner", f"{who} delivers")
    else:
        yield note("owner", "no process delivers from this queue", "mailvane run")
    client = OwnerClient(places_of(settings).socket, timeout=ANSWERS_WITHIN)
    try:
        client.request("GET", "/healthz")
    except NobodyThere:
        return
    except QueueUnavailable as error:
        yield wrong("owner", f"the process in this home does not answer: {error}", "look at its log; start it again")
        return
    finally:
        client.close()
    yield from readiness(OwnerClient(places_of(settings).socket, timeout=ANSWERS_WITHIN), "the process in this home")


def _books(rows: PostgreSQLRows) -> Iterator[Finding]:
    """Whether they balance with what is there. There is no moment for both: they tell if nothing happened between."""
    before, there, after = rows.books(), rows.count(Filter()), rows.books()
    told = (
        f"{after.recorded:,} recorded = {after.delivered:,} delivered + {after.dropped:,} dropped"
        f" + {after.deleted:,} deleted + {after.waiting:,} waiting"
    )
    if before == after and there != after.waiting:
        advice = "rows were removed past `events` (TRUNCATE, a trigger disabled?); delete from events"
        yield wrong("books", f"{told}, but {there:,} rows are there", advice)
    else:
        yield ok("books", told)


def _inbox(rows: PostgreSQLRows) -> Iterator[Finding]:
    """What people recorded in transactions of their own and was not let in."""
    rejected = rows.facts().rejected
    if rejected:
        yield wrong(
            "inbox",
            f"{rejected:,} events that were recorded by mailvane_record() were not let in",
            "SELECT id, rejected, event FROM inbox WHERE rejected IS NOT NULL; record them rightly, and delete these",
        )
    else:
        yield ok("inbox", "all that was recorded by mailvane_record() was let in")
