"""Recording into PostgreSQL: commits that are shared, their order, and what becomes of them when something breaks."""

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest

from mailvane.errors import QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm, stored_form
from mailvane.queue.contract import Books, Filter, Settlement
from mailvane.queue.postgresql import (
    PostgreSQLQueue,
    open_postgresql,
    own_postgresql,
    stand_by_postgresql,
    store_in_postgresql,
)
from mailvane.queue.writer import Answer, Appending, Writer
from support.postgresql import PostgreSQL
from support.postgresql_proxies import CuttingProxy, eventually

from .conformance import event, events


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who records waits less long for a server that is away."""
    monkeypatch.setattr("mailvane.queue.postgresql.recording.PATIENCE", 1.0)


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgreSQLQueue]:
    queue = await open_postgresql(url, "a test")
    try:
        yield queue
    finally:
        await queue.close()


async def ids_in(queue: PostgreSQLQueue) -> list[int]:
    found: list[int] = []
    while page := await queue.lookup.matching_ids(Filter(), found[-1] if found else 0, 1_000):
        found += page
    return found


class Producers:
    """Tasks that record one event after the other until they are stopped, and know what was acknowledged."""

    def __init__(self, queue: PostgreSQLQueue, count: int) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self._queue = queue
        self._stopping = False
        self._tasks = [asyncio.get_running_loop().create_task(self._work()) for _ in range(count)]

    async def _work(self) -> None:
        while not self._stopping:
            try:
                self.acknowledged += await self._queue.append([event(len(self.acknowledged))])
            except QueueUnavailable as e:
                self.refused.append(str(e))
                await asyncio.sleep(0.05)

    async def at_least(self, count: int) -> None:
        """Waits until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count

        async def enough() -> bool:
            return len(self.acknowledged) >= wanted

        await eventually(enough)

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


# Sharing commits


def test_producers_of_the_same_moment_share_a_commit(postgresql_url: str) -> None:
    async def main() -> None:
        async with opened(postgresql_url) as queue:
            await queue.append([event(1)])
            answers = await asyncio.gather(*[queue.append(events(2)) for _ in range(100)])
            ids = [i for answer in answers for i in answer]
            assert ids == sorted(set(ids))
            async with await psycopg.AsyncConnection.connect(postgresql_url) as person:
                (commits,) = await (await person.execute("SELECT count(*) FROM commits")).fetchone() or (0,)
            assert commits <= 4, f"{commits} commits for 101 producers"

    asyncio.run(main())


def test_producers_share_the_commits_of_a_slow_disk_all_of_them(postgresql: PostgreSQL, postgresql_url: str) -> None:
    """While a commit takes longer than they do, nothing is gained by halves of them that take turns."""

    async def main() -> None:
        async with opened(postgresql_url) as queue:
            await queue.append(events(1_000))  # fast: a commit of halves comes next
            postgresql.query(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END';"
                " CREATE TRIGGER slow AFTER INSERT ON commits FOR EACH ROW EXECUTE FUNCTION slow()",
                url=postgresql_url,
            )

            async def produce() -> None:
                for n in range(12):
                    await queue.append([event(n)])

            await asyncio.gather(*[produce() for _ in range(64)])

    asyncio.run(main())
    sizes = [n for (n,) in postgresql.query("SELECT n FROM commits ORDER BY last", url=postgresql_url)]
    assert sizes[0] == 1_000 and len(sizes) <= 1 + 16, sizes


def test_ids_become_visible_in_ascending_order_whoever_records(postgresql_url: str) -> None:
    """A reader that goes on from the highest id that it saw must not miss one that is committed later."""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            recorders = [await stack.enter_async_context(opened(postgresql_url)) for _ in range(4)]
            reader = await stack.enter_async_context(opened(postgresql_url))
            producers = [Producers(recorder, 8) for recorder in recorders]
            seen: list[int] = []

            async def read() -> None:
                while page := await reader.reader.read(seen[-1] if seen else 0, 1_000):
                    seen.extend(row.id for row in page)

            while sum(len(p.acknowledged) for p in producers) < 3_000:
                await read()
                await asyncio.sleep(0)
            for p in producers:
                await p.stop()
            await read()
            acknowledged = sorted(i for p in producers for i in p.acknowledged)
            assert len(set(acknowledged)) == len(acknowledged)
            assert seen == acknowledged

    asyncio.run(main())


