"""Reading a queue in PostgreSQL: each method is one short statement, no transaction stays open afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailvane.queue.contract import Books, DuePlace, Filter, Listed, Place, Row
from mailvane.queue.history import listed
from mailvane.queue.postgresql.connection import SQL, Connection, Record
from mailvane.queue.postgresql.line import Line

READ_BYTES = 4 * 1024 * 1024
"""Bytes of bodies that one read brings at most (and always one row)."""
SCAN_ROWS = 1_000
"""Places that one scan brings: more would keep everything else in the process waiting while they are taken in."""


class PostgreSQLReader:
    """What the processor reads, and the books."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lowest = 0
        """No row lies below; see `oldest`."""

    async def read(self, after: int, limit: int) -> list[Row]:
        return [Row(*row) for row in await self._fetch("read", after, limit, READ_BYTES)]

    async def scan(self, after: int, limit: int) -> list[Place]:
        return [Place(*row) for row in await self._fetch("scan", after, min(limit, SCAN_ROWS))]

    async def fetch(self, ids: Sequence[int]) -> list[Row]:
        return [Row(*row) for row in await self._fetch("fetch", list(ids))]

    async def still_there(self, ids: Sequence[int]) -> set[int]:
        return {int(row[0]) for row in await self._fetch("still_there", list(ids))}

    async def due(self, after: tuple[int, int], now: int, limit: int) -> list[DuePlace]:
        return [DuePlace(*row) for row in await self._fetch("due", *after, now, limit)]

    async def next_due(self) -> int | None:
        return await self._value("next_due")

    async def census(self) -> list[tuple[str, str, int]]:
        return [(str(row[0]), str(row[1]), int(row[2])) for row in await self._fetch("census")]

    async def deferred(self) -> int:
        """How many events are deferred."""
        return await self._value("deferred_in_all") or 0

    async def last_id(self) -> int:
        return await self._value("last_id") or 0

    async def oldest(self) -> int | None:
        """Looked for from where it was found last: below lie the dead rows of all that was delivered since the last
        vacuum. Nothing comes there again but by a replay (see `looked_below`)."""
        found = await self._fetch("oldest", self._lowest)
        if not found:
            return None
        self._lowest = int(found[0][0])
        return int(found[0][1])

    def looked_below(self) -> None:
        """Events came back below what was there."""
        self._lowest = 0

    async def books(self) -> Books:
        n = {str(row[0]): int(row[1]) for row in await self._fetch("books")}
        names = ("recorded", "delivered", "dropped", "deleted", "replayed")
        return Books(*[n.get(name, 0) for name in names])

    async def kept(self, name: str) -> str | None:
        return await self._line.run(lambda connection: connection.fetchval(SQL["kept"], name))

    async def studio_rows(self) -> str:
        """As Queue.studio_rows; "" where the tables are of an older mailvane, or there are none."""

        async def read(connection: Connection) -> str:
            if not await connection.fetchval(SQL["has_studio"]):
                return ""
            return str(await connection.fetchval(SQL["studio_rows"]))

        return await self._line.run(read)

    async def _fetch(self, name: str, *values: object) -> Sequence[Record]:
        return await self._line.run(lambda connection: connection.fetch(SQL[name], *values))

    async def _value(self, name: str) -> int | None:
        return await self._line.run(lambda connection: connection.fetchval(SQL[name]))


@dataclass(frozen=True)
class ServerFacts:
    """What an operator should know of the server. `oldest_transaction` is in seconds, `whose` names its session."""

    version: str
    fsync: bool
    full_page_writes: bool
    autovacuum: bool
    read_only: bool
    rejected: int
    """Events that people recorded in transactions and the door did not let in."""
    oldest_transaction: float
    whose: str


