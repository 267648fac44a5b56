"""Recording from a program into a queue in PostgreSQL: as into one in SQLite."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from mailvane import AsyncRecorder, Event, EventRejected, QueueUnavailable, Recorder
from support.postgresql import PostgreSQL
from support.storage import recording_home


def event(name: str, event_type: str = "bounce_all") -> Event:
    return Event(event_type=event_type, email=f"{name}@example.com", click_tracking_id=name)


@pytest.fixture
def home(short_folder: Path, postgresql_url: str) -> Path:
    home = recording_home(short_folder)
    with (home / "mailvane.conf").open("a") as conf:
        conf.write(f'\nqueue "{postgresql_url}"\n')
    return home


def stored(url: str) -> dict[str, int]:
    """Ids by name; each name is found once."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT click_tracking_id, id FROM events ORDER BY id").fetchall()
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def test_record_gives_the_id_and_the_event_is_there(home: Path, postgresql_url: str) -> None:
    with Recorder(home) as recorder:
        first, second = recorder.record(event("a")), recorder.record(event("b"))
        assert first and second and second > first
        assert stored(postgresql_url) == {"a": first, "b": second}
        assert recorder.record(event("off", "scomp")) is None
        many = recorder.record_many([event(f"m{n}", "scomp" if n % 2 else "bounce_all") for n in range(2_500)])
        with pytest.raises(EventRejected):
            recorder.record(event("x", "no_such_type"))
    assert [i is None for i in many] == [n % 2 == 1 for n in range(2_500)]
    assert len(stored(postgresql_url)) == 1_252
    assert not (home / "queue.db").exists()


def test_a_repeat_with_the_same_token_records_nothing_twice(home: Path, postgresql_url: str) -> None:
    async def again() -> list[int | None]:
        async with AsyncRecorder(home) as recorder:
            return await recorder.record_many([event("a"), event("b")], "once")

    with Recorder(home) as recorder:
        ids = recorder.record_many([event("a"), event("b")], "once")
    assert asyncio.run(again()) == ids
    assert len(stored(postgresql_url)) == 2


def test_threads_share_a_recorder(home: Path, postgresql_url: str) -> None:
    with Recorder(home) as recorder, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: recorder.record(event(f"n{n}")), range(200)))
    assert stored(postgresql_url) == {f"n{n}": i for n, i in enumerate(ids)}


def test_tasks_of_one_loop_record_and_another_loop_goes_on(home: Path, postgresql_url: str) -> None:
    recorder = AsyncRecorder(home)

    async def many() -> list[int | None]:
        ids = await asyncio.gather(*[recorder.record(event(f"n{n}")) for n in range(200)])
        assert await recorder.record_many([event("x", "scomp"), event("y")]) == [None, 201]
        return ids

    async def one() -> None:
        async with recorder:
            assert await recorder.record(event("later")) == 202

    ids = asyncio.run(many())
    asyncio.run(one())
    assert stored(postgresql_url) == {f"n{n}": i for n, i in enumerate(ids)} | {"y": 201, "later": 202}


def test_a_loop_goes_on_while_a_recorder_waits_for_its_server(home: Path) -> None:
    """Looking for a server that is away takes seconds: others have their turns meanwhile."""

    async def main() -> int:
        turns = 0
        async with AsyncRecorder(home) as recorder:
            waiting = [asyncio.create_task(recorder.record(event("a"))) for _ in range(3)]
            while not all(task.done() for task in waiting):
                await asyncio.sleep(0.01)
                turns += 1
            assert all(isinstance(task.exception(), QueueUnavailable) for task in waiting)
        return turns

    with PostgreSQL() as server:
        (home / "mailvane.conf").write_text(f'queue "{server.url}"\n')
        server.stop()
        assert asyncio.run(main()) > 20


def test_a_program_with_a_loop_may_use_the_plain_recorder(home: Path, postgresql_url: str) -> None:
    async def main() -> None:
        with Recorder(home) as recorder:
            assert recorder.record(event("a")) == 1

    asyncio.run(main())
    assert stored(postgresql_url) == {"a": 1}


def test_events_of_people_are_moved_by_a_program_through_its_switches(home: Path, postgresql_url: str) -> None:
    with Recorder(home) as recorder, psycopg.connect(postgresql_url, autocommit=True) as person:
        recorder.record(event("a"))
        for event_type, name in (("bounce_all", "p"), ("scomp", "off")):
            person.execute(
                "SELECT mailvane_record(jsonb_build_object('event_type', %s::text, 'email', %s::text,"
                " 'click_tracking_id', %s::text))",
                [event_type, f"{name}@example.com", name],
            )
        recorder.record(event("b"))
        recorder.record(event("c"))
        assert set(stored(postgresql_url)) == {"a", "b", "c", "p"}


