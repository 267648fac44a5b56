"""A log file takes whole lines that are on disk, and whatever else stands at its path is kept and told."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.clock import SystemClock
from mailvane.configuration.secrets import resolve_secret
from mailvane.destinations import logfile, logfile_file
from mailvane.destinations.contract import Failure, LogFile, Outcome, Outgoing
from mailvane.destinations.logfile import LogFileDestination, lines_of
from mailvane.destinations.logfile_file import look
from mailvane.events.codecs import legacy_values
from support.tmpfs import Tmpfs

WHOLE = b'{"id":1,"event_type":"scomp"}\n'


def outgoing(event_id: int, text: str = "x") -> Outgoing:
    body = '"event_type":"scomp","email":"user@example.com","bounce_text":' + msgspec.json.encode(text).decode()
    return Outgoing(event_id, 1, body, "", len(body))


class Writing:
    """A log file, and what became of what was sent to it."""

    def __init__(self, filename: Path | str) -> None:
        self.destination = LogFileDestination(LogFile(str(filename)), clock=SystemClock(), reveal=resolve_secret)

    async def send(self, *ids: int, text: str = "x") -> Outcome:
        """One batch; each event of it has the same outcome."""
        told: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        batch = [outgoing(i, text) for i in ids]

        def done(events: object, outcomes: object) -> None:
            assert events is batch
            told.set_result(list(outcomes))  # type: ignore[call-overload]

        self.destination.send(batch, done)
        outcomes = await asyncio.wait_for(told, 30)
        assert len(outcomes) == len(ids) and len(set(map(str, outcomes))) == 1
        return outcomes[0]


def writing(filename: Path | str, test: Callable[[Writing], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        w = Writing(filename)
        try:
            await test(w)
        finally:
            await w.destination.close()

    asyncio.run(main())


def ids_in(path: Path) -> list[int]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["id"] for line in data.split(b"\n")[:-1]]


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_d21_a_line_is_the_legacy_object_and_has_no_line_end_inside(texts: list[str]):
    texts = [t.encode("utf-8", "ignore").decode() + "\u2028 \x85 \r\n \x0b \x1e" for t in texts]
    batch = [outgoing(i, text) for i, text in enumerate(texts, 1)]
    data = lines_of(batch)
    assert data.endswith(b"\n") and data.count(b"\n") == len(texts)
    lines = data.decode().splitlines()  # the strictest reader: ends a line at a dozen characters
    assert len(lines) == len(texts)
    for line, event, text in zip(lines, batch, texts, strict=True):
        read = json.loads(line)
        assert read["bounce_text"] == text
        assert read.items() <= legacy_values(event.id, event.body).items()


def test_lines_are_appended_and_the_file_is_not_for_everybody(tmp_path: Path):
    path = tmp_path / "events.log"

    async def test(w: Writing) -> None:
        assert (await w.send(1, 2)).delivered
        assert (await w.send(3)).delivered
        assert ids_in(path) == [1, 2, 3]
        assert stat.S_IMODE(path.stat().st_mode) == 0o640 & ~_umask()
        assert path.read_bytes().split(b"\n")[0] == b'{"id":1,' + outgoing(1).body.encode() + b"}"

    writing(path, test)


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def test_what_comes_together_is_synced_together_and_answered_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "events.log"
    synced: list[int] = []
    real = os.fdatasync

    def sync(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", sync)

    async def test(w: Writing) -> None:
        async def send(i: int) -> None:
            assert (await w.send(i)).delivered
            assert synced and synced[-1] >= len(lines_of([outgoing(n) for n in range(1, i + 1)]))

        await asyncio.gather(*(send(i) for i in range(1, 501)))
        assert ids_in(path) == list(range(1, 501))
        assert len(synced) < 10

    writing(path, test)


@pytest.mark.parametrize("torn", [b"{", b'{"id":2,"event_type":"sc', WHOLE[:-1], b"\0" * 100])
@pytest.mark.parametrize("before", [b"", WHOLE, WHOLE * 5_000])
def test_d21_a_line_that_a_crash_tore_is_cut_off_before_the_next(
    tmp_path: Path, torn: bytes, before: bytes, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "events.log"
    path.write_bytes(before + torn)

    async def test(w: Writing) -> None:
        assert (await w.send(3)).delivered
        assert path.read_bytes() == before + lines_of([outgoing(3)])

    writing(path, test)
    assert f"{len(torn)} bytes of a line that was not finished are cut off behind byte {len(before)}" in caplog.text
    if torn.startswith(b"{"):
        assert torn.decode() in caplog.text, "what was cut is in the log"


@pytest.mark.parametrize("tail", [b"a note without an end", b'{"id":' + b"9" * (5 * 1024 * 1024)])
def test_d21_what_is_not_ours_is_never_cut(tmp_path: Path, tail: bytes):
    path = tmp_path / "events.log"
    path.write_bytes(WHOLE + tail)

    async def test(w: Writing) -> None:
        assert (await w.send(3)).delivered
        assert path.read_bytes() == WHOLE + tail + b"\n" + lines_of([outgoing(3)])

    writing(path, test)


def test_d21_a_line_that_somebody_is_writing_right_now_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "events.log"
    path.write_bytes(WHOLE + WHOLE[:9])

    def they_go_on(_: float) -> None:
        with path.open("ab") as file:
            file.write(WHOLE[9:])

    monkeypatch.setattr(logfile_file.time, "sleep", they_go_on)

    async def test(w: Writing) -> None:
        assert (await w.send(3)).delivered
        assert path.read_bytes() == WHOLE * 2 + lines_of([outgoing(3)])

    writing(path, test)


def test_d20_logrotate_moves_it_and_the_next_line_goes_into_a_new_one(tmp_path: Path):
    path, moved = tmp_path / "events.log", tmp_path / "events.log.1"

    async def test(w: Writing) -> None:
        await w.send(1)
        path.rename(moved)
        assert (await w.send(2)).delivered
        assert (ids_in(moved), ids_in(path)) == ([1], [2])
        path.rename(tmp_path / "events.log.2")  # and makes the new one itself
        path.touch(0o600)
        assert (await w.send(3)).delivered
        assert ids_in(path) == [3] and stat.S_IMODE(path.stat().st_mode) == 0o600
        path.unlink()
        assert (await w.send(4)).delivered
        assert ids_in(path) == [4]

    writing(path, test)


def test_d20_logrotate_truncates_it(tmp_path: Path):
    path = tmp_path / "events.log"

    async def test(w: Writing) -> None:
        await w.send(*range(1, 100))
        os.truncate(path, 0)  # copytruncate
        assert (await w.send(100)).delivered
        assert ids_in(path) == [100], "no hole where the old lines were"

    writing(path, test)


def test_d20_reopen_lets_go_of_a_file_that_was_moved(tmp_path: Path):
    path, moved = tmp_path / "events.log", tmp_path / "moved"

    def open_here() -> bool:
        links = (os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
        return str(moved) in {os.readlink(link) for link in links if os.path.lexists(link)}

    async def test(w: Writing) -> None:
        await w.send(1)
        path.rename(moved)
        assert open_here()
        w.destination.reopen()
        end = asyncio.get_running_loop().time() + 30
        while open_here():
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.01)
        assert not path.exists(), "the next line makes it"
        assert (await w.send(2)).delivered

    writing(path, test)


def _nothing(path: Path) -> None:
    path.parent.rmdir()


def _link(path: Path) -> None:
    victim = path.parent.parent / "victim"
    victim.write_bytes(b"precious\n")
    path.symlink_to(victim)


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent.parent / "not-there")


def _hard_link(path: Path) -> None:
    victim = path.parent.parent / "victim"
    victim.write_bytes(b"precious\n")
    path.hardlink_to(victim)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (_nothing, "the folder .* is not there; make it"),
    "fifo": (os.mkfifo, "is a FIFO, which keeps nothing"),
    "folder": (Path.mkdir, "is a folder"),
    "socket": (_socket, "is a device or a socket"),
    "link": (_link, "is a symbolic link, which is not followed"),
    "dangling link": (_dangling, "is a symbolic link, which is not followed"),
    "hard link": (_hard_link, "has 2 names"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_d20_what_is_not_a_file_of_ours_is_told_left_alone_and_tried_again(short_folder: Path, what: str):
    make, why = STRANGE[what]
    (short_folder / "log").mkdir()
    path = short_folder / "log" / "events.log"
    make(path)

    async def test(w: Writing) -> None:
        async with asyncio.timeout(30):
            outcome = await w.send(1, 2)
        assert outcome.failure is Failure.UNWRITABLE
        assert str(path) in outcome.text
        with pytest.raises(AssertionError, match=why):
            raise AssertionError(outcome.text)
        assert (look(str(path)) and look(str(path)) in outcome.text) or what == "no folder"
        if (victim := short_folder / "victim").exists():
            assert victim.read_bytes() == b"precious\n"
        assert not (short_folder / "not-there").exists()
        if what == "no folder":
            path.parent.mkdir()
        else:
            path.rmdir() if what == "folder" else path.unlink()
        assert (await w.send(1, 2)).delivered and ids_in(path) == [1, 2]
        assert look(str(path)) == ""

    writing(path, test)


def test_d20_the_file_of_another_user_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "events.log"
    path.write_bytes(b"")
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    async def test(w: Writing) -> None:
        outcome = await w.send(1)
        assert outcome.failure is Failure.UNWRITABLE and "belongs to user" in outcome.text
        assert path.read_bytes() == b""

    writing(path, test)


def test_links_among_the_folders_are_followed(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "log").symlink_to(tmp_path / "disk")

    async def test(w: Writing) -> None:
        assert (await w.send(1)).delivered

    writing(tmp_path / "log" / "events.log", test)
    assert ids_in(tmp_path / "disk" / "events.log") == [1]


FILLS = """
import asyncio, json, sys
from pathlib import Path
from mailvane.clock import SystemClock
from mailvane.destinations.contract import LogFile, Outgoing
from mailvane.destinations.logfile import LogFileDestination