def test_what_the_last_id_promises_is_there(postgresql_url: str) -> None:
    """Ids that are drawn and not committed yet must not count: who has looked up to the last id looks there no more."""

    async def main() -> None:
        async with opened(postgresql_url) as queue, await psycopg.AsyncConnection.connect(postgresql_url) as person:
            ids = await queue.append(events(3))
            await person.execute(
                "SELECT * FROM mailvane_append('t', '{scomp}', '{a}', '{1}', '{x}', '{y}', '{}', '{}')"
            )
            assert await queue.last_id() == ids[-1]
            await person.commit()
            assert await queue.last_id() == ids[-1] + 1

    asyncio.run(main())


def test_what_is_handed_over_follows_on_without_a_gap_or_comes_apart(postgresql_url: str) -> None:
    async def main() -> None:
        handed: list[tuple[int, Sequence[StoredForm]]] = []
        async with opened(postgresql_url) as queue, opened(postgresql_url) as other:
            queue.on_commit = lambda first, forms: handed.append((first, forms))
            (known,) = await other.append([event(50)], "t-1")
            forms = [event(n) for n in range(5)]
            again, one, two = await asyncio.gather(
                queue.append([event(50)], "t-1"), queue.append(forms[:2]), queue.append(forms[2:])
            )
            assert again == [known]
            assert one + two == list(range(known + 1, known + 6))
            async with await psycopg.AsyncConnection.connect(postgresql_url, autocommit=True) as person:
                await person.execute("SELECT setval('queue_id', 1000)")
            (late,) = await queue.append([event(9)])
            assert late == 1001
        assert [(first, list(forms)) for first, forms in handed] == [(known + 1, forms), (1001, [event(9)])]

    asyncio.run(main())


@pytest.mark.parametrize("with_tokens", [False, True])
def test_each_producer_gets_the_ids_of_its_own_events(
    postgresql: PostgreSQL, postgresql_url: str, with_tokens: bool
) -> None:
    """In one commit are groups of one event, of several and of none; with tokens one comes three times."""
    groups = [([event(100 * n + i) for i in range(n % 4)], f"t{n}" if with_tokens and n % 2 else "") for n in range(32)]
    groups[11] = groups[23] = groups[3]
    sent = sum(len(forms) for forms, _ in groups)

    async def main() -> list[list[int]]:
        async with opened(postgresql_url) as queue:
            await queue.append([event(1)])
            return await asyncio.gather(*[queue.append(forms, token) for forms, token in groups])

    answers = asyncio.run(main())
    stored = dict(postgresql.query("SELECT id, body FROM queue WHERE id > 1", url=postgresql_url))
    for (forms, _), ids in zip(groups, answers, strict=True):
        assert [stored[i] for i in ids] == [form.body for form in forms]
    assert len(stored) == sent - (6 if with_tokens else 0)


@pytest.mark.parametrize("body", ["a\x00b", "a\x1fb"])
def test_one_group_that_cannot_be_stored_takes_no_other_along(postgresql_url: str, body: str) -> None:
    async def main() -> None:
        async with opened(postgresql_url) as queue:
            bad = StoredForm("scomp", "a1", 1, body, "")
            answers = await asyncio.gather(
                queue.append([event(1)]), queue.append([bad]), queue.append([event(2)]), return_exceptions=True
            )
            assert isinstance(answers[1], QueueUnavailable)
            assert await ids_in(queue) == [*answers[0], *answers[2]]  # type: ignore[misc]

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 2, 500])
def test_each_value_is_stored_as_it_was_handed_in(postgresql: PostgreSQL, postgresql_url: str, count: int) -> None:
    """The columns of a group travel as one text each, ended by U+001F: empty values stay, escaped ones stay escaped."""
    forms = [
        stored_form(
            Event(
                event_type="bounce_all", email=f"u{n}@example.com", listid="Ä1" if n % 3 else "", bounce_text="a\x1fb"
            ),
            "mail1" if n % 2 else "",
        )
        for n in range(count)
    ]

    async def main() -> list[int]:
        async with opened(postgresql_url) as queue:
            return await queue.append(forms)

    ids = asyncio.run(main())
    rows = postgresql.query(
        "SELECT id, event_type, mail_class, valued, body, extra FROM queue ORDER BY id", url=postgresql_url
    )
    assert rows == [(i, f.event_type, f.mail_class, f.valued, f.body, f.extra) for i, f in zip(ids, forms, strict=True)]


