"""The processor on a queue in PostgreSQL: with recorders on other machines, and servers that go away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest

from mailvane.clock import SystemClock, system_chance
from mailvane.destinations.contract import Done, Failure, HttpPost, Outcome, Outgoing
from mailvane.errors import OwnershipLost, QueueUnavailable
from mailvane.processor.lane import Counts
from mailvane.processor.plan import Match, Plan, Route
from mailvane.processor.run import Processor
from mailvane.queue.postgresql import OwnedPostgreSQLQueue, PostgreSQLQueue, open_postgresql, stand_by_postgresql
from support.postgresql import PostgreSQL
from support.postgresql_proxies import eventually

from .conformance import events

PLAN = Plan((Route("all", Match(), HttpPost("https://example.com/")),))


class Sink:
    """A destination that takes everything, and says at the end of the loop's turn that it has it."""

    batch_limit = 1

    def __init__(self, took: list[int]) -> None:
        self._took = took

    def send(self, batch: Sequence[Outgoing], done: Done, /) -> None:
        self._took += [one.id for one in batch]
        asyncio.get_running_loop().call_soon(done, batch, [Outcome(None, 200)] * len(batch))

    def allow(self, concurrency: int) -> None:
        pass

    async def close(self) -> None:
        pass


class OnePlan:
    """A configuration that never changes."""

    def __init__(self) -> None:
        self._plan: Plan | None = PLAN

    def look(self) -> Plan | None:
        plan, self._plan = self._plan, None
        return plan


class Tally:
    """Counters that nobody looks at."""

    def delivered(self, seconds: Sequence[float]) -> None: ...

    def failed(self, failure: Failure) -> None: ...


def counts(_: str) -> Counts:
    return Tally()


async def deliver(url: str, took: list[int], owners: list[OwnedPostgreSQLQueue]) -> None:
    """As a process does that takes part: stands by, owns, delivers, and begins anew when it has lost the queue."""
    while True:
        queue = await stand_by_postgresql(url, "a test")
        owners.append(queue)
        processor = Processor(queue, OnePlan(), lambda _: Sink(took), SystemClock(), system_chance(), counts)
        queue.on_commit = processor.committed
        try:
            await processor.run()
        except OwnershipLost:
            pass
        finally:
            with contextlib.suppress(QueueUnavailable):
                await queue.close()


@contextlib.asynccontextmanager
async def delivering(url: str, took: list[int]) -> AsyncIterator[list[OwnedPostgreSQLQueue]]:
    owners: list[OwnedPostgreSQLQueue] = []
    task = asyncio.ensure_future(deliver(url, took, owners))

    async def owned() -> bool:
        return bool(owners) or task.done()

    await eventually(owned)
    try:
        yield owners
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_empty(url: str) -> None:
    person = await open_postgresql(url, "somebody who looks")

    async def empty() -> bool:
        with contextlib.suppress(QueueUnavailable):
            return (await person.books()).waiting == 0
        return False

    await eventually(empty)
    await person.close()


@pytest.mark.parametrize("waiting_before", [0, 500])
def test_what_several_recorders_record_is_delivered_once_each(postgresql_url: str, waiting_before: int) -> None:
    """Some is handed over in memory, some is read, and the ones come between the others."""

    async def main() -> None:
        others = [await open_postgresql(postgresql_url, "a recorder") for _ in range(2)]
        ids: list[int] = []
        if waiting_before:
            ids += await others[0].append(events(waiting_before))
        took: list[int] = []
        async with delivering(postgresql_url, took) as owners:

            async def produce(queue: PostgreSQLQueue) -> None:
                for n in range(100):
                    ids.extend(await queue.append(events(1 + n % 3)))

            await asyncio.gather(*[produce(queue) for queue in (*others, owners[0]) for _ in range(4)])
            await until_empty(postgresql_url)
        assert sorted(took) == sorted(ids)
        for queue in others:
            await queue.close()

    asyncio.run(main())


def test_events_that_a_person_has_locked_are_settled_once_they_are_free(postgresql_url: str) -> None:
    """They were delivered meanwhile, and are delivered no second time; those around them go on."""

    async def main() -> None:
        recorder = await open_postgresql(postgresql_url, "a recorder")
        ids = await recorder.append(events(6))
        person = await psycopg.AsyncConnection.connect(postgresql_url)
        await person.execute("DELETE FROM events WHERE id = ANY (%s)", [ids[1:3]])
        took: list[int] = []
        async with delivering(postgresql_url, took):

            async def waiting(count: int) -> None:
                async def so_many() -> bool:
                    return (await recorder.books()).waiting == count

                await eventually(so_many)

            await waiting(2)
            later = await recorder.append(events(3))
            await waiting(2)
            await person.rollback()
            await waiting(0)
            assert sorted(took) == ids + later
            assert (await recorder.books()).delivered == 9
        await person.close()
        await recorder.close()

    asyncio.run(main())


def test_deliveries_go_on_after_each_crash_of_the_server() -> None:
    """What is lost of a settlement is delivered again; nothing else is, and nothing is lost."""

    async def main(server: PostgreSQL) -> None:
        url = server.database()
        recorder = await open_postgresql(url, "a recorder")
        ids: list[int] = []
        took: list[int] = []
        stopping = False

        async def produce() -> None:
            while not stopping:
                with contextlib.suppress(QueueUnavailable):
                    ids.extend(await recorder.append(events(2)))

        async with delivering(url, took) as owners:
            producers = [asyncio.ensure_future(produce()) for _ in range(8)]
            for _ in range(5):
                wanted = len(took) + 200

                async def more(wanted: int = wanted) -> bool:
                    return len(took) >= wanted

                await eventually(more)
                await asyncio.to_thread(server.restart, True)
            stopping = True
            await asyncio.gather(*producers)
            await until_empty(url)
        assert set(took) == set(ids)
        assert len(owners) >= 3, "the owner did not notice that its session was gone"
        await recorder.close()

    with PostgreSQL() as server:
        asyncio.run(main(server))
