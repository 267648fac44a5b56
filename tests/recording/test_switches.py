"""The control files: C5, C6, and what outlives a process."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailvane.errors import MailvaneError
from mailvane.events.catalogue import Event
from mailvane.recording.control_files import SWITCHED
from mailvane.recording.gate import AttemptRules, IncludeStatus, Wanted
from mailvane.recording.switches import CONFIRM_AFTER, Switches
from mailvane.recording.switching import disable, enable

BOUNCE = "record_events.simplemh.bounce_all"
RULES = "record_events.delivery_attempt.json"


@dataclass
class HeldClock:
    now: float = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def wants(switches: Switches, event_type: str = "bounce_all") -> Wanted:
    return switches.look().wants(Event(event_type=event_type, email="user@example.com"))


def kept_state(folder: Path, on: bool) -> str:
    """What a process kept that saw all switches, bounce_all being on or off."""
    with tempfile.TemporaryDirectory() as control:
        (Path(control) / BOUNCE).write_text(f"{int(on)}\n")
        switches = Switches(Path(control))
        switches.look()
        return switches.state()


@contextmanager
def as_another_user() -> Iterator[None]:
    """Permissions do not bind root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_absent_files_are_off(tmp_path: Path):
    switches = Switches(tmp_path)
    assert all(wants(switches, name) is Wanted.NO for name in SWITCHED)
    assert switches.problems == () and switches.undecided_for is None


def test_a_switch_takes_effect_without_a_restart(tmp_path: Path, clock: HeldClock):
    switches = Switches(tmp_path, None, clock)
    assert wants(switches) is Wanted.NO
    (tmp_path / BOUNCE).write_text("1\n")
    assert wants(switches) is Wanted.YES
    (tmp_path / BOUNCE).unlink()
    assert wants(switches) is Wanted.NO


@pytest.mark.parametrize("name", [n for n in SWITCHED if n != "delivery_attempt"])
def test_every_type_has_its_file(tmp_path: Path, name: str):
    (tmp_path / f"record_events.simplemh.{name.removeprefix('engine_')}").write_text("1\n")
    assert Switches(tmp_path).look().engine == {name}


GOOD = [(b"1", True), (b"1\n", True), (b" 1 \r\n", True), (b"1\nnote\n", True), (b"0", False), (b"0\n", False),
        (b"\n", False), (b"  \n", False), (b"0\n1\n", False)]  # fmt: skip
STRANGE = [b"true", b"yes\n", b"on", b"10", b"2", b"11", b"\x00", b"1\x00", b"\xff\xfe1", b"1" * 65, b" " * 65 + b"1",
           bytes(range(128, 160)) + b"\xff", b"1\n\x1b[2J", "１".encode(), b"\xef\xbb\xbf1"]  # fmt: skip


@pytest.mark.parametrize(("content", "on"), GOOD)
def test_c5_what_a_control_file_means(tmp_path: Path, content: bytes, on: bool):
    (tmp_path / BOUNCE).write_bytes(content)
    for before in (True, False):
        switches = Switches(tmp_path, kept_state(tmp_path, before))
        assert wants(switches) is (Wanted.YES if on else Wanted.NO)
        assert switches.problems == ()


@pytest.mark.parametrize("content", STRANGE)
@pytest.mark.parametrize("before", [True, False, None])
def test_c5_a_strange_file_keeps_the_last_known_state_also_in_a_new_process(
    tmp_path: Path, content: bytes, before: bool | None
):
    (tmp_path / BOUNCE).write_bytes(content)
    switches = Switches(tmp_path, None if before is None else kept_state(tmp_path, before))
    assert wants(switches) is {True: Wanted.YES, False: Wanted.NO, None: Wanted.UNKNOWN}[before]
    (problem,) = switches.problems
    assert BOUNCE in problem and "bounce_all" in problem
    assert wants(switches, "scomp") is Wanted.NO


def test_c5_a_strange_file_keeps_the_last_known_state_in_a_running_process(tmp_path: Path):
    (tmp_path / BOUNCE).write_text("1\n")
    switches = Switches(tmp_path)
    assert wants(switches) is Wanted.YES
    (tmp_path / BOUNCE).write_text("yes\n")
    assert wants(switches) is Wanted.YES
    assert switches.problems == (
        f'{tmp_path}/{BOUNCE} says "yes"; wanted is 1 or 0; bounce_all stays on, as last known',
    )
    (tmp_path / BOUNCE).write_text("0\n")
    assert wants(switches) is Wanted.NO and switches.problems == ()


