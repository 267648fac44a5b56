"""The way of an event up to the disk: switches, door, and what is kept."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailvane.errors import EventRejected, QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.recording.intake import LOOK_EVERY, Intake
from mailvane.recording.switches import Switches


@dataclass
class HeldClock:
    now: float = 1000.0

    def wall(self) -> float:
        return 1_790_000_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def kept() -> list[str]:
    return []


@pytest.fixture
def control(tmp_path: Path) -> Path:
    (tmp_path / "record_events.simplemh.scomp").write_text("1\n")
    return tmp_path


@pytest.fixture
def intake(control: Path, clock: HeldClock, kept: list[str]) -> Intake:
    return Intake(Switches(control, None, clock), "mail1", clock, kept.append)


def event(event_type: str = "scomp", **fields: object) -> Event:
    return Event(**{"event_type": event_type, "email": "user@example.com", **fields})  # type: ignore[arg-type]


def test_what_is_on_is_stored_with_its_time_and_server(intake: Intake) -> None:
    form = intake.form(event())
    assert form is not None
    assert '"event_time":1790000000' in form.body
    assert form.extra == '"server_id":"mail1"'


def test_what_is_off_is_none_and_what_is_wrong_is_rejected_even_if_off(intake: Intake) -> None:
    assert intake.form(event("engine_open")) is None
    with pytest.raises(EventRejected):
        intake.form(event("engine_open", email=""))


def test_what_is_not_known_is_never_off(control: Path, intake: Intake) -> None:
    (control / "record_events.simplemh.open").write_bytes(b"\xff\x00rubbish")
    with pytest.raises(QueueUnavailable, match=r"record_events\.simplemh\.open.*engine_open") as told:
        intake.form(event("engine_open"))
    assert str(told.value).count("engine_open is recorded is not known") == 1
    assert intake.form(event()) is not None


def test_a_file_that_is_empty_for_a_moment_is_told_as_not_known(control: Path, intake: Intake) -> None:
    (control / "record_events.simplemh.open").write_text("")
    with pytest.raises(QueueUnavailable, match=r"engine_open is recorded is not known: .*empty$"):
        intake.form(event("engine_open"))


def test_a_look_holds_for_a_moment_and_no_longer(control: Path, clock: HeldClock, intake: Intake) -> None:
    assert intake.form(event()) is not None
    (control / "record_events.simplemh.scomp").write_text("0\n")
    clock.now += LOOK_EVERY / 2
    assert intake.form(event()) is not None
    clock.now += LOOK_EVERY
    assert intake.form(event()) is None


def test_switches_are_kept_once_for_each_change(
    control: Path, clock: HeldClock, intake: Intake, kept: list[str]
) -> None:
    for _ in range(3):
        intake.gate()
        clock.now += 10
    assert len(kept) == 1
    (control / "record_events.simplemh.click").write_text("1\n")
    intake.gate()
    clock.now += 10
    intake.gate()
    assert len(kept) == 2
    # A process that is started with what was kept has nothing new to keep.
    another: list[str] = []
    Intake(Switches(control, kept[-1], clock), "mail1", clock, another.append).gate()
    assert another == []


def test_nobody_takes_not_looked_yet_for_off(control: Path) -> None:
    """Threads that come while another one looks for the first time wait for what it finds."""
    first_looks = threading.Event()
    others_are_there = threading.Event()

    class SlowSwitches(Switches):
        def look(self):
            first_looks.set()
            others_are_there.wait(0.2)
            return super().look()

    clock = HeldClock()
    intake = Intake(SlowSwitches(control, None, clock), "mail1", clock, lambda state: None)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(intake.form, event())
        assert first_looks.wait(30)
        others = [pool.submit(intake.form, event()) for _ in range(7)]
        forms = [one.result() for one in [first, *others]]
    assert None not in forms
