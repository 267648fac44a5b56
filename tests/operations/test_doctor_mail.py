"""What the doctor says of where mail is taken from."""

import os
from pathlib import Path

from mailvane.configuration.settings import Settings
from mailvane.operations.doctor_mail import maildirs
from mailvane.operations.findings import Finding


def told(box: Path) -> list[Finding]:
    home = box.parent
    return list(maildirs(Settings(home, "test", home / "queue.db", home / "control", maildirs=(box,))))


def maildir(path: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (path / name).mkdir(parents=True)
    return path


def test_a_maildir_that_is_well_and_how_much_waits(tmp_path: Path):
    box = maildir(tmp_path / "mail")
    (box / "new" / "1.x").touch()
    (box / "new" / "2.x").touch()
    (finding,) = told(box)
    assert finding.level == "ok" and finding.found == f"{box}: 2 mails wait"


def test_a_maildir_that_is_not_there_or_is_none(tmp_path: Path):
    (missing,) = told(tmp_path / "mail")
    assert missing.level == "wrong" and missing.advice == (
        f"mkdir -p {tmp_path}/mail/new {tmp_path}/mail/cur {tmp_path}/mail/tmp"
    )
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "new").symlink_to(tmp_path)
    (link,) = told(tmp_path / "mail")
    assert link.level == "wrong" and "it must be a folder" in link.advice


def test_mail_that_nobody_takes_or_can_read_and_what_could_not_be_processed(tmp_path: Path):
    box = maildir(tmp_path / "mail")
    (box / "new" / "1.x").touch()
    os.utime(box / "new" / "1.x", (1, 1))
    (late,) = told(box)
    assert late.level == "wrong" and "1 mails wait" in late.found and "mailvane run" in late.advice
    (box / "new" / "0.x").mkdir()
    maildir(box / ".CouldNotProcess")
    (box / ".CouldNotProcess" / "new" / "1.x").touch()
    odd, _, aside = told(box)
    assert odd.level == "wrong" and "0.x cannot be read: it is a folder" in odd.found
    assert aside.level == "note" and "1 mails in" in aside.found and "--dry-run" in aside.advice
