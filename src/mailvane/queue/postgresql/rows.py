"""Looking at a queue in PostgreSQL without an event loop: for a command, and for a thread beside an event loop."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar

from mailvane.queue.contract import Books, Filter, Listed
from mailvane.queue.postgresql.address import parse_address
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.line import Line
from mailvane.queue.postgresql.reading import PostgreSQLLookup, PostgreSQLReader, ServerFacts
from mailvane.queue.postgresql.schema import ensure_schema

T = TypeVar("T")


class PostgreSQLRows:
    """What PostgreSQLLookup and PostgreSQLReader read, each method when it is called: in a loop of its own, which runs
    in the calling thread. One thread at a time; none that an event loop runs in.

    The session is opened by the first read, and closed by `close`. Tables are made where there are none and the server
    takes writes. Each method raises QueueUnavailable.
    """

    def __init__(self, url: str, command: str, make: bool = True) -> None:
        """`command` is how the session calls itself to the server; without `make` no tables are made. Raises
        BadAddress."""
        self._make = make
        self._address = parse_address(url)
        self._line = Line(self._address, f"{command}, asks", self._set_up, writes=False)
        self._lookup = PostgreSQLLookup(self._line)
        self._reader = PostgreSQLReader(self._line)
        self._runner: asyncio.Runner | None = None

    async def _set_up(self, connection: Connection) -> None:
        makes = self._make and not await connection.fetchval(SQL["read_only"])
        await ensure_schema(connection, self._address, writes=makes)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        return self._runner.run(work)

    @property
    def shown(self) -> str:
        """The queue's URL, without secrets."""
        return self._address.shown

    def epoch(self) -> str:
        return self.kept("epoch") or ""

    def select(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return self._do(self._lookup.select(which, after, limit))

    def matching_ids(self, which: Filter, after: int, limit: int) -> list[int]:
        return self._do(self._lookup.matching_ids(which, after, limit))

    def count(self, which: Filter) -> int:
        return self._do(self._lookup.count(which))

    def select_delivered(self, which: Filter, after: int, limit: int) -> list[Listed]:
        return self._do(self._lookup.select_delivered(which, after, limit))

    def delivered_ids(self, which: Filter, after: int, limit: int) -> list[int]:
        return self._do(self._lookup.delivered_ids(which, after, limit))

    def count_delivered(self, which: Filter) -> int:
        return self._do(self._lookup.count_delivered(which))

    def still_there(self, ids: Sequence[int]) -> set[int]:
        return self._do(self._reader.still_there(ids))

    def census(self) -> list[tuple[str, str, int]]:
        return self._do(self._reader.census())

    def deferred(self) -> int:
        return self._do(self._reader.deferred())

    def kept(self, name: str) -> str | None:
        return self._do(self._reader.kept(name))

    def studio_rows(self) -> str:
        return self._do(self._reader.studio_rows())

    def books(self) -> Books:
        return self._do(self._reader.books())

    def oldest(self) -> int | None:
        return self._do(self._reader.oldest())

    def last_id(self) -> int:
        return self._do(self._reader.last_id())

    def owner(self) -> str:
        """Who delivers, in its own words; "" for nobody."""
        return self._do(self._lookup.owner())

    def facts(self) -> ServerFacts:
        return self._do(self._lookup.facts())

    def close(self) -> None:
        if self._runner is not None:
            with self._runner as runner:
                runner.run(self._line.close())
            self._runner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