def test_c5_a_gigabyte_is_not_read(tmp_path: Path):
    with open(tmp_path / BOUNCE, "wb") as file:
        file.truncate(1 << 30)
    switches = Switches(tmp_path, kept_state(tmp_path, True))
    assert wants(switches) is Wanted.YES
    assert "at most 64 are read" in switches.problems[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.mkdir(), "a folder"),
        (os.mkfifo, "a FIFO"),
        (lambda p: p.symlink_to("nowhere"), "leads nowhere"),
        (lambda p: p.symlink_to(p.name), "in a circle"),
        (lambda p: p.symlink_to("/dev/zero"), "no regular file"),
    ],
)
def test_c5_c4_what_is_no_file_keeps_the_last_known_state(tmp_path: Path, make, words: str):
    make(tmp_path / BOUNCE)
    switches = Switches(tmp_path, kept_state(tmp_path, True))
    assert wants(switches) is Wanted.YES and words in switches.problems[0]
    assert wants(Switches(tmp_path)) is Wanted.UNKNOWN


def test_c5_a_file_without_permission_keeps_the_last_known_state(short_folder: Path):
    short_folder.chmod(0o755)
    (short_folder / BOUNCE).write_text("0\n")
    (short_folder / BOUNCE).chmod(0)
    switches = Switches(short_folder, kept_state(short_folder, True))
    with as_another_user():
        assert wants(switches) is Wanted.YES
        assert "may not be read" in switches.problems[0]
    (short_folder / BOUNCE).chmod(0o644)
    with as_another_user():
        assert wants(switches) is Wanted.NO


def test_c5_an_empty_file_is_off_only_if_it_stays_empty(tmp_path: Path, clock: HeldClock):
    path = tmp_path / BOUNCE
    path.write_text("1\n")
    switches = Switches(tmp_path, None, clock)
    assert wants(switches) is Wanted.YES
    path.write_text("")
    assert wants(switches) is Wanted.YES
    assert switches.undecided_for == pytest.approx(0.1)
    clock.now += 0.06
    assert wants(switches) is Wanted.YES
    clock.now += 0.05
    assert wants(switches) is Wanted.NO and switches.undecided_for is None and switches.problems == ()
    # Truncated and written, as `echo 1 >` does.
    path.write_text("1\n")
    assert wants(switches) is Wanted.YES
    path.write_text("")
    assert wants(switches) is Wanted.YES
    path.write_text("1\n")
    clock.now += 1
    assert wants(switches) is Wanted.YES


def test_c5_an_empty_file_met_by_a_new_process_is_not_known_at_first(tmp_path: Path, clock: HeldClock):
    (tmp_path / BOUNCE).write_text("")
    switches = Switches(tmp_path, None, clock)
    assert wants(switches) is Wanted.UNKNOWN
    clock.now += switches.undecided_for or 0.0
    assert wants(switches) is Wanted.NO
    assert wants(Switches(tmp_path, kept_state(tmp_path, True), clock)) is Wanted.YES
    assert wants(Switches(tmp_path, kept_state(tmp_path, False), clock)) is Wanted.NO


def test_two_writes_in_one_tick_of_the_file_systems_clock(tmp_path: Path, clock: HeldClock):
    path = tmp_path / BOUNCE
    path.write_text("1\n")
    switches = Switches(tmp_path, None, clock)
    assert wants(switches) is Wanted.YES
    path.write_text("0\n")
    for watched in switches._files:
        if watched.path == path:
            from mailvane.recording.regular import fingerprint

            watched.seen = fingerprint(path)  # as if the write had left no trace
    assert wants(switches) is Wanted.YES
    clock.now += CONFIRM_AFTER
    assert wants(switches) is Wanted.NO


def test_a_look_opens_nothing_when_nothing_changed(tmp_path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch):
    for switch in SWITCHED.values():
        (tmp_path / switch).write_text("0\n")
    switches = Switches(tmp_path, None, clock)
    switches.look()
    clock.now += 1
    switches.look()
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("a file was opened"))
    clock.now += 1
    assert switches.look() is switches.look()


def test_c6_a_missing_directory_is_never_off_for_who_knows_nothing(tmp_path: Path):
    switches = Switches(tmp_path / "control")
    assert all(wants(switches, name) is Wanted.UNKNOWN for name in SWITCHED)
    (problem,) = switches.problems
    assert problem.startswith(
        f"the control directory {tmp_path}/control is missing; no switch is known, so no event is taken. Make it"
    )
    assert "control_directory in mailvane.conf" in problem
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / BOUNCE).write_text("1\n")
    assert wants(switches) is Wanted.YES and switches.problems == ()


def test_c6_a_missing_directory_keeps_what_was_known(tmp_path: Path):
    control = tmp_path / "control"
    control.mkdir()
    (control / BOUNCE).write_text("1\n")
    switches = Switches(control)
    assert wants(switches) is Wanted.YES
    control.rename(tmp_path / "away")
    for each in (switches, Switches(control, switches.state())):
        assert wants(each) is Wanted.YES
        assert each.problems == (f"the control directory {control} is missing; the last known switches go on",)
    (tmp_path / "away").rename(control)
    (control / BOUNCE).unlink()
    assert wants(switches) is Wanted.NO and switches.problems == ()


