"""A disk without room, or that cannot be written: D6, D7, D8."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailvane import Event, QueueUnavailable, Recorder
from support.storage import Said, command, environment, problems_of, recording_home, stored
from support.tmpfs import Tmpfs
from support.tools import tool

OWNER = Path(__file__).with_name("owner_program.py")


class Owner:
    """The process that owns the queue of a home, and what it answers."""

    def __init__(self, home: Path, prefix: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(OWNER), str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        assert self._process.stdout and self._process.stderr
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        return json.loads(line)

    def __call__(self, command: str, argument: int = 0) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([command, argument]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def append_until_refused(self) -> int:
        """How many events were taken until there was room for no more; none that was refused is there."""
        taken = 0
        while isinstance(answer := self("append", 20), list):
            taken += len(answer)
        assert "make room" in answer["unavailable"]
        return taken

    def refuses(self, command: str, argument: int = 0) -> str:
        answer = self(command, argument)
        assert isinstance(answer, dict), f"{command} was done: {answer}"
        return answer["unavailable"]

    def close(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def __enter__(self) -> "Owner":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def disk(short_folder: Path) -> Iterator[Tmpfs]:
    with Tmpfs(short_folder / "disk", size="4m") as disk:
        yield disk


@pytest.fixture
def home(disk: Tmpfs) -> Path:
    recording_home(disk.seen)
    return disk.folder / "h"


def fill(disk: Tmpfs) -> None:
    """Somebody else takes all the room there is."""
    with (disk.seen / "filler").open("ab", buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def make_room(disk: Tmpfs) -> None:
    (disk.seen / "filler").unlink()


def recorder_says(disk: Tmpfs, home: Path, *options: str) -> Said:
    done = subprocess.run(
        [*disk.prefix, *command(home, *options)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Said.in_text(done.stdout)


def looked_at(disk: Tmpfs, tmp_path: Path) -> Path:
    """A copy of the queue's files: SQLite finds no way through /proc to where they are."""
    for file in (disk.seen / "h").glob("queue.db*"):
        shutil.copy(file, tmp_path)
    return tmp_path


def ballast(disk: Tmpfs) -> Path:
    return disk.seen / "h" / "ballast"


def use_up_the_ballast(disk: Tmpfs, owner: Owner) -> None:
    """Outcomes are written for as long as the log's file has room, and then some more."""
    for _ in range(2000):
        assert owner("fail", 1) == 1
        if not ballast(disk).exists():
            return
    raise AssertionError("the ballast was never needed")


def test_d6_a_full_disk_refuses_events_and_keeps_those_it_has(disk: Tmpfs, home: Path, tmp_path: Path) -> None:
    with Owner(home, disk.prefix) as owner:
        acknowledged = owner.append_until_refused()
        assert acknowledged > 100
        assert owner("waiting") == acknowledged
        assert "make room" in owner.refuses("append", 20)
    with Owner(home, disk.prefix) as owner:
        assert owner("waiting") == acknowledged
    assert problems_of(looked_at(disk, tmp_path)) == []


def test_d6_a_program_gets_an_error_and_records_again_when_there_is_room(
    disk: Tmpfs, home: Path, tmp_path: Path
) -> None:
    before = recorder_says(disk, home, "--name", "before")
    fill(disk)
    during = recorder_says(disk, home, "--name", "during", "--padding", "4000", "--count", "40")
    assert during.refused
    assert all("room" in reason for reason in during.refused.values()), during.refused
    make_room(disk)
    after = recorder_says(disk, home, "--name", "after")
    assert not before.refused and not after.refused
    acknowledged = {*before.acknowledged, *during.acknowledged, *after.acknowledged}
    assert set(stored(looked_at(disk, tmp_path))) == acknowledged


def test_d6_a_disk_that_is_full_from_the_beginning(disk: Tmpfs, home: Path) -> None:
    fill(disk)
    said = recorder_says(disk, home)
    assert not said.acknowledged
    assert all("room" in reason for reason in said.refused.values()), said.refused
    make_room(disk)
    assert not recorder_says(disk, home).refused


def test_d7_what_was_delivered_can_be_removed_from_a_full_disk(disk: Tmpfs, home: Path, tmp_path: Path) -> None:
    with Owner(home, disk.prefix) as owner:
        owner("append", 600)
        assert ballast(disk).exists()
        fill(disk)
        more = owner.append_until_refused()
        assert owner("waiting") == 600 + more
        use_up_the_ballast(disk, owner)
        assert owner("settle", 400 + more) == 400 + more
        assert owner("waiting") == 200
        assert owner("full") is True
        assert not ballast(disk).exists()
        # While it is missing nothing is recorded, or recording would take the room that settling needs.
        assert "no room" in owner.refuses("append", 1)
        assert owner("fail", 100) == 100
        assert owner("settle", 150) == 150
        assert owner("waiting") == 50
        make_room(disk)
        assert len(owner("append", 10)) == 10
        assert owner("full") is False
        assert ballast(disk).exists()
        assert owner("settle", 60) == 60
    assert problems_of(looked_at(disk, tmp_path)) == []


def test_d7_on_a_full_disk_removing_comes_before_keeping(disk: Tmpfs, home: Path, tmp_path: Path) -> None:
    with Owner(home, disk.prefix) as owner:
        owner("keep", 3_600)
        owner("append", 600)
        assert owner("settle", 20) == 20 and owner("kept") == 20
        fill(disk)
        more = owner.append_until_refused()
        use_up_the_ballast(disk, owner)
        assert owner("settle", 400 + more) == 400 + more
        assert owner("waiting") == 180
        assert owner("kept") == 20
        assert owner("settle", 100) == 100 and owner("kept") == 20
        make_room(disk)
        assert len(owner("append", 10)) == 10
        assert owner("settle", 30) == 30 and owner("kept") == 50
    assert problems_of(looked_at(disk, tmp_path)) == []


