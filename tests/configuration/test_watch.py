"""The legacy file as it changes under a running processor."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailvane.configuration.watch import CONFIRM_AFTER, LegacyFile
from mailvane.processor.plan import Plan


@dataclass
class HeldClock:
    now: float = 1000.0

    def wall(self) -> float:
        return self.now + 5e8

    def monotonic(self) -> float:
        return self.now


def text(path: str) -> str:
    return (
        '{"event_destinations": [{"matches": {"all": true}, "destination": '
        f'{{"type": "http_post", "url": "http://h/{path}"}}}}]}}'
    )


def names(plan: Plan | None) -> list[str]:
    return [] if plan is None else [route.name for route in plan.routes]


A, B = text("a"), text("bb")


def put(path: Path, content: str | bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(new, path)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "event_processor.json"


def test_a_good_file_gives_a_plan_once_and_its_text_to_keep(path: Path, clock: HeldClock):
    path.write_text(A)
    file = LegacyFile(path, None, clock)
    first = file.look()
    assert (names(first.plan), first.changed, first.keep, first.state.kind) == (
        ["http_post http://h/a"],
        True,
        A,
        "current",
    )
    again = file.look()
    assert (again.plan, again.changed, again.keep) == (first.plan, False, None)
    clock.now += 1
    assert not file.look().changed
    put(path, B)
    third = file.look()
    assert (names(third.plan), third.changed, third.keep) == (["http_post http://h/bb"], True, B)


def test_a_look_reads_nothing_when_nothing_changed(path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch):
    path.write_text(A)
    file = LegacyFile(path, None, clock)
    file.look()
    clock.now += 1
    file.look()
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("the file was opened"))
    for _ in range(3):
        clock.now += 1
        assert names(file.look().plan) == ["http_post http://h/a"]


BROKEN = [b"", b"{", A[:-1].encode(), b"\xff", b'{"event_destinations": []}', b"[" * 100_000, b" " * 2_000_000]


@pytest.mark.parametrize("broken", BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_c1_a_broken_file_keeps_the_last_good_and_is_told_once(path: Path, clock: HeldClock, broken: bytes):
    path.write_text(A)
    file = LegacyFile(path, None, clock)
    good = file.look()
    clock.now += 60
    put(path, broken)
    bad = file.look()
    assert (bad.plan, bad.changed, bad.keep) == (good.plan, True, None)
    assert (bad.state.kind, bad.state.since) == ("stale", clock.wall())
    assert bad.state.report.startswith(f"{path}")
    since = clock.wall()
    for _ in range(3):
        clock.now += 60
        still = file.look()
        assert (still.plan, still.changed, still.state.since) == (good.plan, False, since)
    # Another break is told, and stale counts from the first.
    put(path, "{ other")
    assert file.look().changed and file.look().state.since == since
    put(path, A)
    back = file.look()
    assert (back.changed, back.state.kind, back.keep) == (True, "current", None)


def test_c1_a_missing_file_keeps_the_last_good(path: Path, clock: HeldClock):
    path.write_text(A)
    file = LegacyFile(path, None, clock)
    good = file.look()
    path.unlink()
    gone = file.look()
    assert (gone.plan, gone.changed, gone.state.kind) == (good.plan, True, "stale")
    assert "is not there" in gone.state.report
    assert not file.look().changed


def test_c1_written_slowly_in_place(path: Path, clock: HeldClock):
    path.write_text(A)
    file = LegacyFile(path, None, clock)
    good = file.look()
    with open(path, "w", encoding="utf-8") as writer:
        for character in B:
            assert file.look().plan == good.plan
            writer.write(character)
            writer.flush()
            clock.now += 0.01
    assert names(file.look().plan) == ["http_post http://h/bb"]


def test_two_edits_in_one_tick_of_the_file_systems_clock(path: Path, clock: HeldClock):
    path.write_text(text("a"))
    file = LegacyFile(path, None, clock)
    file.look()
    times = path.stat()
    # The same size and, made so here for certain, the same times: only reading again shows it.
    with open(path, "r+", encoding="utf-8") as writer:
        writer.write(text("z"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    file._seen = file._fingerprints()  # as if the change of inode had fallen into the same tick
    assert names(file.look().plan) == ["http_post http://h/a"]
    clock.now += CONFIRM_AFTER
    assert names(file.look().plan) == ["http_post http://h/z"]


def test_a_restart_over_a_broken_file_goes_on_with_the_kept_text(path: Path, clock: HeldClock):
    path.write_text("{ half")
    file = LegacyFile(path, A, clock)
    look = file.look()
    assert (names(look.plan), look.changed, look.keep) == (["http_post http://h/a"], True, None)
    assert (look.state.kind, look.state.since) == ("stale", clock.wall())
    put(path, A)
    assert file.look().keep is None


def test_c1_a_new_process_tells_since_when_the_file_it_finds_is_broken(path: Path, clock: HeldClock):
    path.write_text("{ half")
    written = clock.wall() - 3600
    os.utime(path, (written, written))
    file = LegacyFile(path, A, clock)
    assert (file.look().state.kind, file.look().state.since) == ("stale", written)
    # What breaks under its eyes is broken since now, whatever time the file has.
    put(path, A)
    assert file.look().state.kind == "current"
    put(path, "{ other")
    os.utime(path, (written, written))
    assert file.look().state.since == clock.wall()


def test_a_good_file_whose_secret_is_away_is_stale_since_that_was_seen(path: Path, tmp_path: Path, clock: HeldClock):
    text = A.replace("http://h/a", f"@file:{tmp_path}/away")
    path.write_text(text)
    os.utime(path, (clock.wall() - 3600, clock.wall() - 3600))
    state = LegacyFile(path, text, clock).look().state
    assert (state.kind, state.since) == ("stale", clock.wall())


def test_a_kept_text_that_is_no_longer_good_is_no_plan_and_says_so(path: Path, clock: HeldClock):
    path.write_text("{ half")
    look = LegacyFile(path, '{"event_destinations": []}', clock).look()
    assert (look.plan, look.state.kind) == (None, "none")
    assert f"{path}:1:3" in look.state.report and "kept:1:24" in look.state.report


def test_neither_file_nor_kept_text(path: Path, clock: HeldClock):
    look = LegacyFile(path, None, clock).look()
    assert (look.plan, look.state.kind, look.changed) == (None, "none", True)
    assert "is not there" in look.state.report


def test_c4_a_swapped_link_is_followed(path: Path, tmp_path: Path, clock: HeldClock):
    (tmp_path / "one").write_text(A)
    (tmp_path / "two").write_text(B)
    path.symlink_to("one")
    file = LegacyFile(path, None, clock)
    assert names(file.look().plan) == ["http_post http://h/a"]
    (tmp_path / "link").symlink_to("two")
    os.replace(tmp_path / "link", path)
    assert names(file.look().plan) == ["http_post http://h/bb"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.symlink_to("nowhere"), "a symbolic link that leads nowhere"),
        (lambda p: p.symlink_to(p.name), "leads in a circle"),
        (lambda p: p.mkdir(), "is a folder, no regular file"),
        (os.mkfifo, "is a FIFO, no regular file"),
        (lambda p: p.symlink_to("/dev/zero"), "no regular file"),
    ],
)
def test_c4_what_is_no_file_is_refused_without_waiting(path: Path, clock: HeldClock, make, words: str):
    path.write_text(A)
    file = LegacyFile(path, None, clock)
    good = file.look()
    path.unlink()
    make(path)
    look = file.look()
    assert (look.plan, look.state.kind) == (good.plan, "stale") and words in look.state.report


def test_c4_others_who_can_write_it_are_warned_of(path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch):
    path.write_text(A)
    path.chmod(0o666)
    file = LegacyFile(path, None, clock)
    (warning,) = file.look().warnings
    assert "written by every user" in warning
    path.chmod(0o644)
    safe = file.look()
    assert safe.changed and not safe.warnings
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        os.utime(path)
    (warning,) = file.look().warnings
    assert "belongs to another user" in warning


def test_c10_a_run_goes_by_one_snapshot(path: Path):
    put(path, A)
    file = LegacyFile(path)
    file.look()  # a good one, before anybody edits
    stop = threading.Event()

    def edit() -> None:
        while not stop.is_set():
            put(path, B)
            put(path, "{ half")
            put(path, A)

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        for _ in range(2_000):
            look = file.look()
            before = names(look.plan)
            file.look()
            assert names(look.plan) == before and before in (["http_post http://h/a"], ["http_post http://h/bb"])
    finally:
        stop.set()
        editor.join()
    assert names(file.look().plan) == ["http_post http://h/a"]


def test_a_secret_that_comes_back_makes_the_file_good(path: Path, tmp_path: Path, clock: HeldClock):
    secret = tmp_path / "hook"
    by_reference = A.replace("http://h/a", f"@file:{secret}")
    path.write_text(by_reference)
    file = LegacyFile(path, A, clock)
    assert file.look().state.kind == "stale" and f"@file:{secret}" in file.look().state.report
    secret.write_text("http://h/canary")
    look = file.look()
    assert (look.state.kind, look.keep) == ("current", by_reference)
    # A new process goes on by the kept text even while the secret is away.
    secret.unlink()
    assert names(LegacyFile(path, by_reference, clock).look().plan) == [f"http_post @file:{secret}"]
