"""Mail is taken from real folders; only the queue is the test's."""

import asyncio
import os
import pwd
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailvane.bounces import BYTES_AT_MOST
from mailvane.errors import EventRejected, QueueUnavailable
from mailvane.events import Event
from mailvane.sources import mailboxes
from mailvane.sources.mailboxes import SET_ASIDE, MailTaker
from mailvane.sources.maildir import NewMail, NoMail

BOUNCE = (Path(__file__).parents[1] / "data/mta/postfix/pipe-send1-m1-5.1.1.eml").read_bytes()
ORDINARY = b"From: a@example.com\r\nSubject: hello\r\n\r\nhello\r\n"
PATIENCE = 20.0


class Clock:
    """The wall stands; intervals pass `skipped` seconds faster."""

    skipped = 0.0

    def wall(self) -> float:
        return 1_790_000_000.0

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped


@dataclass
class Queue:
    """Records as a queue does: a token that it knows adds nothing."""

    events: list[Event] = field(default_factory=list[Event])
    tokens: list[str] = field(default_factory=list[str])
    tries: list[float] = field(default_factory=list[float])
    trouble: Exception | None = None
    then: Callable[[], object] = lambda: None

    async def record(self, events: Sequence[Event], token: str) -> int:
        self.tries.append(time.monotonic())
        if self.trouble is not None:
            raise self.trouble
        if token not in self.tokens:
            self.tokens.append(token)
            self.events += events
        self.then()
        return len(events)

    @property
    def addresses(self) -> list[str]:
        return [event.email for event in self.events if event.event_type == "bounce_all"]


