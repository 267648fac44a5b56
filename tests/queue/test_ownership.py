"""One process writes: the lock, what forks and kills do to it, and those who find it taken."""

import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailvane import Event, QueueUnavailable, Recorder
from mailvane.events.codecs import stored_form
from mailvane.queue import short
from mailvane.queue.ownership import Lock, describe
from mailvane.queue.reading import SQLiteReader
from mailvane.queue.short import ShortStore
from support.processes import Process
from support.storage import places, recording_home, stored

EVENT = Event(event_type="bounce_all", event_time=1, email="user@example.com")
FORM = stored_form(EVENT)
HOLDER = """
import sys
from mailvane.queue.ownership import Lock
lock = Lock(sys.argv[1], "mailvane run")
assert lock.take()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the queue."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, places(home).lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_has_the_lock_and_the_other_is_told_who(short_folder: Path) -> None:
    home = recording_home(short_folder)
    with holder(home) as process:
        lock = Lock(places(home).lock, "another")
        assert not lock.take()
        assert describe(lock.holder()) == f"mailvane run (process {process.pid})"
    assert lock.take() and lock.take()
    lock.release()
    lock.release()
    assert Lock(places(home).lock, "a third").take()


def test_d13_the_lock_of_a_killed_process_is_free(short_folder: Path) -> None:
    home = recording_home(short_folder)
    with holder(home) as process:
        process.kill()
        process.wait()
        assert Lock(places(home).lock, "the next").take()


@pytest.mark.parametrize("text", [b"", b"\x00\xff rubbish", b'{"pid": "x"}', b"[" * 200])
def test_what_the_lock_file_says_is_never_believed(short_folder: Path, text: bytes) -> None:
    path = short_folder / "queue.lock"
    path.write_bytes(text)
    lock = Lock(str(path), "mailvane record")
    assert describe(lock.holder()) == "another process"
    assert lock.take()
    assert describe(lock.holder()) == f"mailvane record (process {os.getpid()})"
    lock.release()


def take_soon(lock: Lock) -> None:
    end = time.monotonic() + 10
    while not lock.take():
        assert time.monotonic() < end, "nobody gives it back"
    lock.release()


def in_child(work: Callable[[], None]) -> int:
    """Forks; the child's exit status. (No exec: that is the matter.)"""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_does_not_keep_its_parents_lock_alive(short_folder: Path) -> None:
    lock = Lock(str(short_folder / "queue.lock"), "a parent")
    assert lock.take()
    go_on, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.read(go_on, 1)
        os._exit(0)
    try:
        lock.release()
        assert Lock(lock.path, "the next").take()
    finally:
        os.close(end)
        os.waitpid(pid, 0)


def test_a_fork_at_any_moment_of_taking_the_lock_leaves_it_free(short_folder: Path) -> None:
    """A server forks its workers while a thread of it records."""
    lock = Lock(str(short_folder / "queue.lock"), "a thread")
    stop = threading.Event()

    def take_and_release() -> None:
        while not stop.is_set():
            if lock.take():  # a child has it for the moment until it has closed what it got
                lock.release()

    thread = threading.Thread(target=take_and_release)
    thread.start()
    go_on, end = os.pipe()
    children: list[int] = []
    try:
        for _ in range(150):
            pid = os.fork()
            if pid == 0:
                os.close(end)
                os.read(go_on, 1)  # lives on, as workers do
                os._exit(0)
            children.append(pid)
        stop.set()
        thread.join()
        take_soon(Lock(lock.path, "the next"))
    finally:
        stop.set()
        os.close(end)
        for pid in children:
            os.waitpid(pid, 0)


def test_a_child_takes_the_lock_for_itself(short_folder: Path) -> None:
    lock = Lock(str(short_folder / "queue.lock"), "a parent")
    assert lock.take()

    def child() -> None:
        assert not lock.take()

    assert in_child(child) == 0
    lock.release()

    def another() -> None:
        assert lock.take()

    assert in_child(another) == 0
    assert lock.take()
    lock.release()


# Recording beside another process that has the queue


def test_a_program_waits_for_a_command_that_has_the_queue_for_a_moment(short_folder: Path) -> None:
    home = recording_home(short_folder)
    done = threading.Event()
    with Recorder(home) as recorder:
        with holder(home):
            thread = threading.Thread(target=lambda: (recorder.record(EVENT), done.set()))
            thread.start()
            assert not done.wait(0.3)
        assert done.wait(30)
        thread.join()
    assert SQLiteReader(places(home).database).books().recorded == 1


def test_after_the_limit_it_says_who_has_it(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "LOCK_WAIT", 0.2)
    home = recording_home(short_folder)
    with Recorder(home) as recorder, holder(home) as process:
        with pytest.raises(QueueUnavailable, match=rf"in use by mailvane run \(process {process.pid}\)"):
            recorder.record(EVENT)


