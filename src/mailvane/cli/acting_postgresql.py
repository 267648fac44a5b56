"""Doing something with a queue in PostgreSQL, from a command: in the database, and by orders to whoever delivers."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self, TypeVar

from mailvane.operations.orders import Elsewhere, owned_for_a_moment
from mailvane.operations.routes import PAUSED, with_paused
from mailvane.queue.contract import Filter
from mailvane.queue.postgresql import PostgreSQLQueue, open_postgresql

T = TypeVar("T")


class InDatabase:
    """A Hand, inside `with`. What was made due is looked at by whoever delivers when it ends."""

    def __init__(self, url: str, command: str) -> None:
        self._url = url
        self._command = command
        self._made_due = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._runner = stack.enter_context(asyncio.Runner(loop_factory=asyncio.new_event_loop))
            self._queue: PostgreSQLQueue = self._runner.run(open_postgresql(self._url, self._command))
            self._elsewhere = Elsewhere(self._queue, self._url, self._command)
            stack.callback(lambda: self._runner.run(self._queue.close()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            if self._made_due:
                self._run(self._elsewhere.retry())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def make_due(self, ids: Sequence[int] | None, now: int) -> int:
        self._made_due = True
        if ids is None:
            return self._run(self._queue.retry(Filter(), now))
        return self._run(self._queue.retry(Filter(ids=tuple(ids)), now)) if ids else 0  # no ids: it would mean all

    def delete(self, ids: Sequence[int]) -> int:
        return self._run(self._queue.delete(Filter(ids=tuple(ids)))) if ids else 0

    def replay(self, ids: Sequence[int]) -> list[int]:
        return self._run(self._elsewhere.replay(ids))

    def pause(self, names: Sequence[str], pause: bool) -> None:
        ask: Callable[[str], Coroutine[Any, Any, list[str] | None]]
        ask = self._elsewhere.pause if pause else self._elsewhere.resume
        done = [self._run(ask(name)) for name in names]
        if left := [name for name, answer in zip(names, done, strict=True) if answer is None]:
            self._run(self._keep_paused(left, pause))

    def switch_studio(self, states: Mapping[str, bool]) -> None:
        self._run(self._queue.switch_studio(states))

    async def _keep_paused(self, names: Sequence[str], pause: bool) -> None:
        """Nobody delivers. It is owned for a moment, so that nobody begins to, with what was kept before."""
        async with owned_for_a_moment(self._url, self._command) as owned:
            await owned.keep(PAUSED, with_paused(await owned.kept(PAUSED), names, pause))