def maildir(path: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (path / name).mkdir(parents=True)
    return path


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return maildir(tmp_path / "mail")


def put(box: Path, name: str, mail: bytes = BOUNCE) -> Path:
    (box / "tmp" / name).write_bytes(mail)
    return (box / "tmp" / name).rename(box / "new" / name)


def bounce_of(user: str) -> bytes:
    return BOUNCE.replace(b"nouser@dest.test", user.encode() + b"@dest.test")


@dataclass
class Taking:
    """A taker that runs."""

    taker: MailTaker
    counted: list[str]
    clock: Clock

    async def until(self, so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not so():
                await asyncio.sleep(0.005)  # a folder tells nobody


def take(boxes: Sequence[Path], queue: Queue, *steps: Callable[[Taking], object]) -> Taking:
    """Runs a taker until each step is true, one after the other. What else a step does, it does at once."""

    async def run() -> Taking:
        counted: list[str] = []
        taking = Taking(MailTaker(boxes, queue.record, 1_000, clock := Clock(), counted.append), counted, clock)
        running = asyncio.create_task(taking.taker.run())
        for step in steps:
            await taking.until(lambda step=step: bool(step(taking)))
        await taking.taker.stop(PATIENCE)
        assert running.done() and running.exception() is None
        return taking

    return asyncio.run(run())


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def gone(box: Path) -> Callable[[Taking], bool]:
    return lambda taking: not names(box / "new")


def left(caplog: pytest.LogCaptureFixture, count: int) -> Callable[[Taking], bool]:
    return lambda taking: caplog.text.count("left alone") >= count


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mailvane")


# What becomes of mails


def test_the_oldest_come_first_and_a_mail_goes_when_its_events_are_recorded(box: Path) -> None:
    for seconds in (30, 100, 4):
        put(box, f"{seconds}.x", bounce_of(f"u{seconds}"))
    put(box, "copied by hand", bounce_of("hand"))
    os.utime(box / "new" / "copied by hand", (50, 50))
    queue = Queue()
    there: list[list[str]] = []
    queue.then = lambda: there.append(names(box / "new"))
    taking = take([box], queue, gone(box))
    assert queue.addresses == [f"{user}@dest.test" for user in ("u4", "u30", "hand", "u100")]
    assert [len(each) for each in there] == [4, 3, 2, 1], "a mail is there until its events are recorded"
    assert taking.counted == ["bounce"] * 4 and taking.taker.summary() == "bounce 4" and taking.taker.summary() == ""
    assert not (box / ".CouldNotProcess").exists()


def test_what_means_nothing_is_removed_with_a_line_in_the_log(box: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(box, "1.x", ORDINARY)
    put(box, "2.x", b"")
    put(box, "3.x", b"From: a@example.com\r\nAuto-Submitted: auto-replied\r\n\r\naway\r\n")
    taking = take([box], queue := Queue(), gone(box))
    assert taking.counted == ["none", "none", "auto_reply"] and not queue.tries
    assert caplog.text.count("removed, for it means nothing") == 3 and "new/3.x" in caplog.text


def test_the_address_it_was_delivered_to_tells_who_bounced(box: Path) -> None:
    letter = b"From: MAILER-DAEMON@mx.example.net\r\nSubject: failure notice\r\n\r\n550 5.1.1 User unknown\r\n"
    put(box, "1.x", b"Delivered-To: b-a1-s7-reader=example.com@bounces.example.net\r\n" + letter)
    take([box], queue := Queue(), gone(box))
    assert [(e.email, e.listid, e.sendid) for e in queue.events[:1]] == [("reader@example.com", "a1", "s7")]


def test_a_bounce_without_an_address_is_moved_aside(box: Path) -> None:
    put(box, "1.x", b"From: MAILER-DAEMON@mx.example.net\r\nSubject: failure notice\r\n\r\nit failed")
    taking = take([box], queue := Queue(), gone(box))
    assert names(box / ".CouldNotProcess" / "new") == ["1.x"] and taking.counted == [SET_ASIDE] and not queue.events
    assert names(box / ".CouldNotProcess") == ["cur", "maildirfolder", "new", "tmp"]


@pytest.mark.parametrize("error", [EventRejected("email", "is no address"), ZeroDivisionError("a defect")])
def test_what_cannot_be_processed_is_moved_aside_with_the_reason_and_overwrites_nothing(
    box: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    os.chmod(box / "new", 0o2770)
    queue = Queue(trouble=error)
    for _ in range(2):
        put(box, "1.x")
        take([box], queue, gone(box))
    aside = box / ".CouldNotProcess" / "new"
    assert names(aside) == ["1.x", "1.x.1"] and (aside / "1.x.1").read_bytes() == BOUNCE
    assert aside.stat().st_mode & 0o7777 == 0o2770, "who may use new may use it"
    assert str(error) in caplog.text
    (aside / "1.x").rename(box / "new" / "1.x")
    queue.trouble = None
    take([box], queue, gone(box))
    assert queue.addresses == ["nouser@dest.test"]


def test_of_a_huge_mail_the_beginning_is_read(box: Path) -> None:
    with (box / "new" / "1.x").open("wb") as file:
        file.write(BOUNCE)
        file.truncate(1 << 40)  # takes no room on the disk
    with NewMail(box) as new:
        assert len(new.read("1.x").raw) == BYTES_AT_MOST + 1
    take([box], queue := Queue(), gone(box))
    assert queue.addresses == ["nouser@dest.test"]


def test_many_events_of_one_mail_are_handed_over_together(box: Path) -> None:
    people = b"".join(
        b"\r\nFinal-Recipient: rfc822; u%d@dest.test\r\nAction: failed\r\nStatus: 5.1.1\r\n" % n for n in range(900)
    )
    head = b"From: MAILER-DAEMON@mx.example.net\r\nContent-Type: multipart/report; boundary=b\r\n\r\n"
    status = b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n" + people
    put(box, "1.x", head + status + b"\r\n--b--\r\n")
    take([box], queue := Queue(), gone(box))
    assert len(queue.addresses) == 900 and len(queue.tries) == 1


# What lies there and is no mail


def test_what_is_no_file_is_told_once_and_never_opened_and_the_rest_goes_on(
    box: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(BOUNCE)
    (box / "new" / "1.link").symlink_to(secret)
    (box / "new" / "2.nowhere").symlink_to(tmp_path / "nowhere")
    (box / "new" / "3.folder").mkdir()
    os.mkfifo(box / "new" / "4.fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(box / "new" / "5.socket"))
    (box / "new" / ".hidden").write_bytes(BOUNCE)
    put(box, "9.x", bounce_of("mail"))
    queue = Queue()

    def a_minute_later(taking: Taking) -> bool:
        taking.clock.skipped = 61.0
        put(box, "10.x", bounce_of("later"))
        return True

    take([box], queue, lambda t: len(queue.addresses) == 1, a_minute_later, lambda t: len(queue.addresses) == 2)
    assert queue.addresses == ["mail@dest.test", "later@dest.test"]
    assert names(box / "new") == [".hidden", "1.link", "2.nowhere", "3.folder", "4.fifo", "5.socket"]
    assert secret.exists()
    for what in ("1.link: left alone: it is a symbolic link", "3.folder: left alone: it is a folder", "a FIFO"):
        assert caplog.text.count(what) == 1, what
    with NewMail(box) as new, pytest.raises(NoMail):
        new.read("1.link")


def test_a_mail_takes_the_place_of_something_odd(box: Path, caplog: pytest.LogCaptureFixture) -> None:
    (box / "new" / "1.x").mkdir()

    def replaced(taking: Taking) -> bool:
        (box / "new" / "1.x").rmdir()
        put(box, "1.x")
        taking.clock.skipped = 61.0
        return True

    take([box], queue := Queue(), left(caplog, 1), replaced, gone(box))
    assert queue.addresses == ["nouser@dest.test"]


@pytest.mark.parametrize("how", ["missing", "no maildir", "new is a link", "new is a file"])
def test_a_folder_that_cannot_be_used_is_told_and_the_others_go_on(
    box: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    bad = tmp_path / "bad"
    other = maildir(tmp_path / "others")
    put(other, "1.x")
    if how != "missing":
        bad.mkdir()
    if how == "new is a link":
        (bad / "new").symlink_to(other / "new")
    if how == "new is a file":
        (bad / "new").touch()
    put(box, "1.x", bounce_of("good"))
    put(box, "2.x", bounce_of("good2"))
    queue = Queue()

    def mended(taking: Taking) -> bool:
        assert len(taking.taker.problems) == 1 and f"no mail is taken from {bad}" in taking.taker.problems[0]
        if (bad / "new").is_symlink() or (bad / "new").exists():
            (bad / "new").unlink()
        (bad / "new").mkdir(parents=True)
        (bad / "tmp").mkdir()
        put(bad, "1.x", bounce_of("mended"))
        taking.clock.skipped = 16.0
        return True

    taking = take([bad, box], queue, gone(box), mended, gone(bad))
    assert queue.addresses == ["good@dest.test", "good2@dest.test", "mended@dest.test"], how
    assert names(other / "new") == ["1.x"] and taking.taker.problems == []
    assert caplog.text.count("no mail is taken from") == 1 and f"mail is taken from {bad} again" in caplog.text


def as_nobody(act: Callable[[], object]) -> int:
    """Runs it as an unprivileged user in a process of its own: rights do not hold root back."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setegid(pwd.getpwnam("nobody").pw_gid)
                os.seteuid(pwd.getpwnam("nobody").pw_uid)
            act()
            status = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_we_may_not_read_stays_and_a_folder_that_we_may_not_empty_is_not_read(
    short_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.chmod(short_folder, 0o755)
    box, full = maildir(short_folder / "a"), maildir(short_folder / "b")
    os.chmod(box / "new", 0o777)
    os.chmod(full / "new", 0o755)
    os.chmod(put(box, "1.x"), 0o000)
    put(box, "2.x", bounce_of("readable"))
    put(full, "1.x")
    if os.geteuid() != 0:
        os.chmod(full / "new", 0o555)

    def act() -> None:
        queue = Queue()
        taking = take([full, box], queue, lambda t: bool(queue.events) and "2.x" not in names(box / "new"))
        assert queue.addresses == ["readable@dest.test"]
        assert "may not remove mails from" in taking.taker.problems[0]
        assert "1.x: left alone: it cannot be read (Permission denied)" in caplog.text

    assert as_nobody(act) == 0
    os.chmod(full / "new", 0o755)
    assert names(box / "new") == ["1.x"] and names(full / "new") == ["1.x"]


# When it ends, and when it cannot be recorded


def test_a_repeat_has_the_same_token_and_another_mail_of_the_same_name_has_another(box: Path) -> None:
    put(box, "1.x")
    with NewMail(box) as new:
        first, again = new.read("1.x").token, new.read("1.x").token
        new.remove("1.x")
        new.remove("1.x")
        os.utime(put(box, "1.x"), ns=(7, 7))
        assert first == again != new.read("1.x").token
    assert 1 <= len(first) <= 64


def test_what_is_recorded_and_cannot_be_removed_is_recorded_once(
    box: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(box, "1.x")
    queue = Queue()
    unlink = os.unlink
    stuck = True

    def fails(path: str, *, dir_fd: int | None = None) -> None:
        if stuck and path == "1.x":
            raise PermissionError(1, "Operation not permitted")
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", fails)

    def later(taking: Taking) -> bool:
        nonlocal stuck
        stuck = False
        taking.clock.skipped = 61.0
        return True

    take([box], queue, left(caplog, 1), later, gone(box))
    assert len(queue.tries) == 1 and "its events are recorded, but it cannot be removed" in caplog.text


def test_without_a_queue_mails_stay_and_are_tried_again_ever_more_rarely(
    box: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "QUEUE_WAITS", (0.05, 0.1, 0.2, 0.4))
    put(box, "1.x")
    put(box, "2.x", bounce_of("second"))
    queue = Queue(trouble=QueueUnavailable("the disk is full"))

    def back(taking: Taking) -> bool:
        assert names(box / "new") == ["1.x", "2.x"]
        queue.trouble = None
        return True

    take([box], queue, lambda t: len(queue.tries) == 5, back, gone(box))
    waits = [after - before for before, after in zip(queue.tries[:5], queue.tries[1:5], strict=False)]
    assert all(waited >= least for waited, least in zip(waits, (0.05, 0.1, 0.2, 0.4), strict=True)), waits
    assert queue.addresses == ["nouser@dest.test", "second@dest.test"]
    assert caplog.text.count("the disk is full") == 1 and caplog.text.count("mails are recorded again") == 1


def test_it_ends_at_once_while_the_queue_is_away_or_does_not_answer(box: Path) -> None:
    put(box, "1.x")

    async def run(queue_answers: bool) -> float:
        asked = asyncio.Event()

        async def record(events: Sequence[Event], token: str) -> int:
            asked.set()
            if queue_answers:
                raise QueueUnavailable("away")
            await asyncio.Event().wait()
            return 0

        taker = MailTaker([box], record, 1_000, Clock(), lambda kind: None)
        running = asyncio.create_task(taker.run())
        await asked.wait()
        began = time.monotonic()
        await taker.stop(0.2)
        await asyncio.wait([running], timeout=PATIENCE)
        assert running.done()
        return time.monotonic() - began

    assert asyncio.run(run(queue_answers=True)) < 5
    assert asyncio.run(run(queue_answers=False)) < 5
    assert names(box / "new") == ["1.x"]


def test_a_full_folder_lets_another_have_its_turn(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "TURN", 3)
    other = maildir(tmp_path / "other")
    for number in range(10):
        put(box, f"{number}.x", bounce_of(f"many{number}"))
    put(other, "1.x", bounce_of("one"))
    take([box, other], queue := Queue(), gone(box), gone(other))
    assert queue.addresses.index("one@dest.test") == 3 and len(queue.addresses) == 11


def test_m6_a_mail_that_patterns_take_ages_for_is_taken_in_the_loop_of_everything(box: Path) -> None:
    put(box, "1.x", b"From: MAILER-DAEMON@mx.example.net\r\nSubject: failure notice\r\n\r\n" + b"<" * 100_000)
    put(box, "2.x", bounce_of("after"))
    take([box], queue := Queue(), gone(box))
    assert queue.addresses == ["after@dest.test"]