class FakeOwner:
    """An owner's API as far as recording needs it, which can be told to break off.

    It keeps what it was given by token, as a queue does.
    """

    def __init__(self, home: Path) -> None:
        self.requests: list[tuple[str, int]] = []
        self.by_token: dict[str, list[int]] = {}
        self.next_id = 1
        self.drop_answers = 0
        self.answer_503 = 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                lines = self.rfile.read(int(self.headers["content-length"])).splitlines()
                token = self.path.partition("token=")[2]
                owner.requests.append((token, len(lines)))
                if owner.answer_503:
                    owner.answer_503 -= 1
                    self.answer(503, {"error": "the disk is full"})
                    return
                if token not in owner.by_token:
                    owner.by_token[token] = list(range(owner.next_id, owner.next_id + len(lines)))
                    owner.next_id += len(lines)
                if owner.drop_answers:
                    owner.drop_answers -= 1
                    self.close_connection = True
                    return
                self.answer(202, {"results": [{"id": i} for i in owner.by_token[token]]})

            def answer(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(places(home).socket, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def owned(short_folder: Path) -> Iterator[tuple[Path, FakeOwner]]:
    home = recording_home(short_folder)
    owner = FakeOwner(home)
    with holder(home):
        yield home, owner
    owner.close()


def test_an_owner_is_asked_by_its_socket(owned: tuple[Path, FakeOwner]) -> None:
    home, owner = owned
    with Recorder(home) as recorder:
        assert recorder.record(EVENT) == 1
        assert recorder.record_many([EVENT] * 3) == [2, 3, 4]
    assert [n for _, n in owner.requests] == [1, 3]


def test_a_lost_answer_is_asked_for_again_and_nothing_is_added_twice(owned: tuple[Path, FakeOwner]) -> None:
    home, owner = owned
    owner.drop_answers = 2
    with Recorder(home) as recorder:
        assert recorder.record(EVENT) == 1
        assert recorder.record(EVENT) == 2
    assert len(owner.requests) == 4
    assert len({token for token, _ in owner.requests}) == 2


def test_many_at_once_go_to_the_owner_together(owned: tuple[Path, FakeOwner]) -> None:
    """So that they share its commits, too."""
    home, owner = owned
    groups = (
        [([FORM] * n, "") for n in (1, 2, 3)] + [([FORM], "mine")] + [([FORM] * 998, ""), ([FORM], ""), ([FORM], "")]
    )
    store = ShortStore(places(home), "a test")
    answers = store.append(groups)
    store.close()
    assert [len(a) for a in answers if isinstance(a, list)] == [1, 2, 3, 1, 998, 1, 1]
    assert [i for a in answers if isinstance(a, list) for i in a] == list(range(1, 1008))
    assert [n for _, n in owner.requests] == [6, 1, 1000]
    assert owner.requests[1] == ("mine", 1)


def test_what_an_owner_refuses_is_refused_to_those_alone_who_gave_it(owned: tuple[Path, FakeOwner]) -> None:
    home, owner = owned
    store = ShortStore(places(home), "a test")
    owner.answer_503 = 1
    refused, taken = store.append([([FORM], "a"), ([FORM], "b")])
    store.close()
    assert isinstance(refused, QueueUnavailable) and "disk is full" in str(refused)
    assert taken == [1]


def test_an_owner_that_is_lost_leaves_it_unknown(
    owned: tuple[Path, FakeOwner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short, "LOCK_WAIT", 0.2)
    home, owner = owned
    owner.drop_answers = 10**6
    with Recorder(home) as recorder, pytest.raises(QueueUnavailable, match="unknown"):
        recorder.record(EVENT)


def test_a_program_goes_on_by_itself_when_the_owner_has_ended(short_folder: Path) -> None:
    home = recording_home(short_folder)
    with Recorder(home) as recorder:
        assert recorder.record(EVENT) == 1
        owner = FakeOwner(home)
        owner.next_id = 2
        with holder(home):
            assert recorder.record(EVENT) == 2
        owner.close()
        # (What the fake owner was given is in no queue.)
        assert recorder.record(EVENT) == 2
    assert SQLiteReader(places(home).database).books().recorded == 2


def test_programs_take_turns(short_folder: Path) -> None:
    """Several processes record at once, each with its own recorder; no id is lost or given twice."""
    from support.storage import Said, command, environment

    home = recording_home(short_folder)
    with Process(command(home, "--threads", "3", "--count", "40", "--name", "a"), environment()) as one:
        with Process(command(home, "--threads", "3", "--count", "40", "--name", "b"), environment()) as two:
            with Process(command(home, "--count", "40", "--name", "c", "--as", "async"), environment()) as three:
                said = [p for p in (one, two, three) if p.wait(120) == 0]
                acknowledged = {n: i for p in said for n, i in Said.in_text(p.output).acknowledged.items()}
    assert len(acknowledged) == 280
    assert stored(home) == acknowledged


def test_the_lock_is_given_back_between_groups(short_folder: Path) -> None:
    home = recording_home(short_folder)
    with Recorder(home) as recorder:
        recorder.record(EVENT)
        take_soon(Lock(places(home).lock, "mailvane run"))  # by the writer's thread, right after its answer