# D9


@pytest.mark.parametrize("token", ["", "t-1"])
def test_d9_a_commit_whose_answer_was_cut_off_is_looked_up(
    postgresql: PostgreSQL, postgresql_url: str, token: str
) -> None:
    async def main() -> None:
        async with CuttingProxy(postgresql.port) as proxy, opened(proxy.through(postgresql_url)) as queue:
            before = await queue.append(events(2))
            for n in range(5):
                proxy.cut_answer = 1
                ids = await queue.append(events(3), token and f"{token}-{n}")
                assert proxy.cuts == n + 1
                before += ids
            assert await ids_in(queue) == before
            assert await queue.books() == Books(17, 0, 0, 0)

    asyncio.run(main())


def test_d9_a_lost_commit_that_comes_second_is_refused(postgresql: PostgreSQL, postgresql_url: str) -> None:
    """The connection is gone, and the statement still on its way to the server when it is sent again."""

    async def main() -> None:
        async with CuttingProxy(postgresql.port) as proxy, opened(proxy.through(postgresql_url)) as queue:
            await queue.append(events(1))
            proxy.hold_request = True
            ids = await queue.append(events(3))
            assert proxy.held.is_set()
            await proxy.release()
            assert (await ids_in(queue))[1:] == ids
            assert await queue.append(events(1)) == [ids[-1] + 1]
            assert (await queue.books()).recorded == 5

    asyncio.run(main())


def test_d9_nothing_acknowledged_is_lost_when_the_server_crashes_under_load() -> None:
    async def main(server: PostgreSQL) -> None:
        async with opened(server.database()) as queue:
            producers = Producers(queue, 16)
            for _ in range(5):
                await producers.at_least(200)
                await asyncio.to_thread(server.restart, True)
            await producers.at_least(200)
            await producers.stop()
            found = await ids_in(queue)
            assert len(set(producers.acknowledged)) == len(producers.acknowledged)
            assert set(producers.acknowledged) == set(found), "lost, or recorded twice"
            assert producers.refused == [], "a restart takes less time than recording waits"
            assert (await queue.books()).recorded == len(found)

    with PostgreSQL() as server:
        asyncio.run(main(server))


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stays_away_is_told_and_comes_back(postgresql: PostgreSQL) -> None:
    async def main(server: PostgreSQL) -> None:
        url = server.database()
        async with CuttingProxy(server.port) as proxy, opened(proxy.through(url)) as queue:
            await queue.append(events(1), "t-0")
            await asyncio.to_thread(server.stop, True)
            with pytest.raises(QueueUnavailable) as error:
                await queue.append(events(1), "t-1")
            assert "test/secret" not in str(error.value) and "test%2Fsecret" not in str(error.value)
            connections = proxy.connections
            refused = 0
            async with asyncio.timeout(10):
                while refused < 300:  # whoever asks, and however often: nobody hammers at the server
                    with contextlib.suppress(QueueUnavailable):
                        await queue.append(events(1), "t-1")
                        pytest.fail("recorded by a server that is away")
                    refused += 1
            assert proxy.connections - connections < 20
            assert await queue.tried(0.1) != ""
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(60):
                while await queue.tried(1.0):
                    await asyncio.sleep(0.05)
            ids = await queue.append(events(1), "t-1")
            assert len(await ids_in(queue)) == 2 and ids == (await ids_in(queue))[1:]

    with PostgreSQL() as server:
        asyncio.run(main(server))


# D10

