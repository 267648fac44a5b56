"""Orders for the process that delivers from a queue in PostgreSQL: what others ask of it by the database, and how it
answers.

    act      argument                                  answer
    retry                                              empty: what is due is looked at, circuits are closed
    pause    a destination, or `__legacy__` for all    `names` of the destinations that it was done to
    resume   as pause                                  `names`
    replay   ids of delivered events, a JSON array     `ids` of those that are in the queue again
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence

import msgspec

from mailvane.errors import MailvaneError, QueueOwned, QueueUnavailable
from mailvane.processor.run import Processor
from mailvane.queue.postgresql import Order, OwnedPostgreSQLQueue, PostgreSQLQueue, own_postgresql
from mailvane.queue.postgresql.orders import Orders

PATIENCE = 5.0
"""Seconds for which the owner may take to answer; then it is asked no more."""

log = logging.getLogger("mailvane.processor")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of an order; `error`: why nothing did."""

    names: list[str] = []
    ids: list[int] = []
    error: str = ""


class Elsewhere:
    """Whoever delivers from this queue, in another process, perhaps on another machine. Each method raises
    QueueUnavailable, with the owner's reason if it could not."""

    def __init__(self, queue: PostgreSQLQueue, url: str, command: str) -> None:
        self._queue = queue
        self._url = url
        self._command = command

    async def retry(self) -> None:
        """Deferred events were made due: whoever delivers looks at them now. Nobody is waited for."""
        if await self._queue.lookup.owner():
            await self._queue.orders.leave("retry")

    async def pause(self, name: str) -> list[str] | None:
        """As Processor.pause; None if nobody delivers."""
        return await self._names("pause", name)

    async def resume(self, name: str) -> list[str] | None:
        """As Processor.resume; None if nobody delivers."""
        return await self._names("resume", name)

    async def replay(self, ids: Sequence[int]) -> list[int]:
        """As OwnedQueue.replay: by whoever delivers, or, if nobody does, by this process as the owner of a moment."""
        if (answer := await self._asked("replay", msgspec.json.encode(list(ids)).decode())) is not None:
            return answer.ids
        async with owned_for_a_moment(self._url, self._command) as owned:
            return await owned.replay(ids)

    async def _names(self, act: str, name: str) -> list[str] | None:
        answer = await self._asked(act, name)
        return None if answer is None else answer.names

    async def _asked(self, act: str, argument: str) -> "Answer | None":
        if not await self._queue.lookup.owner():
            return None
        return await ask_owner(self._queue.orders, act, argument)


@contextlib.asynccontextmanager
async def owned_for_a_moment(url: str, command: str) -> AsyncGenerator[OwnedPostgreSQLQueue, None]:
    """The queue, where nobody delivers and nobody begins to meanwhile. Raises QueueUnavailable if somebody does."""
    try:
        owned = await own_postgresql(url, command)
    except QueueOwned as e:
        raise QueueUnavailable(f"nothing was changed: {e}, and it does not answer; try again") from e
    try:
        yield owned
    finally:
        await owned.close()


async def ask_owner(orders: Orders, act: str, argument: str = "", patience: float = PATIENCE) -> Answer | None:
    """What the owner did; None if nobody delivers, or nobody answers: then it was not done, and will not be.

    Raises QueueUnavailable, with the owner's reason if it could not.
    """
    said = await orders.ask(act, argument, patience)
    if said is None:
        return None
    answer = msgspec.json.decode(said or "{}", type=Answer)
    if answer.error:
        raise QueueUnavailable(answer.error)
    return answer


async def obey(orders: Orders, processor: Processor) -> None:
    """Does what was asked for, the oldest first, and answers. Raises QueueUnavailable."""
    for order in await orders.open_ones():
        try:
            answer = await _done(order, processor)
        except (MailvaneError, msgspec.DecodeError) as e:
            log.error("the order to %s %s could not be done: %s", order.act, order.argument[:200], e)
            answer = Answer(error=str(e))
        await orders.answer(order, msgspec.json.encode(answer).decode())


async def _done(order: Order, processor: Processor) -> Answer:
    match order.act:
        case "retry":
            processor.retry()
            return Answer()
        case "pause":
            return Answer(names=await processor.pause(order.argument))
        case "resume":
            return Answer(names=await processor.resume(order.argument))
        case "replay":
            ids = msgspec.json.decode(order.argument, type=list[int])
            return Answer(ids=await processor.replay(ids))
        case _:
            return Answer(error=f"the process that delivers does not know the order {order.act!r}: it is an older one")
