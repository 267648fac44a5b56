"""Where home is, and how it is made."""

import os
import stat
from pathlib import Path

import pytest

from mailvane.configuration.home import existing_home, find_home, init
from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.settings import load_settings
from mailvane.errors import HomeMissing, MailvaneError
from mailvane.processor.plan import Leave


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_home_is_found_in_the_order_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "system"
    system.mkdir()
    assert find_home("a", {"MAILVANE_HOME": "/b"}, system) == tmp_path / "a"
    assert find_home(None, {"MAILVANE_HOME": "/b"}, system) == Path("/b")
    assert find_home(None, {"MAILVANE_HOME": ""}, system) == system
    assert find_home(None, {}, tmp_path / "none") == tmp_path / "mailvane-home"


def test_init_makes_a_home_that_leaves_events_and_has_no_type_enabled(tmp_path: Path):
    made = init(tmp_path / "deep" / "home")
    home = tmp_path / "deep" / "home"
    assert (made.home, made.made) == (home, True)
    assert sorted(tree(home)) == ["control", "control/event_processor.json", "mailvane.conf"]
    settings = load_settings(home)
    read = read_legacy(settings.legacy_file.read_bytes())
    assert read.plan and [r.target for r in read.plan.routes] == [Leave()]
    assert existing_home(str(home)) == home


def test_modes_let_others_read_the_switches_alone(tmp_path: Path):
    init(tmp_path / "home")
    assert mode(tmp_path / "home" / "mailvane.conf") == 0o640
    assert mode(tmp_path / "home" / "control") == 0o755
    assert mode(tmp_path / "home" / "control" / "event_processor.json") == 0o644


def test_an_existing_empty_folder_becomes_a_home_with_the_queue_asked_for(tmp_path: Path):
    assert init(tmp_path, "sqlite:data/my queue.db").made
    assert load_settings(tmp_path).queue_file == tmp_path / "data/my queue.db"


def test_init_on_a_home_changes_nothing(tmp_path: Path):
    init(tmp_path)
    (tmp_path / "mailvane.conf").write_text("server_id mine\n")
    (tmp_path / "control" / "event_processor.json").unlink()
    before = tree(tmp_path)
    assert not init(tmp_path, "sqlite:other.db").made
    assert tree(tmp_path) == before


def test_a_folder_that_is_no_home_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "letters.txt").write_text("x")
    (tmp_path / "control").mkdir()
    before = tree(tmp_path)
    with pytest.raises(HomeMissing, match=r"letters\.txt is in it"):
        init(tmp_path)
    assert tree(tmp_path) == before


def test_an_init_that_was_cut_short_is_finished_and_control_files_stay(tmp_path: Path):
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "event_processor.json").write_text("mine")
    (tmp_path / ".mailvane.conf.new").write_text("half")
    assert init(tmp_path).made
    assert sorted(tree(tmp_path)) == ["control", "control/event_processor.json", "mailvane.conf"]
    assert (tmp_path / "control" / "event_processor.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("queue", "words"), [("postgresql://h:0/d", "its port is no number"), ("x", "wanted sqlite:FILE")]
)
def test_a_queue_that_will_not_do_makes_no_home(tmp_path: Path, queue: str, words: str):
    with pytest.raises(MailvaneError, match=words):
        init(tmp_path / "home", queue)
    assert not (tmp_path / "home").exists()


def test_what_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MailvaneError, match="cannot be made"):
        init(tmp_path / "file" / "home")
    with pytest.raises(MailvaneError, match="cannot be made"):
        init(tmp_path / "file")


def test_a_missing_home_is_told_with_what_to_do(tmp_path: Path):
    with pytest.raises(HomeMissing, match="is not there; make it with: mailvane init --home"):
        existing_home(str(tmp_path / "none"))
    with pytest.raises(HomeMissing, match=r"has no mailvane\.conf in it"):
        existing_home(str(tmp_path))
