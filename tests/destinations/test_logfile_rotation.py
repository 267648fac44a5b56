"""Older log files: when a file is moved aside, what it is called, what stays; and a kill in between loses nothing."""

import asyncio
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailvane.destinations.contract import LogFile, Outgoing
from mailvane.destinations.logfile import LogFileDestination
from mailvane.destinations.logfile_file import AppendedFile
from mailvane.destinations.logfile_rotation import Older, due, next_name, older, rotate, tidy

DAY = 86_400
NOON = 1_790_000_000 // DAY * DAY + DAY // 2


class Clock:
    """In the test's hand."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return time.monotonic()


class Log:
    """Writes to a log file, one event at a time, and waits until the older ones are in order."""

    def __init__(self, path: Path, **spec: int | bool) -> None:
        self.path = path
        self.clock = Clock()
        self.spec = LogFile(str(path), **spec)  # type: ignore[arg-type]
        self.destination = LogFileDestination(self.spec, clock=self.clock, reveal=str)

    async def write(self, *ids: int, size: int = 900) -> None:
        for i in ids:
            told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            event = Outgoing(i, 1, f'"bounce_text":"{"x" * size}"', "", size)
            self.destination.send([event], lambda _, outcomes, told=told: told.set_result(outcomes[0].delivered))
            assert await asyncio.wait_for(told, 30)
            tidying = self.destination._disk._tidying
            if tidying is not None:
                await asyncio.to_thread(tidying.join, 30)

    def names(self) -> list[str]:
        return [o.of(self.path.name) for o in older(str(self.path))]


def lines_of(path: Path) -> list[int]:
    """The ids in all files, oldest first, each file once; each line whole."""
    found: list[int] = []
    for old in reversed(older(str(path))):
        plain = Path(old.of(str(path)))
        packed = plain.with_name(plain.name + ".gz")
        # Beside a compressed one of the same name: killed before it was removed.
        data = (
            plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes()) if packed.exists() else b""
        )
        found += _ids(data)
    return found + (_ids(path.read_bytes()) if path.exists() else [])


def _ids(data: bytes) -> list[int]:
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["id"] for line in data.splitlines()]


@pytest.mark.parametrize(
    ("spec", "size", "coming", "days", "is_due"),
    [
        (LogFile("x"), 10**12, 1, 400, False),
        (LogFile("x", rotate_bytes=1_000), 0, 5_000, 0, False),  # an empty file is never moved: nothing would be gained
        (LogFile("x", rotate_bytes=1_000), 900, 100, 0, False),
        (LogFile("x", rotate_bytes=1_000), 900, 101, 0, True),
        (LogFile("x", rotate_daily=True), 900, 100, 0.4, False),
        (LogFile("x", rotate_daily=True), 900, 100, 0.6, True),
        (LogFile("x", rotate_daily=True), 0, 100, 2, False),
        (LogFile("x", rotate_daily=True), 900, 100, -1, False),  # the clock was set back
    ],
)
def test_when_it_is_due(spec: LogFile, size: int, coming: int, days: float, is_due: bool):
    assert due(spec, size, coming, NOON, NOON + days * DAY) is is_due
    assert not due(spec, size, 0, 0.0, NOON) or spec.rotate_bytes, "nobody knows when it was written"


def test_names_ascend_whatever_the_clock_does():
    first = next_name([], NOON)
    assert first == Older("20260921-120000") and first.of("/a/x.log") == "/a/x.log.20260921-120000"
    second = next_name([first], NOON)
    assert second.of("x.log") == "x.log.20260921-120000-2"
    assert next_name([first, second], NOON - 10 * DAY) == Older(first.stamp, 3)
    assert next_name([second, first], NOON + 1) == Older("20260921-120001")


def test_only_our_own_names_are_older_files(tmp_path: Path):
    for name in (
        *("x.log.20260921-120000.gz", "x.log.20260921-120000-10", "x.log.20260921-120000-9", "x.log.20260920-000000"),
        *("x.log", "x.log.1", "x.log.20260921", "x.log.20260921-120000.bz2", "y.log.20260921-120000", "x.log.gz"),
    ):
        (tmp_path / name).touch()
    path = str(tmp_path / "x.log")
    assert [o.of("x") for o in older(path)] == [
        *("x.20260921-120000-10", "x.20260921-120000-9", "x.20260921-120000", "x.20260920-000000")
    ]


def test_by_size_the_youngest_stays_plain_and_the_oldest_go(tmp_path: Path):
    path = tmp_path / "events.log"

    async def main() -> None:
        log = Log(path, rotate_bytes=2_000, keep=3)
        await log.write(1, 2)
        os.chmod(path, 0o600)
        assert log.names() == []
        await log.write(*range(3, 12))
        await log.destination.close()

    asyncio.run(main())
    assert lines_of(path) == list(range(5, 12)), "the file, and three older ones of two each"
    names = sorted(p.name for p in tmp_path.iterdir())
    stamp = "events.log.20260921-120000"
    assert names == ["events.log", f"{stamp}-3.gz", f"{stamp}-4.gz", f"{stamp}-5"]
    packed = tmp_path / f"{stamp}-3.gz"
    assert stat.S_IMODE(packed.stat().st_mode) == stat.S_IMODE((tmp_path / f"{stamp}-5").stat().st_mode)


def test_by_day_also_what_an_earlier_process_left(tmp_path: Path):
    path = tmp_path / "events.log"

    async def main() -> None:
        log = Log(path, rotate_daily=True, compress=False, keep=7)
        await log.write(1)
        log.clock.now += DAY / 2 - 1  # 23:59:59
        await log.write(2)
        assert log.names() == []
        log.clock.now += 1
        await log.write(3, 4)
        assert log.names() == ["events.log.20260922-000000"]
        await log.destination.close()
        os.utime(path, (log.clock.now, log.clock.now))
        later = Log(path, rotate_daily=True, compress=False)
        later.clock.now = log.clock.now + 2 * DAY
        await later.write(5)
        assert later.names() == ["events.log.20260924-000000", "events.log.20260922-000000"]
        await later.destination.close()

    asyncio.run(main())
    assert lines_of(path) == [1, 2, 3, 4, 5]
    assert not list(tmp_path.glob("*.gz"))


def test_a_file_that_cannot_be_moved_grows_and_no_line_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "events.log"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    async def main() -> None:
        log = Log(path, rotate_bytes=1_000)
        with monkeypatch.context() as broken:
            broken.setattr(os, "rename", refuse)
            await log.write(*range(1, 6))
        assert log.names() == [] and lines_of(path) == [1, 2, 3, 4, 5]
        assert caplog.text.count("cannot be rotated, it grows on: Permission denied") == 1
        await log.write(6)
        assert len(log.names()) == 1
        await log.destination.close()

    asyncio.run(main())
    assert lines_of(path) == [1, 2, 3, 4, 5, 6]


def test_a_file_that_somebody_still_writes_is_not_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.log"
    for i in range(3):
        path.write_bytes(b'{"id":%d}\n' % i)
        rotate(str(path), NOON + i)
    real = gzip.GzipFile.write

    def write(self: gzip.GzipFile, data: bytes) -> int:
        if self.name == "x.log.20260921-120000":
            with (tmp_path / self.name).open("ab") as file:
                file.write(b'{"id":77}\n')
        return real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(gzip.GzipFile, "write", write)
        tidy(str(path), LogFile(str(path), rotate_daily=True))
    assert lines_of(path) == [0, 77, 1, 2]
    tidy(str(path), LogFile(str(path), rotate_daily=True))
    assert lines_of(path) == [0, 77, 1, 2]
    assert len(list(tmp_path.glob("*.gz"))) == 2 and not list(tmp_path.glob("*.part"))


KILLED = """
import os, signal, sys
from mailvane.destinations.contract import LogFile
from mailvane.destinations.logfile_file import AppendedFile
from mailvane.destinations.logfile_rotation import rotate, tidy

