"""The suite of every store, on PostgreSQL."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg
import pytest

from mailvane.queue.postgresql import OwnedPostgreSQLQueue, own_postgresql

from .conformance import Conformance

T = TypeVar("T")


class PostgreSQLStoreUnderTest:
    """A queue in a schema of its own, and a person with a session of theirs."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = f"{url}?schema={schema}"
        self._runner = asyncio.Runner()
        self.queue = self._open()
        self._person = psycopg.connect(url, autocommit=True, options=f"-csearch_path={schema}")

    def _open(self) -> OwnedPostgreSQLQueue:
        return self.run(own_postgresql(self._url, "a test"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def reopen(self) -> None:
        self.run(self.queue.close())
        self.queue = self._open()

    def by_hand(self, sql: str) -> list[tuple[object, ...]]:
        cursor = self._person.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._person.close()
        self.run(self.queue.close())
        self._runner.close()


class TestPostgreSQL(Conformance):
    examples = 20

    @pytest.fixture
    def make_store(self, postgresql_url: str) -> Callable[[], PostgreSQLStoreUnderTest]:
        # Queues side by side in one database: a schema is made faster than a database.
        numbers = itertools.count(1)
        return lambda: PostgreSQLStoreUnderTest(postgresql_url, f"queue_{next(numbers)}")
