import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.homes import COMMAND, LEAVES, Home

DATA = Path(__file__).parents[1] / "data"
HARD = DATA / "mta" / "postfix" / "pipe-send1-m1-5.1.1.eml"
SOFT = DATA / "mta" / "postfix" / "pipe-send1-m5-4.2.0.eml"
COMPLAINT = DATA / "bounces" / "mails" / "arf-21.eml"
NONE = DATA / "bounces" / "mails" / "not-a-bounce-01.eml"


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    return make_home(legacy=LEAVES, enable=["bounce_all", "bounce_bad_address"])


def test_mails_become_what_they_mean(home: Home) -> None:
    done = home.mailvane("ingest", "mail", "--json", *map(str, (HARD, SOFT, COMPLAINT, NONE)))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(f) for f in (HARD, SOFT, COMPLAINT, NONE)]
    assert [line["kind"] for line in lines] == ["bounce", "bounce", "complaint", "none"]
    became = [[(e["event_type"], e["recorded"], "id" in e) for e in line["events"]] for line in lines]
    assert became == [
        [("bounce_all", True, True), ("bounce_bad_address", True, True)],
        [("bounce_all", True, True)],
        [("scomp", False, False)],
        [],
    ]
    assert all(line["reason"] for line in lines)
    assert [e["email"] for e in home.waiting()] == ["nouser@dest.test", "nouser@dest.test", "grey@dest.test"]


def test_it_says_the_same_in_words_with_the_rule_and_the_sentence(home: Home) -> None:
    said = home.mailvane("ingest", "mail", "--explain", str(HARD), str(COMPLAINT)).stdout
    assert "bounce_all h 10  nouser@dest.test  recorded as event 1" in said
    assert "scomp  kijitora@example.org  not recorded: its type is off" in said
    assert "rule unknown-user, which saw: " in said


def test_show_has_the_queue_id_under_which_the_mail_server_knew_the_message(home: Home) -> None:
    home.mailvane("ingest", "mail", str(HARD))
    directly = home.json("events", "show", "1")["event"]
    assert (directly["msguid"], directly["synchronous"]) == ("4jYdNc1jJszJDb0", False)
    assert "msguid                    4jYdNc1jJszJDb0\n" in home.mailvane("events", "show", "2").stdout
    home.run()
    assert home.json("events", "show", "1")["event"] == directly  # by the process that delivers


def test_in_a_home_just_made_every_type_is_off_which_is_no_error(make_home: Callable[..., Home]) -> None:
    home = make_home()
    assert home.mailvane("ingest", "mail", "-", input=HARD.read_bytes()).returncode == 0
    event = '{"event_type": "bounce_all", "email": "user@example.com"}\n'
    assert home.json("record", "-", input=event) == {"recorded": 0, "disabled": 1, "rejected": 0}


def test_c6_without_a_control_directory_mail_is_kept_and_the_message_says_what_to_do(
    make_home: Callable[..., Home],
) -> None:
    home = make_home(conf="control_directory controls", legacy=LEAVES)
    done = home.mailvane("ingest", "mail", "-", input=HARD.read_bytes(), check=False)
    assert done.returncode == 75
    assert f"the control directory {home.folder}/controls is missing" in done.stderr
    assert "Make it" in done.stderr and "control_directory in mailvane.conf" in done.stderr
    (home.folder / "controls").mkdir()
    (home.folder / "controls" / "record_events.simplemh.bounce_all").write_text("1\n")
    assert home.mailvane("ingest", "mail", "-", input=HARD.read_bytes()).returncode == 0
    assert len(home.waiting()) == 1


def test_a_dry_run_records_nothing_and_needs_no_home(home: Home, tmp_path: Path) -> None:
    environment = {**os.environ, "MAILVANE_HOME": str(tmp_path / "none")}
    command = [COMMAND, "ingest", "mail", "--dry-run", "--explain", "--json", HARD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert [e["recorded"] for e in line["events"]] == [False, False]
    assert line["explanations"][0]["rule"] == "unknown-user"
    home.mailvane("ingest", "mail", "--dry-run", str(HARD))
    assert home.waiting() == []


def test_the_recipient_tells_the_bounced_address(home: Home) -> None:
    mail = b"From: MAILER-DAEMON@mx.example\nSubject: Undelivered Mail Returned to Sender\n\nuser unknown\n"
    line = home.json(
        "ingest", "mail", "--recipient", "b-a1-s1-user=example.com@bounces.example", "-", input=mail
    )  # fmt: skip
    assert line["kind"] in {"bounce", "none"}
    assert all(e["email"] == "user@example.com" for e in line["events"])


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_taken_in(home: Home) -> None:
    missing = home.folder / "missing.eml"
    done = home.mailvane("ingest", "mail", "--json", str(missing), str(home.folder), str(SOFT), check=False)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1 and len(home.waiting()) == 1
    assert f"{missing}: No such file" in done.stderr and f"{home.folder}: Is a directory" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_mail_that_cannot_be_recorded_is_told_and_the_others_are_taken_in(home: Home, as_json: bool) -> None:
    home.switch("bounce_bad_address", "rubbish")
    words = ("--json",) if as_json else ()
    done = home.mailvane("ingest", "mail", *words, str(HARD), str(SOFT), check=False)
    assert done.returncode == 1
    assert f"{HARD}: could not be recorded: " in done.stderr and "bounce_bad_address" in done.stderr
    assert [e["email"] for e in home.waiting()] == ["grey@dest.test"]
    if as_json:
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(line["file"], "error" in line) for line in lines] == [(str(HARD), True), (str(SOFT), False)]
        assert [e["recorded"] for e in lines[0]["events"]] == [False, False]
    else:
        assert "its type is off" not in done.stdout and "recorded as event 1" in done.stdout