_FAILS_TWICE = """
CREATE SEQUENCE failures;
CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('failures') <= 2 THEN RAISE EXCEPTION 'a test' USING ERRCODE = '{state}'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_twice AFTER INSERT OR DELETE ON queue FOR EACH STATEMENT EXECUTE FUNCTION fail_twice();
"""


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_d10_serialization_failures_deadlocks_and_lock_timeouts_are_tried_again(
    postgresql_url: str, state: str
) -> None:
    async def main() -> None:
        queue = await own_postgresql(postgresql_url, "a test")
        async with await psycopg.AsyncConnection.connect(postgresql_url, autocommit=True) as person:
            await person.execute(_FAILS_TWICE.format(state=state).encode())
            ids = await queue.append(events(3))
            await person.execute("SELECT setval('failures', 1, false)")
            done = await queue.settle(Settlement(ids), queue.term)
            assert done.delivered == 3
            assert await queue.books() == Books(3, 3, 0, 0)
        await queue.close()

    asyncio.run(main())


def test_d10_what_fails_so_for_ever_is_told_and_nothing_is_done(postgresql_url: str) -> None:
    async def main() -> None:
        async with opened(postgresql_url) as queue:
            async with await psycopg.AsyncConnection.connect(postgresql_url, autocommit=True) as person:
                await person.execute(_FAILS_TWICE.format(state="40001").replace("<= 2", "<= 6").encode())
                with pytest.raises(QueueUnavailable, match="a test"):
                    await queue.append(events(3))
                (tries,) = await (await person.execute("SELECT last_value FROM failures")).fetchone() or (0,)
                assert 3 <= tries <= 6
            assert await queue.books() == Books(0, 0, 0, 0)

    asyncio.run(main())


def test_d10_a_lock_on_the_table_is_waited_for(postgresql_url: str) -> None:
    async def main() -> None:
        async with opened(postgresql_url) as queue:
            person = await psycopg.AsyncConnection.connect(postgresql_url)
            await person.execute("LOCK TABLE queue IN EXCLUSIVE MODE")
            recording = asyncio.ensure_future(queue.append(events(1)))

            async def waits() -> bool:
                found = await person.execute("SELECT FROM pg_locks WHERE relation = 'queue'::regclass AND NOT granted")
                return await found.fetchone() is not None

            await eventually(waits)
            assert not recording.done()
            await person.rollback()
            await person.close()
            assert len(await recording) == 1

    asyncio.run(main())


@pytest.mark.usefixtures("impatient")
def test_d10_a_server_that_turned_read_only_is_told_and_nobody_hammers_at_it(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    async def main() -> None:
        name = postgresql_url.rpartition("/")[2]
        async with CuttingProxy(postgresql.port) as proxy, opened(proxy.through(postgresql_url)) as queue:
            await queue.append(events(1))
            postgresql.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            cut_off(postgresql, name)
            with pytest.raises(QueueUnavailable, match="read-only"):
                await queue.append(events(1))
            before = proxy.connections
            for _ in range(200):
                with pytest.raises(QueueUnavailable, match="read-only"):
                    await queue.append(events(1))
            assert proxy.connections - before < 20
            postgresql.query(f"ALTER DATABASE {name} RESET default_transaction_read_only")

            async def records_again() -> bool:
                with contextlib.suppress(QueueUnavailable):
                    return len(await queue.append(events(1))) == 1
                return False

            await eventually(records_again)
            assert len(await ids_in(queue)) == 2

    asyncio.run(main())


def cut_off(server: PostgreSQL, database: str) -> None:
    server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])


@pytest.mark.usefixtures("impatient")
def test_d10_after_a_failover_goes_on_what_the_stand_by_has() -> None:
    """First it takes no writes, which is told; once it is promoted the queue goes on there, under another epoch."""

    async def main(primary: PostgreSQL, standby: PostgreSQL) -> None:
        url = primary.url.replace(f":{primary.port}/", f":{primary.port},127.0.0.1:{standby.port}/")
        owner = await own_postgresql(url, "a test")
        epoch = owner.epoch
        ids = await owner.append(events(50))
        await owner.settle(Settlement(ids[:10]), owner.term)

        async def followed() -> bool:
            (row,) = primary.query("SELECT pg_current_wal_lsn() = replay_lsn FROM pg_stat_replication")
            return row == (True,)

        await eventually(followed)
        primary.kill()
        with pytest.raises(QueueUnavailable):
            await owner.append(events(1))
        standby.promote()
        await owner.close()
        again = await stand_by_postgresql(url, "a test")
        assert [row.id for row in await again.read(0, 100)] == ids[10:]
        assert again.epoch != epoch
        assert await again.append(events(1)) > ids[-1:]
        await again.close()

    with PostgreSQL() as primary, primary.standby() as standby:
        asyncio.run(main(primary, standby))