class PostgreSQLLookup:
    """What people ask for: may take long, so on a session of its own."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await self._listed("select", _where(which, 2), after, limit)

    async def matching_ids(self, which: Filter, after: int, limit: int) -> list[int]:
        return await self._ids("matching_ids", _where(which, 2), after, limit)

    async def count(self, which: Filter) -> int:
        return await self._count("count", _where(which, 0))

    async def select_delivered(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return await self._listed("select_delivered", _where(which, 2, delivered=True), after, limit)

    async def delivered_ids(self, which: Filter, after: int, limit: int) -> list[int]:
        """As `matching_ids`, of delivered events that are kept."""
        return await self._ids("delivered_ids", _where(which, 2, delivered=True), after, limit)

    async def count_delivered(self, which: Filter) -> int:
        return await self._count("count_delivered", _where(which, 0, delivered=True))

    async def owner(self) -> str:
        """Who delivers, in its own words; "" for nobody."""
        row = await self._line.run(lambda connection: connection.fetchrow(SQL["owner"]))
        return f"{row[0] or 'a session'}, connected from {row[1]}" if row is not None else ""

    async def facts(self) -> ServerFacts:
        row = await self._line.run(lambda connection: connection.fetchrow(SQL["facts"]))
        assert row is not None
        return ServerFacts(*[row[n] for n in range(8)])

    async def _listed(self, name: str, where: "_Where", after: int, limit: int) -> list[Listed]:
        return [listed([row[n] for n in range(14)]) for row in await self._fetch(name, where, after, limit)]

    async def _ids(self, name: str, where: "_Where", after: int, limit: int) -> list[int]:
        return [int(row[0]) for row in await self._fetch(name, where, after, limit)]

    async def _count(self, name: str, where: "_Where") -> int:
        return int((await self._fetch(name, where))[0][0])

    async def _fetch(self, name: str, where: "_Where", *values: object) -> Sequence[Record]:
        sql = SQL[name].format(conditions=" AND ".join(where.conditions))

        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(sql, *values, *where.values)

        return await self._line.run(work, limit=LOOKUP_SECONDS)


LOOKUP_SECONDS = 600.0


@dataclass
class _Where:
    """Conditions with values to be bound, numbered after `before` others; what a person typed is never part of a
    statement."""

    before: int
    conditions: list[str] = field(default_factory=lambda: ["true"])
    values: list[object] = field(default_factory=list[object])

    def add(self, condition: str, value: object) -> None:
        self.values.append(value)
        self.conditions.append(condition.replace("?", f"${self.before + len(self.values)}"))


_MEMBER = "(('{' || q.body || '}')::json ->> '%s')"


def _where(which: Filter, before: int, delivered: bool = False) -> _Where:
    """A filter, over the queue, or over delivered events that are kept."""
    where = _Where(before)
    if which.ids:
        where.add("q.id = ANY (?::bigint[])", list(which.ids))
    if which.event_types:
        where.add("q.event_type = ANY (?::text[])", list(which.event_types))
    if which.email:
        pattern = which.email.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
        where.add(f"{_MEMBER % 'email'} ILIKE ?::text", pattern)
    if which.listid:
        where.add(f"{_MEMBER % 'listid'} = ?::text", which.listid.lower())
    if which.since is not None:
        where.add(f"{_MEMBER % 'event_time'}::bigint >= ?::bigint", which.since)
    if which.until is not None:
        where.add(f"{_MEMBER % 'event_time'}::bigint < ?::bigint", which.until)
    if delivered:
        if which.deferred is not None:
            where.conditions.append("false")
        if which.delivered_since is not None:
            where.add("q.delivered >= ?::bigint * 1000", which.delivered_since)
        if which.delivered_until is not None:
            where.add("q.delivered < ?::bigint * 1000", which.delivered_until)
    elif which.delivered_since is not None or which.delivered_until is not None:
        where.conditions.append("false")
    elif which.deferred is not None:
        where.conditions.append(f"d.id IS {'NOT NULL' if which.deferred else 'NULL'}")
    return where