def test_d7_upkeep_makes_the_ballast_again(disk: Tmpfs, home: Path) -> None:
    with Owner(home, disk.prefix) as owner:
        owner("append", 10)
        fill(disk)
        owner.append_until_refused()
        use_up_the_ballast(disk, owner)
        make_room(disk)
        owner("upkeep")
        assert ballast(disk).exists()


def test_d6_d17_a_queue_that_filled_its_disk_gives_the_room_back_by_itself(short_folder: Path, tmp_path: Path) -> None:
    """Nobody makes room: what it delivers does, and then it records again."""
    with Tmpfs(short_folder / "large", size="96m") as disk:
        recording_home(disk.seen)
        with Owner(disk.folder / "h", disk.prefix) as owner:
            taken = sum(len(owner("append", 4_000)) for _ in range(10))
            taken += owner.append_until_refused()
            use_up_the_ballast(disk, owner)
            assert owner("settle", taken - 100) == taken - 100
            owner("rest")
            assert (disk.seen / "h" / "queue.db").stat().st_size < 40 * 2**20
            assert ballast(disk).exists()
            assert len(owner("append", 500)) == 500
            assert owner("waiting") == 600
        assert problems_of(looked_at(disk, tmp_path)) == []


def test_d7_an_owner_that_starts_on_a_full_disk_can_settle(disk: Tmpfs, home: Path) -> None:
    with Owner(home, disk.prefix) as owner:
        owner("append", 600)
    fill(disk)
    with Owner(home, disk.prefix) as owner:
        assert owner("settle", 500) == 500
        assert owner("waiting") == 100
    with Owner(home, disk.prefix) as owner:
        assert owner("waiting") == 100


def test_d7_a_second_program_does_not_take_the_room_that_was_freed(disk: Tmpfs, home: Path) -> None:
    with Owner(home, disk.prefix) as owner:
        owner("append", 600)
        fill(disk)
        more = owner.append_until_refused()
        use_up_the_ballast(disk, owner)
        assert owner("settle", 300 + more) == 300 + more
    assert not ballast(disk).exists()
    fill(disk)
    filler = disk.seen / "filler"
    os.truncate(filler, filler.stat().st_size - 700_000)  # more than the ballast has, and less than twice of it
    said = recorder_says(disk, home, "--count", "5", "--padding", "10")
    assert not said.acknowledged and len(said.refused) == 5
    assert all("no room" in reason for reason in said.refused.values())
    with Owner(home, disk.prefix) as owner:
        assert owner("settle", 300) == 300
    make_room(disk)
    assert len(recorder_says(disk, home, "--count", "5").acknowledged) == 5
    assert ballast(disk).exists()


@contextmanager
def as_another_user() -> Iterator[None]:
    """Permissions do not bind root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_d8_a_home_that_is_not_ours_to_write(short_folder: Path) -> None:
    home = recording_home(short_folder)
    short_folder.chmod(0o755)
    home.chmod(0o755 if os.geteuid() == 0 else 0o555)
    event = Event(event_type="bounce_all", email="user@example.com")
    with Recorder(home) as recorder:
        with as_another_user(), pytest.raises(QueueUnavailable, match=r"queue\.lock: this user may not open it"):
            recorder.record(event)
        home.chmod(0o755)
        assert recorder.record(event) == 1


def test_d8_a_disk_that_is_read_only_by_now(disk: Tmpfs, home: Path, tmp_path: Path) -> None:
    before = recorder_says(disk, home, "--name", "before")

    def remount(how: str) -> None:
        subprocess.run(
            [*disk.prefix, tool("mount"), "-o", f"remount,{how}", str(disk.folder)], check=True, capture_output=True
        )

    remount("ro")
    during = recorder_says(disk, home, "--name", "during")
    assert not during.acknowledged
    assert all("read-only" in reason.lower() for reason in during.refused.values()), during.refused
    remount("rw")
    after = recorder_says(disk, home, "--name", "after")
    assert set(stored(looked_at(disk, tmp_path))) == {*before.acknowledged, *after.acknowledged}


def test_d8_a_limit_on_the_size_of_a_file_is_as_a_full_disk(short_folder: Path) -> None:
    home = recording_home(short_folder)
    subprocess.run(command(home, "--name", "before", "--count", "2"), check=True, capture_output=True)
    limit = 9 * 1024 * 1024  # the ballast may be made
    done = subprocess.run(
        command(home, "--count", "200", "--padding", "60000"), env=environment(), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)), check=True,
    )  # fmt: skip
    said = Said.in_text(done.stdout)
    assert said.acknowledged and said.refused
    assert all("make room" in reason for reason in said.refused.values())
    after = subprocess.run(command(home, "--name", "after"), check=True, capture_output=True, text=True)
    there = stored(home)
    assert {*said.acknowledged, *Said.in_text(after.stdout).acknowledged, "before-0-0", "before-0-1"} == set(there)


def test_a_ballast_is_made_once_and_only_where_there_is_room_for_it(short_folder: Path) -> None:
    from mailvane.queue.ballast import SIZE, Ballast

    one = Ballast(str(short_folder / "ballast"))
    assert one.make() and one.make()
    assert os.stat(one.path).st_size == SIZE
    assert os.stat(one.path).st_blocks * 512 >= SIZE
    threads = [threading.Thread(target=one.make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.free() and not one.free()
    assert os.listdir(short_folder) == []
