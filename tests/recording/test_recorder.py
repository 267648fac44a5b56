"""Recording from a program, as somebody's program does it."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailvane import AsyncRecorder, Event, EventRejected, QueueUnavailable, Recorder
from mailvane.errors import HomeMissing, SettingsBroken
from support.homes import LEAVES, Home
from support.storage import recording_home, shell, stored
from support.tools import tool


def event(name: str, event_type: str = "bounce_all", **fields: object) -> Event:
    given = {"event_type": event_type, "email": f"{name}@example.com", "click_tracking_id": name, **fields}
    return Event(**given)  # type: ignore[arg-type]


@pytest.fixture
def home(short_folder: Path) -> Path:
    return recording_home(short_folder)


def test_record_gives_the_id_and_the_event_is_there(home: Path) -> None:
    with Recorder(home) as recorder:
        first = recorder.record(event("a"))
        second = recorder.record(event("b"))
        assert first and second and second > first
        assert stored(home) == {"a": first, "b": second}


def test_a_type_that_is_off_gives_none(home: Path) -> None:
    with Recorder(home) as recorder:
        assert recorder.record(event("a", "scomp")) is None
        assert recorder.record_many([event("b", "engine_open"), event("c")]) == [None, 1]
        assert recorder.record_many([event("d", "engine_open")]) == [None]
        assert recorder.record_many([]) == []
    assert stored(home) == {"c": 1}


def test_a_switch_holds_without_a_restart(home: Path) -> None:
    switch = home / "control" / "record_events.simplemh.scomp"
    with Recorder(home) as recorder:
        assert recorder.record(event("a", "scomp")) is None
        switch.write_text("1\n")
        while (taken := recorder.record(event("b", "scomp"))) is None:
            pass
        switch.write_text("0\n")
        while recorder.record(event("c", "scomp", sendid="x")) is not None:
            pass
        assert taken == 1


def test_many_threads_from_the_very_first_event(home: Path) -> None:
    """The switches are looked at once by one of them, and nobody takes "not looked yet" for "off"."""
    for _ in range(5):
        with Recorder(home) as recorder, ThreadPoolExecutor(16) as pool:
            start = threading.Barrier(16)

            def record(number: int, recorder: Recorder = recorder, start: threading.Barrier = start) -> int | None:
                start.wait()
                return recorder.record(event(f"n{number}"))

            ids = list(pool.map(record, range(16)))
        assert None not in ids
        assert len(set(ids)) == 16
        shell(tool("sqlite3"), home, ".timeout 10000", "DELETE FROM events")


def test_many_are_recorded_in_their_order(home: Path) -> None:
    with Recorder(home) as recorder:
        ids = recorder.record_many(event(f"n{n}", "scomp" if n % 3 else "bounce_all") for n in range(3500))
    assert [i is None for i in ids] == [n % 3 != 0 for n in range(3500)]
    known = [i for i in ids if i is not None]
    assert known == sorted(known)
    assert stored(home) == {f"n{n}": ids[n] for n in range(0, 3500, 3)}


def test_a_repeat_with_the_same_token_records_nothing_twice(home: Path) -> None:
    events = [event(f"n{n}") for n in range(1_500)]

    async def again() -> list[int | None]:
        async with AsyncRecorder(home) as recorder:
            return await recorder.record_many(events, "once")

    with Recorder(home) as recorder:
        ids = recorder.record_many(events, "once")
        assert recorder.record_many(events, "once") == ids == asyncio.run(again())
        assert recorder.record_many([event("a"), event("off", "scomp")], "two") == [1_501, None]
        (home / "control" / "record_events.simplemh.scomp").write_text("1\n")
        while len(taken := recorder.record_many([event("b"), event("c", "scomp")], "two")) != 2 or None in taken:
            pass  # its type is on within a moment, and that is another request
    assert len(stored(home)) == 1_503


def test_one_wrong_event_and_none_is_recorded(home: Path) -> None:
    with Recorder(home) as recorder:
        for wrong, field in [
            (event("b", bounce_code=-1), "bounce_code"),
            (event("b", email=""), "email"),
            (event("b", email="a\nb@example.com"), "email"),
            (event("b", bounce_text="\ud800"), "bounce_text"),
            (event("b", "no_such_type"), "event_type"),
            (event("b", event_time="now"), "event_time"),
            (event("b", bounce_text="x" * 70_000), "bounce_text"),
            (event("b", timestamp=float("nan")), "timestamp"),
        ]:
            with pytest.raises(EventRejected) as raised:
                recorder.record_many([event("a"), wrong])
            assert raised.value.field == field
            with pytest.raises(EventRejected):
                recorder.record(wrong)
        assert recorder.record(event("c")) == 1


def test_a_recorder_needs_a_home(short_folder: Path, home: Path) -> None:
    with pytest.raises(HomeMissing):
        Recorder(short_folder / "nowhere")
    with (home / "mailvane.conf").open("a") as file:
        file.write("\nhtpp_listen 1\n")
    with pytest.raises(SettingsBroken, match=r"mailvane\.conf:\d+:1"):
        AsyncRecorder(home)


def test_the_home_may_come_from_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILVANE_HOME", str(home))
    with Recorder() as recorder:
        assert recorder.record(event("a")) == 1


def test_a_recorder_that_was_closed_opens_again(home: Path) -> None:
    recorder = Recorder(home)
    assert recorder.record(event("a")) == 1
    recorder.close()
    recorder.close()
    assert recorder.record(event("b")) == 2
    recorder.close()


def test_closing_beside_threads_that_record_leaves_nobody_waiting(home: Path) -> None:
    recorder = Recorder(home)
    stop = threading.Event()
    recorded = [recorder.record(event("first"))]  # the threads may never be the first before it is closed

    def work() -> None:
        while not stop.is_set():
            try:
                recorded.append(recorder.record(event(f"n{len(recorded)}-{threading.get_ident()}")))
            except QueueUnavailable as e:
                assert "closed" in str(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        recorder.close()
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    recorder.close()
    assert sorted(stored(home).values()) == sorted(i for i in recorded if i is not None)


def test_a_program_that_ends_without_closing_has_what_was_acknowledged(home: Path) -> None:
    program = (
        "import sys; from mailvane import Event, Recorder\n"
        "r = Recorder(sys.argv[1]); print(r.record(Event(event_type='bounce_all', email='a@example.com',"
        " click_tracking_id='a')))"
    )
    said = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr, said.returncode) == ("1\n", "", 0)
    assert stored(home) == {"a": 1}


def test_a_home_that_is_gone_is_an_error_and_no_thread_is_left_behind(home: Path) -> None:
    with Recorder(home) as recorder:
        (home / "queue.db").mkdir()
        before = threading.active_count()
        for _ in range(3):
            with pytest.raises(QueueUnavailable, match=r"queue\.db"):
                recorder.record(event("a"))
        assert threading.active_count() <= before + 1
        (home / "queue.db").rmdir()
        assert recorder.record(event("a")) == 1


# asyncio


def test_tasks_of_one_loop_record(home: Path) -> None:
    async def run() -> list[int | None]:
        async with AsyncRecorder(home) as recorder:
            ids = await asyncio.gather(*[recorder.record(event(f"n{n}")) for n in range(200)])
            assert await recorder.record(event("x", "scomp")) is None
            assert await recorder.record_many([event("y", "scomp"), event("z")]) == [None, 201]
            with pytest.raises(EventRejected):
                await recorder.record(event("x", "no_such_type"))
            return ids

    ids = asyncio.run(run())
    assert {f"n{n}": i for n, i in enumerate(ids)} | {"z": 201} == stored(home)


def test_a_task_that_gives_up_waiting_harms_nobody(home: Path) -> None:
    async def run() -> None:
        async with AsyncRecorder(home) as recorder:
            tasks = [asyncio.create_task(recorder.record(event(f"n{n}"))) for n in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await asyncio.wait_for(recorder.record(event("last")), 60)

    asyncio.run(run())
    assert set(stored(home)) >= {"last", *[f"n{n}" for n in range(1, 50, 2)]}


def test_one_loop_after_another(home: Path) -> None:
    recorder = AsyncRecorder(home)

    async def once(name: str) -> int | None:
        return await asyncio.wait_for(recorder.record(event(name)), 60)

    assert [asyncio.run(once(name)) for name in "abc"] == [1, 2, 3]
    asyncio.run(recorder.close())


def test_a_loop_that_ends_while_events_are_on_their_way(home: Path) -> None:
    recorder = AsyncRecorder(home)

    async def hand_in() -> None:
        tasks = [asyncio.create_task(recorder.record(event(f"n{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        assert tasks

    async def record() -> int | None:
        return await asyncio.wait_for(recorder.record(event("last")), 60)

    asyncio.run(hand_in())
    last = asyncio.run(record())
    asyncio.run(recorder.close())
    assert stored(home)["last"] == last


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
def test_workers_forked_from_a_program_that_has_a_recorder(home: Path, used: bool) -> None:
    recorder = Recorder(home)
    expected = {f"w{w}-{n}" for w in range(4) for n in range(25)} | {f"p-{n}" for n in range(25)}
    if used:
        recorder.record(event("before"))
        expected.add("before")
    children = [fork(recorder, f"w{worker}", 25) for worker in range(4)]
    for number in range(25):
        assert recorder.record(event(f"p-{number}"))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert recorder.record(event("after"))
    recorder.close()
    assert set(stored(home)) == expected | {"after"}


def test_workers_forked_while_threads_of_the_parent_record(home: Path) -> None:
    """Nothing that a thread of the parent held at that moment may stop a worker."""
    recorder = Recorder(home)
    stop = threading.Event()
    count = [0] * 3

    def work(thread: int) -> None:
        while not stop.is_set():
            assert recorder.record(event(f"t{thread}-{count[thread]}"))
            count[thread] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(8):
            pid = fork(recorder, f"w{round_}", 3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    recorder.close()
    expected = {f"t{t}-{n}" for t in range(3) for n in range(count[t])} | {
        f"w{r}-{n}" for r in range(8) for n in range(3)
    }
    assert set(stored(home)) == expected


def test_a_worker_that_ends_in_the_ordinary_way_leaves_the_parents_queue_alone(home: Path) -> None:
    """Ending runs what a program leaves open through Python's last clean-up, the parent's connections included."""
    program = """