def test_c6_a_directory_full_of_other_files_is_not_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "listdir", lambda *_: pytest.fail("the directory was scanned"))
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("the directory was scanned"))
    (tmp_path / BOUNCE).write_text("1\n")
    assert wants(Switches(tmp_path)) is Wanted.YES


def test_the_state_is_the_same_text_as_long_as_the_switches_are_the_same(tmp_path: Path):
    (tmp_path / BOUNCE).write_text("1\n")
    switches = Switches(tmp_path)
    switches.look()
    state = switches.state()
    (tmp_path / BOUNCE).write_text("1\n\n")
    switches.look()
    assert switches.state() == state == Switches(tmp_path, state).state()
    (tmp_path / BOUNCE).write_text("rubbish")
    switches.look()
    assert switches.state() == state
    (tmp_path / BOUNCE).write_text("0")
    switches.look()
    assert switches.state() != state


@pytest.mark.parametrize("kept", ["", "rubbish", "[]", '{"on": 1}', '{"later": []}'])
def test_a_kept_state_that_cannot_be_read_is_none(tmp_path: Path, kept: str):
    (tmp_path / BOUNCE).write_text("rubbish")
    assert wants(Switches(tmp_path, kept)) is Wanted.UNKNOWN


@pytest.mark.parametrize(
    ("content", "rules"),
    [
        (b'{"enabled": true}', AttemptRules(enabled=True)),
        (b'{"enabled": true, "include_status": {"deferral": false}, "include_local_channel": false}',
         AttemptRules(True, IncludeStatus(deferral=False), True, False)),
        (b"{}", AttemptRules()),
        (b"0\n", AttemptRules()),
        (b'{"enabled": false}', AttemptRules()),
    ],
)  # fmt: skip
def test_rules_of_delivery_attempts(tmp_path: Path, content: bytes, rules: AttemptRules):
    (tmp_path / RULES).write_bytes(content)
    switches = Switches(tmp_path)
    gate = switches.look()
    assert (gate.attempts, "delivery_attempt" in gate.engine, switches.problems) == (rules, rules.enabled, ())
    assert Switches(tmp_path / "gone", switches.state()).look().attempts == rules


@pytest.mark.parametrize(
    "content", [b"1", b'{"enabled": 1}', b'{"enable": true}', b"{", b"[" * 10_000, b"\xff", b'{"enabled": "yes"}']
)
def test_c5_strange_rules_keep_the_last_known_ones(tmp_path: Path, content: bytes):
    path = tmp_path / RULES
    path.write_text('{"enabled": true, "include_local_channel": false}')
    switches = Switches(tmp_path)
    before = switches.look()
    path.write_bytes(content)
    assert switches.look().attempts == before.attempts and "delivery_attempt stays on" in switches.problems[0]
    assert "delivery_attempt" in Switches(tmp_path).look().unknown


def test_enable_and_disable_write_the_guides_form(tmp_path: Path):
    assert enable(tmp_path, "bounce_all") == tmp_path / BOUNCE
    assert (tmp_path / BOUNCE).read_text() == "1\n"
    assert enable(tmp_path, "Engine_Unsub").read_text() == "1\n"
    assert disable(tmp_path, "bounce_all").read_text() == "0\n"
    assert Switches(tmp_path).look().engine == {"engine_unsub"}
    assert sorted(os.listdir(tmp_path)) == [BOUNCE, "record_events.simplemh.unsub"]


def test_enable_keeps_the_other_rules_of_delivery_attempts(tmp_path: Path):
    (tmp_path / RULES).write_text('{"include_local_channel": false}')
    enable(tmp_path, "delivery_attempt")
    assert Switches(tmp_path).look().attempts == AttemptRules(True, include_local_channel=False)
    disable(tmp_path, "delivery_attempt")
    assert Switches(tmp_path).look().attempts == AttemptRules(include_local_channel=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bounce_al", 'did you mean "bounce_all"'),
        ("unsub", '"unsub" is no type of event; did you mean "engine_unsub"'),
        ("studio_unsub", "mailvane enable --studio studio_unsub"),
        ("bounce_lite", "only a name"),
        ("../../etc/passwd", "is no type of event"),
    ],
)
def test_a_type_that_has_no_switch_is_told(tmp_path: Path, name: str, words: str):
    with pytest.raises(MailvaneError, match=words):
        enable(tmp_path, name)
    assert os.listdir(tmp_path) == []


def test_a_switch_that_cannot_be_written_is_told_and_stays(tmp_path: Path):
    with pytest.raises(MailvaneError, match="cannot be written"):
        enable(tmp_path / "none", "scomp")
    (tmp_path / BOUNCE).mkdir()
    with pytest.raises(MailvaneError, match="cannot be written"):
        enable(tmp_path, "bounce_all")
    assert os.listdir(tmp_path) == [BOUNCE]
