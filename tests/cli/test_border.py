import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailvane.cli.border import WrongUsage, guarded, kept_by_the_mail_server
from mailvane.cli.commands import takes_mail_from_a_server
from mailvane.cli.output import ascii_table, plain
from mailvane.errors import MailvaneError, QueueUnavailable
from support.homes import COMMAND, LEAVES, Home, bounce


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def raising(error: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MailvaneError("what to do"), 1, "what to do\n"),
        (QueueUnavailable("the disk is full"), 1, "the disk is full\n"),
        (MailvaneError("a\x1b[31mb\nc"), 1, "a\\x1b[31mb\nc\n"),
        (WrongUsage("which?"), 2, "which?\nmailvane --help has the commands\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 1, "/a/b: Permission denied\n"),
        (RuntimeError("x"), 1, "unexpected RuntimeError: x; this is a defect of mailvane"),
    ],
)
def test_what_goes_wrong_becomes_a_status_and_a_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error)) == status
    told = capsys.readouterr().err
    assert told.startswith(said) and "Traceback" not in told
    assert said or not told


def test_a_traceback_is_for_those_who_ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAILVANE_DEBUG", "1")
    assert guarded(raising(RuntimeError("x"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [MemoryError(), SystemExit(2), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space"), ImportError("x"),
     WrongUsage("x"), MailvaneError("x"), RecursionError(), GeneratorExit()],
    ids=repr,
)  # fmt: skip
def test_c5_nothing_makes_a_mail_server_throw_a_mail_away(error: BaseException) -> None:
    assert kept_by_the_mail_server(raising(error)) == 75


def test_c5_sigterm_is_no_reason_either_and_done_is_done() -> None:
    def terminated() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert kept_by_the_mail_server(terminated) == 75
    assert kept_by_the_mail_server(lambda: 0) == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ingest mail -", True),
        ("ingest mail --json -", True),
        ("--home /x ingest mail --recipient a@b.example -", True),
        ("ingest mail", False),
        ("ingest mail a.eml", False),
        ("ingest mail --help -", False),
        ("record -", False),
    ],
)
def test_what_a_mail_server_calls_is_told_apart(line: str, expected: bool) -> None:
    assert takes_mail_from_a_server(line.split()) is expected


def test_nothing_from_outside_reaches_the_terminal_but_what_prints() -> None:
    assert plain("a\x1b[2Jb\u202ec\x9b\ud800é") == "a\\x1b[2Jb\\u202ec\\x9b\\ud800é"


def test_greenarrows_table_is_drawn_as_greenarrow_draws_it() -> None:
    head = ("Destination Name", "Event Count (First Attempt)", "Event Count (Retries)")
    assert ascii_table(head, [("__legacy__", "10", "n/a"), ("primary", "0", "0")]) == (
        "+------------------+-----------------------------+-----------------------+\n"
        "| Destination Name | Event Count (First Attempt) | Event Count (Retries) |\n"
        "+------------------+-----------------------------+-----------------------+\n"
        "|       __legacy__ |                          10 |                   n/a |\n"
        "|          primary |                           0 |                     0 |\n"
        "+------------------+-----------------------------+-----------------------+"
    )


@pytest.fixture(scope="module")
def full() -> Iterator[Home]:
    """A home with more events than a pipe holds."""
    with (
        tempfile.TemporaryDirectory(prefix="mv-", dir="/tmp") as folder,
        Home(Path(folder), legacy=LEAVES, enable=["bounce_all"]) as home,
    ):
        home.record(bounce(n) for n in range(3_000))
        yield home


@pytest.mark.parametrize("script", ["COMMAND | head -n 1", "COMMAND > /dev/full", "COMMAND >&-", "COMMAND 2>&- >&-"])
@pytest.mark.parametrize("arguments", ["events list --all --json", "events list --all", "events status", "--help"])
def test_an_output_that_cannot_be_written_gives_no_traceback(full: Home, script: str, arguments: str) -> None:
    line = "set -o pipefail; " + script.replace("COMMAND", f"{COMMAND} {arguments}")
    done = subprocess.run(["bash", "-c", line], env=full.environment(), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr and "defect" not in done.stderr
    assert len(done.stderr) < 200


def test_an_encoding_without_our_characters_shows_escapes(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(1, email="börje@example.com")])
    environment = {**home.environment(), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [COMMAND, "events", "list"], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert "b\\xf6rje@example.com" in done.stdout