async def main(path):
    destination = LogFileDestination(LogFile(path), clock=SystemClock(), reveal=str)
    acknowledged, at, errors = [], 1, []
    while len(errors) < 3:
        told = asyncio.get_running_loop().create_future()
        batch = [Outgoing(i, 1, '"bounce_text":"' + "x" * 900 + '"', "", 1) for i in range(at, at + 100)]
        at += 100
        destination.send(batch, lambda events, outcomes: told.set_result(outcomes[0]))
        outcome = await told
        if outcome.delivered:
            acknowledged += [event.id for event in batch]
        else:
            errors.append(outcome.text)
            if len(errors) == 2:
                (Path(path).parent / "junk").unlink()
            if len(errors) == 3:
                break
    await destination.close()
    lines = Path(path).read_bytes()
    assert lines.endswith(b"\\n")
    assert [json.loads(line)["id"] for line in lines.splitlines()] == acknowledged
    print(len(acknowledged), *errors, sep="\\n")

junk = Path(sys.argv[1]).parent / "junk"
junk.write_bytes(bytes(1_000_000))
asyncio.run(main(sys.argv[1]))
"""


def test_d20_on_a_full_disk_no_half_line_stays_and_it_goes_on_when_there_is_room(short_folder: Path):
    with Tmpfs(short_folder / "t", size="3m") as small:
        command = [*small.prefix, sys.executable, "-c", FILLS, str(small.folder / "events.log")]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stderr
    count, *errors = told.stdout.splitlines()
    assert int(count) > 2_000 and len(errors) == 3
    assert all("the disk is full; make room" in e for e in errors)


def test_a_sync_that_fails_acknowledges_nothing_and_takes_the_lines_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "events.log"
    real = os.fdatasync

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def test(w: Writing) -> None:
        await w.send(1)
        monkeypatch.setattr(os, "fdatasync", fails)
        outcome = await w.send(2, 3)
        assert outcome.failure is Failure.UNWRITABLE and "the disk is at fault" in outcome.text
        assert ids_in(path) == [1]
        monkeypatch.setattr(os, "fdatasync", real)
        assert (await w.send(2, 3)).delivered
        assert ids_in(path) == [1, 2, 3]

    writing(path, test)


def test_what_cannot_be_taken_back_at_once_is_taken_back_before_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "events.log"

    def fails(*_: int) -> None:
        raise OSError(5, "Input/output error")

    async def test(w: Writing) -> None:
        await w.send(1)
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", fails)
            broken.setattr(os, "ftruncate", fails)
            assert not (await w.send(2)).delivered
            assert not (await w.send(3)).delivered
        assert (await w.send(4)).delivered
        assert ids_in(path) == [1, 4]

    writing(path, test)


def test_lines_that_others_wrote_behind_a_failed_append_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "events.log"

    def others_come(fd: int) -> None:
        with path.open("ab") as file:
            file.write(b"theirs\n")
        raise OSError(5, "Input/output error")

    async def test(w: Writing) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", others_come)
            assert not (await w.send(1)).delivered
        assert path.read_bytes().endswith(b"theirs\n")

    writing(path, test)


def test_two_on_one_file_share_it_line_by_line(tmp_path: Path):
    path = tmp_path / "events.log"

    async def test(w: Writing) -> None:
        other = Writing(path)
        for i in range(1, 101):
            one, two = await asyncio.gather(w.send(i), other.send(1_000 + i))
            assert one.delivered and two.delivered
        await other.destination.close()
        assert sorted(ids_in(path)) == [*range(1, 101), *range(1_001, 1_101)]

    writing(path, test)


def test_the_filename_may_be_a_reference_that_is_followed_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    secret = tmp_path / "where"

    async def test(w: Writing) -> None:
        assert "leads to nothing" in (await w.send(1)).text
        for name in ("a.log", "b.log"):
            secret.write_text(f"{tmp_path / name}\n")
            assert (await w.send(1)).delivered
        secret.write_text("relative.log\n")
        assert "no absolute path" in (await w.send(2)).text

    writing(f"@file:{secret}", test)
    assert ids_in(tmp_path / "a.log") == ids_in(tmp_path / "b.log") == [1]


def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    go, hangs = threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        hangs.set()
        go.wait(60)

    monkeypatch.setattr(os, "fdatasync", hang)
    monkeypatch.setattr(logfile, "CLOSE_GRACE", 0.05)

    async def main() -> None:
        w = Writing(tmp_path / "events.log")
        first = asyncio.ensure_future(w.send(1))
        await asyncio.to_thread(hangs.wait, 30)
        second = asyncio.ensure_future(w.send(2))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await w.destination.close()
            assert {(await first).failure, (await second).failure} == {Failure.CLOSED}
            assert (await w.send(3)).failure is Failure.CLOSED
        go.set()

    asyncio.run(main())


def test_closing_lets_what_is_being_written_get_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    go, hangs = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd: int) -> None:
        hangs.set()
        go.wait(60)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)

    async def main() -> None:
        w = Writing(tmp_path / "events.log")
        first = asyncio.ensure_future(w.send(1))
        await asyncio.to_thread(hangs.wait, 30)
        second = asyncio.ensure_future(w.send(2))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(w.destination.close())
        await asyncio.sleep(0)
        go.set()
        await closing
        assert (await first).delivered and (await second).failure is Failure.CLOSED
        assert ids_in(tmp_path / "events.log") == [1]

    asyncio.run(main())
