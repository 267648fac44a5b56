"""Who owns delivery of a queue in PostgreSQL: one process, told apart by the database and not by the clock."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from mailvane.errors import OwnershipLost, QueueOwned, QueueUnavailable
from mailvane.queue.contract import Books, Filter, Settlement
from mailvane.queue.postgresql import (
    Order,
    OwnedPostgreSQLQueue,
    open_postgresql,
    own_postgresql,
    stand_by_postgresql,
)
from mailvane.queue.postgresql.errors import SharedSessions
from support.postgresql import PostgreSQL
from support.postgresql_proxies import CuttingProxy, Pooler

from .conformance import NOW, event, events, failed

PATIENCE = 60.0

OWNER = """
import asyncio, sys
from mailvane.errors import OwnershipLost
from mailvane.queue.contract import Settlement
from mailvane.queue.postgresql import own_postgresql

async def main():
    queue = await own_postgresql(sys.argv[1], "the first owner")
    lost = asyncio.Event()
    queue.on_lost = lambda why: lost.set()
    print("owns", flush=True)
    await lost.wait()
    try:
        await queue.settle(Settlement([1]), queue.term)
    except OwnershipLost as e:
        print("lost", e, flush=True)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def owned(url: str) -> AsyncIterator[OwnedPostgreSQLQueue]:
    queue = await own_postgresql(url, "a test")
    try:
        yield queue
    finally:
        await queue.close()


