"""Mail is taken from a Maildir by `mailvane run`, in a process of its own and in one that does everything."""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from support.endpoint import Endpoint
from support.homes import LEAVES, Home, posts_to
from support.postgresql import PostgreSQL
from support.processes import Process
from support.tools import tool

BOUNCE = (Path(__file__).parents[1] / "data/mta/postfix/pipe-send1-m1-5.1.1.eml").read_bytes()
TYPES = ["bounce_all", "bounce_bad_address"]

MAILS = 80

MakeHome = Callable[..., Home]


def maildir(folder: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (folder / name).mkdir(parents=True)
    return folder


def deliver(box: Path, number: int, mail: bytes = b"") -> None:
    """As a mail server does: written aside, then moved to `new` as a whole."""
    name = f"{1_790_000_000 + number}.M{number}.mx"
    (box / "tmp" / name).write_bytes(mail or BOUNCE.replace(b"nouser@dest.test", b"u%d@dest.test" % number))
    (box / "tmp" / name).rename(box / "new" / name)


def wait_until(so: Callable[[], bool], process: Process, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end, f"not so within {seconds} s: {process}"
        time.sleep(0.01)  # a folder tells nobody


def empty(box: Path) -> Callable[[], bool]:
    return lambda: not os.listdir(box / "new")


def addresses(home: Home) -> list[str]:
    return sorted(f"{event['event_type']} {event['email']}" for event in home.waiting())


def test_a_process_of_its_own_takes_mail_beside_the_others_and_ends_when_it_is_told_to(
    make_home: MakeHome, queue: str
) -> None:
    home = make_home(legacy=LEAVES, enable=TYPES, queue=queue, conf="maildir mail")
    box = maildir(home.folder / "mail")
    others = [home.start("run", "--only", "web")]
    if queue:  # one in SQLite has one process
        others.append(home.start("processor"))
    for other in others:
        other.wait_for_output("ready: ")
    process = home.start("run", "--only", "mail")
    process.wait_for_output(rf"ready: mailvane run --only mail, process \d+, takes mail from {home.folder}/mail$")
    for number in range(5):
        deliver(box, number)
    wait_until(empty(box), process)
    assert addresses(home) == sorted(f"{kind} u{n}@dest.test" for n in range(5) for kind in TYPES)
    assert process.stop() == 0


def test_all_parts_in_one_process_take_count_and_deliver(make_home: MakeHome, endpoint: Endpoint, queue: str) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=TYPES, queue=queue, conf="maildir mail")
    box = maildir(home.folder / "mail")
    process = home.run()
    deliver(box, 1)
    deliver(box, 2, b"From: a@example.com\r\nSubject: hello\r\n\r\nhello\r\n")
    endpoint.wait_for_requests(2)
    process.wait_for_output(r"mail/new/1790000002\.M2\.mx: removed, for it means nothing: none: ")
    wait_until(empty(box), process)
    told = home.get("/metrics").body.decode()
    assert set(re.findall(r"^mailvane_mail_total.*", told, re.MULTILINE)) == {
        'mailvane_mail_total{kind="bounce"} 1.0',
        'mailvane_mail_total{kind="none"} 1.0',
    }
    shutil.rmtree(box / "new")
    status = home.wait_for_status(lambda status: bool(status["problems"]))
    assert f"no mail is taken from {box}: No such file or directory" in status["problems"][0]
    assert process.stop() == 0


def test_nothing_is_lost_and_nothing_comes_twice_when_it_is_killed_under_load(make_home: MakeHome, queue: str) -> None:
    home = make_home(legacy=LEAVES, enable=TYPES, queue=queue, conf="maildir mail")
    box = maildir(home.folder / "mail")
    for number in range(MAILS):
        deliver(box, number)
    kills = 0
    while len(os.listdir(box / "new")) >= MAILS - 40:
        process = home.start("run", "--only", "mail")
        process.wait_for_output("ready: ")
        before = len(os.listdir(box / "new"))
        wait_until(lambda before=before: len(os.listdir(box / "new")) < before - 15, process)
        process.kill()
        kills += 1
    process = home.start("run", "--only", "mail")
    wait_until(empty(box), process)
    assert kills >= 2
    assert addresses(home) == sorted(f"{kind} u{n}@dest.test" for n in range(MAILS) for kind in TYPES)


def test_a_mail_that_is_recorded_and_not_removed_when_it_is_killed_is_not_recorded_again(
    make_home: MakeHome, queue: str
) -> None:
    home = make_home(legacy=LEAVES, enable=TYPES, queue=queue, conf="maildir mail")
    box = maildir(home.folder / "mail")
    deliver(box, 1)
    kill = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=KILL:when=1"]
    dies = home.start("run", "--only", "mail", prefix=[tool("strace"), "-f", "-o", "/dev/null", *kill])
    dies.wait()
    expected = [f"{kind} u1@dest.test" for kind in TYPES]
    assert len(os.listdir(box / "new")) == 1 and addresses(home) == expected
    process = home.start("run", "--only", "mail")
    wait_until(empty(box), process)
    assert addresses(home) == expected


def test_mails_wait_for_a_queue_that_is_away_and_it_ends_meanwhile(make_home: MakeHome) -> None:
    with PostgreSQL() as server:
        home = make_home(legacy=LEAVES, enable=TYPES, queue=server.database(), conf="maildir mail")
        box = maildir(home.folder / "mail")
        server.stop()
        deliver(box, 1)
        first = home.start("run", "--only", "mail")
        first.wait_for_output("ready: ")
        assert first.stop() == 0 and len(os.listdir(box / "new")) == 1
        process = home.start("run", "--only", "mail")
        process.wait_for_output("ready: ")
        server.start()
        wait_until(empty(box), process)
        assert addresses(home) == [f"{kind} u1@dest.test" for kind in TYPES]
        assert process.stop() == 0


def test_without_a_maildir_there_is_no_such_part(make_home: MakeHome) -> None:
    done = make_home().mailvane("run", "--only", "mail", check=False)
    assert done.returncode == 1 and "mailvane.conf names no Maildir to take mail from; add a line" in done.stderr
