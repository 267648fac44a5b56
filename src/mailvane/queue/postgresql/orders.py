"""Orders: what commands leave for the process that owns delivery, on whatever machine it runs, and what it answers."""

import asyncio
from dataclasses import dataclass

from mailvane.queue.postgresql.connection import SQL
from mailvane.queue.postgresql.line import Line

LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Order:
    """`act` is `retry` (look at what is due, close circuits), `pause` or `resume` (`argument`: a destination), `replay`
    (ids as a JSON array)."""

    id: int
    act: str
    argument: str


class Orders:
    """The table of orders, by one session."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def leave(self, act: str, argument: str = "") -> int:
        """Leaves an order and wakes the owner; answers its number."""
        return int(await self._line.run(lambda c: c.fetchval(SQL["leave_order"], act, argument)))

    async def ask(self, act: str, argument: str = "", patience: float = 5.0) -> str | None:
        """Leaves an order and waits so many seconds for the owner's answer; None if nobody answers, and the order is
        taken back. Raises QueueUnavailable."""
        number = await self.leave(act, argument)
        end = asyncio.get_running_loop().time() + patience
        while True:
            answer = await self._line.run(lambda c: c.fetchval(SQL["answer_of"], number))
            if answer is not None:
                return str(answer)
            if asyncio.get_running_loop().time() >= end:
                taken = await self._line.run(lambda c: c.fetchval(SQL["take_back"], number))
                if taken is not None:
                    return None
            await asyncio.sleep(LOOK_EVERY)

    async def open_ones(self) -> list[Order]:
        """Orders without an answer, the oldest first: for the owner."""
        found = await self._line.run(lambda c: c.fetch(SQL["orders"]))
        return [Order(int(row[0]), str(row[1]), str(row[2])) for row in found]

    async def answer(self, order: Order, answer: str = "") -> None:
        """What became of an order; it is done with then."""
        await self._line.run(lambda c: c.execute(SQL["answer_order"], order.id, answer))