@contextlib.asynccontextmanager
async def person_at(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """Somebody in psql; what they begin is open until they commit."""
    connection = await psycopg.AsyncConnection.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def another_owner(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that owns the queue; it ends with the test."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, url, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"owns\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# One owner


def test_a_second_owner_is_refused_and_told_who_has_it(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url):
            with pytest.raises(QueueOwned, match=rf"a test on .* \(process {os.getpid()}\), connected from 127"):
                await own_postgresql(postgresql_url, "another")
        async with owned(postgresql_url):
            pass

    asyncio.run(main())


def test_queues_in_two_schemas_of_a_database_have_an_owner_each(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as one, owned(f"{postgresql_url}?schema=other") as two:
            a, b = await one.append(events(1)), await two.append(events(2))
            await one.settle(Settlement(a), one.term)
            assert (await one.books()).waiting == 0
            assert [row.id for row in await two.read(0, 10)] == b

    asyncio.run(main())


def test_a_stand_by_says_for_whom_it_waits_and_takes_over(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as first:
            told: list[str] = []
            waits = asyncio.Event()
            waiting = asyncio.ensure_future(
                stand_by_postgresql(postgresql_url, "b", waits=lambda why: (told.append(why), waits.set())[-1])
            )
            await waits.wait()
            (a,) = await first.append(events(1))
        async with asyncio.timeout(PATIENCE):
            second = await waiting
        assert len(told) == 1 and "a test on" in told[0]
        assert second.term > first.term
        assert [row.id for row in await second.read(0, 10)] == [a]
        with pytest.raises(OwnershipLost):
            await first.settle(Settlement([a]), first.term)
        await second.close()

    asyncio.run(main())


def test_a_stand_by_holds_nothing_that_keeps_the_server_from_cleaning_up(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url), person_at(postgresql_url) as person:
            waits = asyncio.Event()
            waiting = asyncio.ensure_future(
                stand_by_postgresql(postgresql_url, "stands by", waits=lambda _: waits.set())
            )
            await waits.wait()
            found = await person.execute(
                "SELECT backend_xmin, backend_xid, state FROM pg_stat_activity WHERE application_name LIKE 'stands by%'"
            )
            assert await found.fetchall() == [(None, None, "idle")]
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting

    asyncio.run(main())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
def test_d14_a_stand_by_takes_over_from_an_owner_that_is(postgresql_url: str, how: signal.Signals) -> None:
    """One that was paused and goes on can settle nothing."""

    async def main() -> None:
        async with another_owner(postgresql_url) as process:
            process.send_signal(how)
            async with asyncio.timeout(PATIENCE):
                queue = await stand_by_postgresql(postgresql_url, "the second")
            ids = await queue.append(events(3))
            if how == signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
                assert process.stdout is not None
                assert (await process.stdout.readline()).startswith(b"lost delivery is no longer owned")
            assert [row.id for row in await queue.read(0, 10)] == ids
            await queue.close()

    asyncio.run(main())


def test_d14_an_owner_that_is_cut_off_notices_and_another_takes_over(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    async def main() -> None:
        async with CuttingProxy(postgresql.port) as proxy:
            first = await own_postgresql(proxy.through(postgresql_url), "a test")
            (a,) = await first.append(events(1))
            lost: asyncio.Future[OwnershipLost] = asyncio.get_running_loop().create_future()
            first.on_lost = lost.set_result
            began = time.monotonic()
            proxy.silent.set()
            second = await stand_by_postgresql(postgresql_url, "the second")
            await asyncio.wait_for(lost, PATIENCE)
            assert time.monotonic() - began < 20, "five seconds are promised, on a machine that has time"
            with pytest.raises(OwnershipLost):
                await first.settle(Settlement([a]), first.term)
            done = await second.settle(Settlement([a]), second.term)
            assert done.delivered == 1
            await second.close()

    asyncio.run(main())


def test_an_owner_whose_session_ends_knows_at_once_and_settles_nothing(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue:
            ids = await queue.append(events(2))
            lost: asyncio.Future[OwnershipLost] = asyncio.get_running_loop().create_future()
            queue.on_lost = lost.set_result
            ended = postgresql.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'a test on %'"
            )
            assert ended == [(True,)]
            await asyncio.wait_for(lost, PATIENCE)
            with pytest.raises(OwnershipLost):
                await queue.settle(Settlement(ids), queue.term)
            assert [row.id for row in await queue.read(0, 10)] == ids

    asyncio.run(main())


def test_a_settlement_by_another_session_than_the_one_that_has_the_lock_is_refused(postgresql_url: str) -> None:
    """As by a proxy that gives each transaction another session."""

    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            (a,) = await queue.append(events(1))
            with pytest.raises(psycopg.Error, match="does not own delivery"):
                await person.execute(
                    "SELECT * FROM mailvane_settle(%s, 0, false, %s, '{}', '{}', '{}', '{}', '{}', '{}', 10)",
                    [queue.term, [a]],
                )
            assert [row.id for row in await queue.read(0, 10)] == [a]

    asyncio.run(main())


def test_a_proxy_that_pools_by_transaction_is_refused_with_the_reason(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    async def main() -> None:
        async with Pooler(postgresql.folder, postgresql.port) as pooler:
            url = pooler.through(postgresql_url)
            for way in (own_postgresql, open_postgresql, stand_by_postgresql):
                with pytest.raises(SharedSessions, match="pools by transaction"):
                    await asyncio.wait_for(way(url, "a test"), PATIENCE)

    asyncio.run(main())


def test_a_proxy_that_pools_by_session_does_no_harm(postgresql: PostgreSQL, postgresql_url: str) -> None:
    async def main() -> None:
        async with Pooler(postgresql.folder, postgresql.port, by_session=True) as pooler:
            async with owned(pooler.through(postgresql_url)) as queue:
                ids = await queue.append(events(2))
                assert (await queue.settle(Settlement(ids), queue.term)).delivered == 2

    asyncio.run(main())


# Rows that others have


@pytest.mark.parametrize("keep_delivered", [0, 3_600_000])
def test_a_delete_left_open_in_psql_stops_nothing(postgresql_url: str, keep_delivered: int) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            queue.keep_delivered = keep_delivered
            a, b, c, d, e, f = await queue.append(events(6))
            await queue.settle(Settlement(failed=[failed(e)]), queue.term)
            await person.execute("DELETE FROM events WHERE id = ANY (%s)", [[a, c, e]])
            what = Settlement([a, b], [], [failed(c), failed(d), failed(e, 2)])
            done = await queue.settle(what, queue.term)
            assert (done.delivered, done.skipped) == (1, (a, c, e))
            assert await queue.append(events(1)) == [f + 1]
            assert await queue.retry(Filter(), NOW - 1) == 1  # d
            assert await queue.pull_back(NOW - 10_000_000, NOW - 10_000_000, NOW - 10_000_000) == 1
            assert await queue.delete(Filter(ids=(a, f))) == 1
            await queue.upkeep()
            assert await queue.books() == Books(7, 1, 0, 1)
            await person.rollback()
            again = await queue.settle(Settlement([a], [], [failed(c), failed(e, 2)]), queue.term)
            assert (again.delivered, again.skipped) == (1, ())
            assert sorted(p.id for p in await queue.due((0, 0), NOW, 10)) == [c, d, e]

    asyncio.run(main())


def test_what_a_person_deletes_in_the_end_settles_as_nothing_and_leaves_no_orphan(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            a, b = await queue.append(events(2))
            await person.execute("DELETE FROM events")
            what = Settlement([a], [], [failed(b)])
            assert (await queue.settle(what, queue.term)).skipped == (a, b)
            await person.commit()
            done = await queue.settle(what, queue.term)
            assert (done.delivered, done.skipped) == (0, ())
            assert await queue.deferred() == 0
            assert await queue.books() == Books(2, 0, 0, 2)

    asyncio.run(main())


def test_a_failure_that_a_person_has_locked_is_left_for_later(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            a, b, c = await queue.append(events(3))
            await queue.settle(Settlement(failed=[failed(a), failed(b)]), queue.term)
            await person.execute("UPDATE deferred SET due = 0")
            done = await queue.settle(Settlement([a], [], [failed(b, 2), failed(c)]), queue.term)
            assert (done.delivered, done.skipped) == (1, (b,))
            await person.rollback()
            await queue.upkeep()
            assert sorted(p.id for p in await queue.due((0, 0), NOW, 10)) == [b, c]
            assert await queue.deferred() == 2

    asyncio.run(main())


def test_a_long_transaction_elsewhere_keeps_nobody_from_delivering(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            await person.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await person.execute("SELECT count(*) FROM events")
            for _ in range(5):
                ids = await queue.append(events(200))
                assert [row.id for row in await queue.read(ids[0] - 1, 500)] == ids
                assert (await queue.settle(Settlement(ids), queue.term)).delivered == 200
                await queue.upkeep()
            found = await (await person.execute("SELECT count(*) FROM events")).fetchone()
            assert found == (0,)
            assert await queue.books() == Books(1000, 1000, 0, 0)

    asyncio.run(main())


def test_a_table_that_is_locked_for_good_is_told_with_who_has_it(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            ids = await queue.append(events(1))
            await queue._ownership.run(lambda c: c.execute("SET lock_timeout = '20ms'"))  # pyright: ignore[reportPrivateUsage]
            await person.execute("SET application_name = 'my psql'")
            await person.execute("LOCK TABLE queue IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(QueueUnavailable, match=r"lock timeout; in the way: my psql \(backend \d+\)"):
                await queue.settle(Settlement(ids), queue.term)
            await person.rollback()
            assert (await queue.settle(Settlement(ids), queue.term)).delivered == 1

    asyncio.run(main())


# Waking, orders


def test_what_others_record_wakes_the_owner_and_is_there_to_be_read(postgresql_url: str) -> None:
    async def main() -> None:
        other = await open_postgresql(postgresql_url, "a recorder")
        async with owned(postgresql_url) as queue:
            woken: asyncio.Queue[int] = asyncio.Queue()
            queue.on_wake = woken.put_nowait
            seen = 0
            for n in (1, 3, 2):
                ids = await other.append(events(n))
                async with asyncio.timeout(PATIENCE):
                    upto = await woken.get()
                assert upto == ids[-1]
                assert [row.id for row in await queue.read(seen, 10)] == ids
                seen = upto
        await other.close()

    asyncio.run(main())


def test_what_anybody_may_notify_is_never_believed(postgresql_url: str) -> None:
    """An id from afar would make the owner look no more at what comes before it."""

    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            await person.set_autocommit(True)
            woken: asyncio.Queue[int] = asyncio.Queue()
            queue.on_wake = woken.put_nowait
            (a,) = await queue.append(events(1))
            (channel,) = await (await person.execute("SELECT 'mailvane_' || 'queue'::regclass::oid")).fetchone() or (
                "",
            )
            for payload in ("e999999999", "rubbish", "", "o", "i", "e"):
                await person.execute("SELECT pg_notify(%s, %s)", [channel, payload])
            async with asyncio.timeout(PATIENCE):
                assert await woken.get() == a
            assert woken.empty()

    asyncio.run(main())


def test_what_this_process_records_is_handed_over_and_wakes_nobody(postgresql_url: str) -> None:
    """Else it would be read from the database all the same."""

    async def main() -> None:
        other = await open_postgresql(postgresql_url, "a recorder")
        async with owned(postgresql_url) as queue:
            woken: asyncio.Queue[int] = asyncio.Queue()
            queue.on_wake = woken.put_nowait
            handed: list[int] = []
            queue.on_commit = lambda first, forms: handed.append(first)
            ours = await queue.append(events(2))
            theirs = await other.append(events(1))
            async with asyncio.timeout(PATIENCE):
                assert await woken.get() == theirs[0]
            assert handed == ours[:1]
        await other.close()

    asyncio.run(main())


def test_an_order_wakes_the_owner_and_is_answered(postgresql_url: str) -> None:
    async def main() -> None:
        command = await open_postgresql(postgresql_url, "a command")
        async with owned(postgresql_url) as queue:
            woken = asyncio.Event()
            queue.on_orders = woken.set
            asking = asyncio.ensure_future(command.orders.ask("pause", "https://example.com", patience=PATIENCE))
            async with asyncio.timeout(PATIENCE):
                await woken.wait()
            (order,) = await queue.orders.open_ones()
            assert order == Order(order.id, "pause", "https://example.com")
            await queue.orders.answer(order, '["https://example.com"]')
            assert await asking == '["https://example.com"]'
            assert await queue.orders.open_ones() == []
        await command.close()

    asyncio.run(main())


def test_an_order_that_nobody_answers_is_taken_back(postgresql_url: str) -> None:
    async def main() -> None:
        command = await open_postgresql(postgresql_url, "a command")
        assert await command.orders.ask("retry", patience=0.0) is None
        assert await command.orders.open_ones() == []
        await command.orders.leave("retry")
        async with owned(postgresql_url) as queue:  # one that was left for whoever comes
            assert [order.act for order in await queue.orders.open_ones()] == ["retry"]
        await command.close()

    asyncio.run(main())


# Upkeep


def test_upkeep_sums_up_and_keeps_the_last_id(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            await person.set_autocommit(True)
            last = 0
            for n in range(20):
                ids = await queue.append([event(n), event(n)], f"t-{n}")
                await queue.settle(Settlement(ids[:1]), queue.term)
                last = ids[-1]
            await person.execute("DELETE FROM events WHERE id = %s", [last])
            await queue.upkeep()
            assert await queue.append([event(19), event(19)], "t-19") == [last - 1, last]
            await person.execute("UPDATE commits SET at = 0")
            await person.execute("UPDATE tokens SET at = 0")
            await queue.upkeep()
            await queue.upkeep()
            counted = [
                (await (await person.execute(f"SELECT count(*) FROM {name}".encode())).fetchone() or (0,))[0]
                for name in ("commits", "books", "tokens")
            ]
            assert counted == [1, 3, 0]
            assert await queue.last_id() == last
            assert await queue.books() == Books(40, 20, 0, 1)

    asyncio.run(main())


def test_the_room_of_what_was_removed_is_used_again(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the server to look after it, which may be a minute away, or turned off."""
    monkeypatch.setattr("mailvane.queue.postgresql.upkeep.VACUUM_AFTER", 1_000)

    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            await person.set_autocommit(True)
            await person.execute("ALTER TABLE queue SET (autovacuum_enabled = off)")
            sizes: list[int] = []
            for _ in range(30):
                ids = await queue.append(events(1_000))
                await queue.settle(Settlement(ids), queue.term)
                vacuuming = queue._upkeep._vacuuming  # pyright: ignore[reportPrivateUsage]
                assert vacuuming is not None
                await vacuuming
                (size,) = await (await person.execute("SELECT pg_relation_size('queue')")).fetchone() or (0,)
                sizes.append(size)
            assert max(sizes) <= 3 * sizes[0], sizes

    asyncio.run(main())


def test_what_an_operator_should_know_is_told(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, person_at(postgresql_url) as person:
            await person.execute("SET application_name = 'my psql'")
            await person.commit()
            await person.execute('SELECT mailvane_record(\'{"event_type": "scomp", "email": "a@example.com"}\')')
            await person.execute("UPDATE inbox SET rejected = 'a test'")
            await person.commit()
            await person.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await person.execute("SELECT 1 FROM events")
            facts = await queue.lookup.facts()
            assert (facts.fsync, facts.autovacuum, facts.read_only, facts.rejected) == (False, True, False, 1)
            assert facts.oldest_transaction > 0 and facts.whose.startswith("my psql (backend ")

    asyncio.run(main())