def test_a_restart_of_the_server_in_the_middle_loses_nothing(home: Path) -> None:
    with PostgreSQL() as server:
        (home / "mailvane.conf").write_text(f'queue "{server.url}"\n')
        acknowledged: list[str] = []
        stop = threading.Event()
        with Recorder(home) as recorder:

            def work(thread: int) -> None:
                number = 0
                while not stop.is_set():
                    assert recorder.record(event(f"t{thread}-{number}"))
                    acknowledged.append(f"t{thread}-{number}")
                    number += 1

            with ThreadPoolExecutor(3) as pool:
                done = [pool.submit(work, n) for n in range(3)]
                try:
                    for _ in range(2):
                        at_least(acknowledged, len(acknowledged) + 50, done)
                        server.restart(immediate=True)
                    at_least(acknowledged, len(acknowledged) + 50, done)
                finally:
                    stop.set()
            for one in done:
                one.result()
        assert set(stored(server.url)) == set(acknowledged)


def at_least(acknowledged: list[str], count: int, workers: list[Future[None]]) -> None:
    for _ in range(3_000):
        if len(acknowledged) >= count or any(worker.done() for worker in workers):
            return
        threading.Event().wait(0.01)  # what the workers reached is not told
    raise AssertionError(f"{len(acknowledged)} acknowledged, wanted {count}")


# Where it is


def test_a_secret_is_looked_up_when_the_queue_is_opened(
    home: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mailvane.conf").write_text("queue @file:secret\n")
    recorder = Recorder(home)
    with pytest.raises(QueueUnavailable, match=r"the queue is not known: @file:.*/secret leads to nothing"):
        recorder.record(event("a"))
    (home / "secret").write_text("http://example.com/\n")
    with pytest.raises(QueueUnavailable, match=r"no postgresql://"):
        recorder.record(event("a"))
    (home / "secret").write_text(postgresql_url + "\n")
    assert recorder.record(event("a")) == 1
    recorder.close()
    monkeypatch.setenv("QUEUE_OF_MINE", postgresql_url)
    (home / "mailvane.conf").write_text("queue @env:QUEUE_OF_MINE\n")
    with Recorder(home) as other:
        assert other.record(event("b")) == 2


def test_a_server_that_is_away_is_told_without_a_password_and_no_thread_is_left_behind(home: Path) -> None:
    (home / "mailvane.conf").write_text('queue "postgresql://u:hidden@127.0.0.1:1/nothing"\n')
    before = threading.active_count()
    recorder = Recorder(home)
    with pytest.raises(QueueUnavailable) as told:
        recorder.record(event("a"))
    assert "127.0.0.1:1" in str(told.value) and "hidden" not in str(told.value)
    assert threading.active_count() <= before
    recorder.close()


def test_users_of_sqlite_load_no_driver(short_folder: Path) -> None:
    home = recording_home(short_folder)
    program = (
        "import sys\nfrom mailvane import Event, Recorder\n"
        "with Recorder(sys.argv[1]) as recorder:\n"
        "    recorder.record(Event(event_type='bounce_all', email='a@example.com'))\n"
        "print([name for name in sys.modules if name.startswith('asyncpg')])"
    )
    said = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


# Servers that fork


def fork(recorder: Recorder, name: str, count: int) -> int:
    """A worker that records; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        ids = [recorder.record(event(f"{name}-{n}")) for n in range(count)]
        status = 0 if len(set(ids)) == count and None not in ids else 2
    finally:
        os._exit(status)


@pytest.mark.parametrize("used", [False, True], ids=["before its first event", "after events"])
def test_workers_forked_from_a_program_that_has_a_recorder(home: Path, postgresql_url: str, used: bool) -> None:
    recorder = Recorder(home)
    expected = {f"w{w}-{n}" for w in range(3) for n in range(20)} | {f"p-{n}" for n in range(20)}
    if used:
        recorder.record(event("before"))
        expected.add("before")
    children = [fork(recorder, f"w{worker}", 20) for worker in range(3)]
    for number in range(20):
        assert recorder.record(event(f"p-{number}"))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 3
    assert recorder.record(event("after"))
    recorder.close()
    assert set(stored(postgresql_url)) == expected | {"after"}


def test_workers_forked_while_threads_of_the_parent_record(home: Path, postgresql_url: str) -> None:
    recorder = Recorder(home)
    stop = threading.Event()
    count = [0] * 2

    def work(thread: int) -> None:
        while not stop.is_set():
            assert recorder.record(event(f"t{thread}-{count[thread]}"))
            count[thread] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(4):
            pid = fork(recorder, f"w{round_}", 3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    recorder.close()
    expected = {f"t{t}-{n}" for t in range(2) for n in range(count[t])}
    assert set(stored(postgresql_url)) == expected | {f"w{r}-{n}" for r in range(4) for n in range(3)}


_inherited: list[Recorder] = []
"""What workers have from the process that they were forked from."""


def _pool_worker(number: int) -> int | None:
    return _inherited[0].record(event(f"n{number}"))


def test_a_pool_of_processes(home: Path, postgresql_url: str) -> None:
    with Recorder(home) as recorder:
        _inherited.append(recorder)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            ids = pool.map(_pool_worker, range(60), chunksize=1)
    _inherited.clear()
    assert {f"n{n}": i for n, i in enumerate(ids)} == stored(postgresql_url)