path, at = sys.argv[1], int(sys.argv[2])
count = 0

def hook(event, arguments):
    global count
    if event in {"open", "os.rename", "os.remove", "os.chmod", "os.utime", "os.listdir", "os.truncate"}:
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

file = AppendedFile(path)
written = 0
sys.addaudithook(hook)
for second in range(2):
    file.ready()
    for _ in range(2):
        written += 1
        file.append(b'{"id":%d,"x":"%s"}\\n' % (written, b"x" * 200))
        print(written, flush=True)
    rotate(path, 1_790_000_000 + second)
    file.ready()
    tidy(path, LogFile(path, rotate_daily=True, keep=1_000))
"""


def kill_at(path: Path, point: int) -> tuple[bool, list[int]]:
    """Whether it was killed, and what it had acknowledged."""
    command = [sys.executable, "-c", KILLED, str(path), str(point)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode in {0, -signal.SIGKILL}, told.stderr
    return told.returncode != 0, [int(word) for word in told.stdout.split()]


def test_d4_killed_anywhere_in_the_middle_of_rotating_no_line_is_lost_or_doubled(tmp_path: Path):
    point, killed = 0, True
    while killed:
        point += 1
        path = tmp_path / str(point) / "events.log"
        path.parent.mkdir()
        killed, acknowledged = kill_at(path, point)
        assert lines_of(path) == acknowledged
        # Another process goes on with what is there.
        file = AppendedFile(str(path))
        for second in (10, 20):
            file.ready()
            acknowledged.append(100 + second)
            file.append(b'{"id":%d}\n' % (100 + second))
            rotate(str(path), 1_790_000_000 + second)
            tidy(str(path), LogFile(str(path), rotate_daily=True, keep=100))
        file.close()
        assert lines_of(path) == acknowledged
        assert not list(path.parent.glob("*.part")), "what was not finished is gone"
        youngest, *others = [Path(o.of(str(path))) for o in older(str(path))]
        assert youngest.exists() and not any(o.exists() for o in others), "what had not been compressed is"
    assert point > 20, "each step was one"