import os, sys
from mailvane import Event, Recorder
def event(name): return Event(event_type="bounce_all", email=name + "@example.com", click_tracking_id=name)
recorder = Recorder(sys.argv[1])
recorder.record(event("p-0"))
pid = os.fork()
if pid == 0:
    recorder.record(event("child"))
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
for n in range(1, 20):
    recorder.record(event(f"p-{n}"))
recorder.close()
print("done")
"""
    said = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr) == ("done\n", "")
    assert set(stored(home)) == {"child", *[f"p-{n}" for n in range(20)]}


def test_what_a_worker_records_is_not_thrown_away_with_a_log_that_looks_unused(home: Path) -> None:
    """A worker has locks of its own: a shell that comes and goes must not take the log for left behind."""
    recorder = Recorder(home)
    assert recorder.record(event("p"))
    ready, told = os.pipe()
    go_on, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert recorder.record(event("w-0"))
            os.write(told, b".")
            os.read(go_on, 1)
            assert recorder.record(event("w-1"))
            status = 0
        finally:
            os._exit(status)
    assert os.read(ready, 1) == b"."
    recorder.close()
    assert shell(tool("sqlite3"), home, "SELECT count(*) FROM events").stdout == "2\n"
    os.write(say, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert set(stored(home)) == {"p", "w-0", "w-1"}


def test_a_worker_that_is_killed_leaves_no_lock_behind(home: Path) -> None:
    recorder = Recorder(home)
    recorder.record(event("p"))
    for _ in range(5):
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            number = 0
            while True:
                recorder.record(event(f"w{os.getpid()}-{number}"))
                number += 1
                os.write(told, b".")
        os.close(told)
        assert os.read(ready, 1) == b"."
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        assert recorder.record(event(f"p{pid}"))
    recorder.close()
    assert len(stored(home)) >= 11


def _pool_worker(number: int) -> int | None:
    return _inherited[0].record(event(f"n{number}"))


_inherited: list[Recorder] = []
"""What workers have from the process that they were forked from."""


def test_a_pool_of_processes(home: Path) -> None:
    with Recorder(home) as recorder:
        _inherited.append(recorder)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            ids = pool.map(_pool_worker, range(120), chunksize=1)
    _inherited.clear()
    assert {f"n{n}": i for n, i in enumerate(ids)} == stored(home)


# Beside a process that owns the queue


def test_events_go_through_the_process_that_has_the_queue(make_home: Callable[..., Home]) -> None:
    owner = make_home(legacy=LEAVES, enable=["bounce_all"])
    owner.run()
    with Recorder(owner.folder) as recorder, ThreadPoolExecutor(8) as pool:
        assert recorder.record(event("off", "scomp")) is None
        ids = list(pool.map(lambda n: recorder.record(event(f"n{n}")), range(200)))
        many = recorder.record_many([event(f"m{n}", "scomp" if n % 2 else "bounce_all") for n in range(1500)])
        with pytest.raises(EventRejected):
            recorder.record(event("x", email=""))
    assert [i is None for i in many] == [n % 2 == 1 for n in range(1500)]
    wanted = {f"n{n}": i for n, i in enumerate(ids)} | {f"m{n}": many[n] for n in range(0, 1500, 2)}
    assert stored(owner.folder) == wanted
    assert owner.status()["books"]["recorded"] == 950


def test_nothing_is_lost_or_doubled_when_the_owner_is_killed_and_comes_back(make_home: Callable[..., Home]) -> None:
    owner = make_home(legacy=LEAVES, enable=["bounce_all"])
    stop = threading.Event()
    acknowledged: list[dict[str, int]] = [{} for _ in range(4)]
    with Recorder(owner.folder) as recorder:

        def work(thread: int) -> None:
            number = 0
            while not stop.is_set():
                name = f"t{thread}-{number}"
                event_id = recorder.record(event(name))
                assert event_id is not None
                acknowledged[thread][name] = event_id
                number += 1

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            for round_ in range(3):
                process = owner.run()
                owner.wait_for_status(lambda status, least=300 * round_: status["books"]["recorded"] > least)
                process.kill()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    # `stored` finds every name once: what was asked for again, its answer being lost, was not added again.
    assert stored(owner.folder) == {name: i for names in acknowledged for name, i in names.items()}
