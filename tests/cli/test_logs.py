"""The log: whose times its lines have, and that no text from outside looks like a line of it."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailvane.cli.logs import log_to_standard_error

_TIMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ")


@pytest.fixture(autouse=True)
def the_log_is_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MAILVANE_LOG_TIMES", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    yield
    root.handlers[:] = before


def test_no_text_looks_like_an_entry_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_standard_error()
    logging.getLogger("mailvane.x").info("said\x1b[31m\n2026-11-24 00:00:00.000 error: forged\r\nend")
    logging.getLogger("other").info("not ours")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("info: said\\x1b[31m") and lines[0][:2] == "20"
    assert lines[1] == "    2026-11-24 00:00:00.000 error: forged\\r" and lines[2] == "    end"


@pytest.mark.parametrize(("said", "timed"), [(None, True), ("no", False), ("yes", True), ("", True)])
def test_who_collects_the_lines_may_write_their_times(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, said: str | None, timed: bool
) -> None:
    if said is not None:
        monkeypatch.setenv("MAILVANE_LOG_TIMES", said)
    log_to_standard_error()
    logging.getLogger("mailvane").warning("disk full")
    line = capsys.readouterr().err
    assert bool(_TIMED.match(line)) == timed
    assert _TIMED.sub("", line) == "warning: disk full\n"


def test_the_journal_gets_levels_and_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        of = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{of.st_dev}:{of.st_ino}")
        log_to_standard_error()
        logging.getLogger("mailvane").info("plan in force: a\nand b")
        logging.getLogger("mailvane").error("no answer")
    assert path.read_text() == "<6>info: plan in force: a\n<6>    and b\n<3>error: no answer\n"


def test_a_file_in_the_journals_place_has_times(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setenv("JOURNAL_STREAM", "8:1")
        log_to_standard_error()
        logging.getLogger("mailvane").info("up")
    assert _TIMED.match((tmp_path / "file").read_text())