# In a thread's own loop


def test_a_program_records_by_its_writing_thread(postgresql_url: str) -> None:
    store = store_in_postgresql(postgresql_url, "a program")
    writer = Writer(store, lambda call: call())
    answers: list[Answer] = []
    answered = threading.Semaphore(0)

    def take(answer: Answer) -> None:
        answers.append(answer)
        answered.release()

    for n in range(100):
        writer.append(Appending([event(n)], "", take))
    for _ in range(100):
        assert answered.acquire(timeout=60)
    store.keep("switches", "{}")
    assert store.kept("switches") == "{}"
    assert store.kept("nothing") is None
    writer.end()
    store.close()
    ids = [i for answer in answers if isinstance(answer, list) for i in answer]
    assert ids == sorted(set(ids)) and len(ids) == 100


def test_a_program_that_forks_records_in_both(postgresql_url: str) -> None:
    """Parent and child must not speak by one session: it is closed before."""

    def sessions() -> set[int]:
        with psycopg.connect(postgresql_url) as person:
            found = person.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'a program%'")
            return {pid for (pid,) in found}

    store = store_in_postgresql(postgresql_url, "a program")
    first = store.append([(events(1), "")])
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            os.read(wait, 1)
            answers = store.append([(events(2), "")])
            code = 0 if isinstance(answers[0], list) else 2
            store.close()
        os._exit(code)
    end = time.monotonic() + 30
    while sessions():
        assert time.monotonic() < end, "the session was carried over the fork"
    os.write(go, b".")
    second = store.append([(events(3), "")])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    third = store.append([(events(1), "")])
    assert len(sessions()) == 1
    store.close()
    with psycopg.connect(postgresql_url) as person:
        found = [i for (i,) in person.execute("SELECT id FROM events ORDER BY id")]
    assert len(found) == 7
    for answers in (first, second, third):
        assert isinstance(answers[0], list) and set(answers[0]) <= set(found)


# Sessions


def test_sessions_are_durable_whatever_the_role_says(postgresql: PostgreSQL, postgresql_url: str) -> None:
    name = postgresql_url.rpartition("/")[2]
    for setting in (
        "synchronous_commit = off", "default_transaction_isolation = 'serializable'", "statement_timeout = '500ms'",
        "search_path = nowhere",
    ):  # fmt: skip
        postgresql.query(f"ALTER DATABASE {name} SET {setting}")
    asked = [
        "synchronous_commit", "default_transaction_isolation", "statement_timeout", "tcp_user_timeout",
        "tcp_keepalives_idle",
    ]  # fmt: skip

    async def main() -> None:
        async with opened(postgresql_url) as queue:
            line = queue._recorder._line  # pyright: ignore[reportPrivateUsage]
            assert [await line.run(lambda c, name=name: c.fetchval(f"SHOW {name}")) for name in asked] == [
                "on", "read committed", "0", "4000", "2",
            ]  # fmt: skip
            assert len(await queue.append(events(2))) == 2

    asyncio.run(main())


def test_a_process_says_to_the_server_who_it_is(postgresql_url: str) -> None:
    async def main() -> None:
        async with opened(postgresql_url) as queue:
            await queue.append(events(1))
            async with await psycopg.AsyncConnection.connect(postgresql_url) as person:
                found = await (await person.execute("SELECT application_name FROM pg_stat_activity")).fetchall()
            names = [name for (name,) in found if name.startswith("a test, records")]
            assert len(names) == 1 and re.search(rf"\(process {os.getpid()}\)$", names[0])

    asyncio.run(main())