def nested(depth: int) -> bytes:
    heads = [b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(depth)]
    return b"From: a@b.example\n" + b"".join(heads) + b"Content-Type: text/plain\n\nx\n"


@pytest.mark.parametrize(
    "mail",
    [
        b"",
        b"\n\n\n",
        b"\x00" * 1000,
        b"\xff\xfe\xfd" * 1000,
        nested(10_000),
        b"Content-Type: text/plain; charset=nonsense\nContent-Transfer-Encoding: base64\n\n===\xff\n",
        b"Subject: =?utf-8?b?////?= =?x?q?=ZZ?=\n\nbody\n",
        NONE.read_bytes(),
        b"From: a@b.example\n\n" + b"x" * 3_000_000,
    ],
    ids=["empty", "blank", "nul", "no text", "nested", "charset", "words", "no bounce", "long"],
)
def test_a_mail_that_means_nothing_gives_no_event_and_the_reason(home: Home, mail: bytes) -> None:
    done = home.mailvane("ingest", "mail", "--json", "-", input=mail)
    line = json.loads(done.stdout)
    assert (line["kind"], line["events"]) == ("none", [])
    assert line["reason"] and done.stderr == ""


@pytest.mark.parametrize("by_pipe", [True, False])
def test_of_a_mail_of_100_megabytes_the_head_is_read_in_bounded_memory(home: Home, by_pipe: bool) -> None:
    large = home.folder / "large.eml"
    with large.open("wb") as file:
        file.write(HARD.read_bytes())
        file.truncate(100 * 1024 * 1024)
    mail = f"ulimit -v 400000; exec {COMMAND} ingest mail --json {'- <' if by_pipe else ''} {large}"
    done = subprocess.run(["bash", "-c", mail], env=home.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kind"] == "bounce"
    assert len(home.waiting()) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bogus", "-"),
        ("--recipient",),
        ("--home", "/nonexistent"),
        ("missing.eml",),
    ],
    ids=" ".join,
)
def test_c5_whatever_goes_wrong_a_mail_server_keeps_the_mail(home: Home, arguments: tuple[str, ...]) -> None:
    done = home.mailvane("ingest", "mail", "-", *arguments, input=HARD.read_bytes(), check=False)
    assert done.returncode == 75
    assert done.stderr and "Traceback" not in done.stderr


def by_shell(home: Home, script: str, mail: bytes = HARD.read_bytes()) -> subprocess.CompletedProcess[bytes]:
    command = f"{shlex.quote(str(COMMAND))} ingest mail --json -"
    return subprocess.run(
        ["bash", "-c", script.replace("COMMAND", command)],
        env=home.environment(),
        input=mail,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "break_home"),
    [
        ("exec COMMAND", lambda home: (home.folder / "queue.lock").mkdir()),
        ("exec COMMAND", lambda home: home.configure("htpp_listen 1")),
        ("exec COMMAND", lambda home: home.switch("bounce_all", "rubbish")),
        ("exec COMMAND <&-", lambda home: None),
    ],
    ids=["no lock", "broken settings", "unknown switch", "no input"],
)  # fmt: skip
def test_c5_the_mail_stays_with_the_mail_server_if_it_cannot_be_recorded(
    home: Home, script: str, break_home: Callable[[Home], object]
) -> None:
    break_home(home)
    done = by_shell(home, script)
    assert done.returncode == 75, done.stderr
    assert b"defect" not in done.stderr


@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
def test_a_mail_that_was_recorded_is_not_kept_for_want_of_an_output(home: Home, output: str) -> None:
    assert by_shell(home, f"exec COMMAND {output}").returncode == 0
    assert len(home.waiting()) == 2


def test_c5_sigterm_while_it_waits_leaves_the_mail_with_the_mail_server(home: Home) -> None:
    command = [COMMAND, "ingest", "mail", "-"]
    with subprocess.Popen(command, env=home.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"x" * 200_000)  # more than the pipe holds: it is reading by now
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
        assert b"SIGTERM" in process.stderr.read()


def test_a_mail_is_recorded_whole_or_not_at_all_so_that_it_can_be_handed_in_again(home: Home) -> None:
    home.switch("bounce_bad_address", "rubbish")
    assert by_shell(home, "exec COMMAND").returncode == 75
    assert home.waiting() == []
    home.switch("bounce_bad_address")
    assert by_shell(home, "exec COMMAND").returncode == 0
    assert len(home.waiting()) == 2
