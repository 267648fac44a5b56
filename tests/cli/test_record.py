import json
import subprocess
from collections.abc import Callable

import pytest

from mailvane.events.clean import EVENT_LENGTH
from support.homes import LEAVES, Home, bounce


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    return make_home(legacy=LEAVES, enable=["bounce_all"])


def text(number: int = 1, **fields: object) -> bytes:
    return json.dumps({**bounce(number), **fields}).encode()


BAD = [
    (b"{", "is no JSON"),
    (b"no", "is no JSON"),
    (b"[1]", "is no JSON object"),
    (b"null", "is no JSON object"),
    (b'"text"', "is no JSON object"),
    (b'{"event_type": "bounce_al", "email": "a@b.example"}', "unknown type 'bounce_al'; did you mean bounce_all?"),
    (b'{"email": "a@b.example"}', "event_type: is missing"),
    (b'{"event_type": "bounce_all"}', "email: is missing"),
    (text(bounce_code="ten"), "bounce_code: "),
    (text(bounce_code=-1), "bounce_code: "),
    (text(event_time=1.5), "event_time: "),
    (text(id=7), "id: is given by the queue"),
    (text(emial="x"), "emial: unknown field; did you mean email?"),
    (text(**{"\x1b[31mred": 1}), "unknown field"),
    (text(email="a\nb@c.example"), "email: has a control character"),
    (text(email="a\x00b@c.example"), "email: has a control character"),
    (text(email="\ud800@c.example"), ""),
    (text(bounce_text="a\x00b"), "NUL"),
    (text(bounce_text="x" * 70_000), "bounce_text: "),
    (b'{"event_type": "bounce_all", "email": "' + b"x" * 10_000_000 + b'"}', "is longer than"),
    (b"[" * 100_000, ""),
    (b'{"a":' * 50_000, ""),
    (b"\xff\xfe", ""),
    (b'{"event_type": "bounce_all", "email": "\xff@b.example"}', "not UTF-8"),
]


def test_bad_lines_are_told_by_number_with_a_reason_and_the_good_ones_are_recorded(home: Home) -> None:
    lines: list[bytes] = []
    for number, (bad, _) in enumerate(BAD):
        lines += [bad, text(number)]
    done = home.mailvane("record", "--json", "-", input=b"\n".join(lines), check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"recorded": len(BAD), "disabled": 0, "rejected": len(BAD)}
    told = done.stderr.splitlines()
    assert len(told) == len(BAD)
    for index, (line, (_, reason)) in enumerate(zip(told, BAD, strict=True)):
        assert line.startswith(f"line {2 * index + 1}: ") and len(line) > len("line 1: ") + 5
        assert reason in line and line.isprintable()
    assert [e["click_tracking_id"] for e in home.waiting()] == [f"ct-{n}" for n in range(len(BAD))]


def test_an_array_is_the_whole_input_and_its_events_are_told_by_number(home: Home) -> None:
    array = b"[" + b",\n".join([text(1), b"7", text(2), b'{"event_type": 1}']) + b"]\n"
    done = home.mailvane("record", "--json", input=array, check=False)
    assert json.loads(done.stdout) == {"recorded": 2, "disabled": 0, "rejected": 2}
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["event 2", "event 4"]


def test_types_that_are_off_are_counted_and_not_recorded(home: Home) -> None:
    assert home.record([bounce(1, "scomp"), bounce(2)]) == {"recorded": 1, "disabled": 1, "rejected": 0}
    assert home.record([bounce(1, "studio_open")]) == {"recorded": 0, "disabled": 1, "rejected": 0}


def test_an_empty_input_records_nothing(home: Home) -> None:
    assert home.record([]) == {"recorded": 0, "disabled": 0, "rejected": 0}


def test_several_files_are_read_and_bad_lines_named_with_their_file(home: Home) -> None:
    one, two, missing = (home.folder / name for name in ("one", "two", "missing"))
    one.write_bytes(text(1) + b"\n{")
    two.write_bytes(b"\n{\n" + text(2))
    done = home.mailvane("record", "--json", str(one), str(missing), str(two), str(home.folder), check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"recorded": 2, "disabled": 0, "rejected": 2}
    assert f"{one}: line 2: " in done.stderr and f"{two}: line 2: " in done.stderr
    assert f"{missing}: No such file" in done.stderr and f"{home.folder}: Is a directory" in done.stderr


def test_many_events_keep_their_order_alone_and_through_the_process_that_owns_the_queue(home: Home) -> None:
    assert home.record(bounce(n) for n in range(5_000))["recorded"] == 5_000
    home.run()
    assert home.record(bounce(n) for n in range(5_000, 10_000))["recorded"] == 5_000
    events = home.waiting()
    assert [e["click_tracking_id"] for e in events] == [f"ct-{n}" for n in range(10_000)]
    assert [e["id"] for e in events] == list(range(1, 10_001))


def test_events_of_nearly_the_largest_size_go_in(home: Home) -> None:
    after = {"filler": "x" * (EVENT_LENGTH - 2_000)}
    events = [bounce(n, json_after=after) for n in range(3)]
    assert home.record(events)["recorded"] == 3
    home.run()
    assert home.record(events)["recorded"] == 3


def test_an_event_does_not_wait_for_the_next_one(home: Home) -> None:
    arguments = [*home.start("events", "count").command[:1], "record", "-"]
    with subprocess.Popen(arguments, env=home.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(text(1) + b"\n")
        process.stdin.flush()
        follower = home.start("events", "tail", "--lines", "1", "--json")
        follower.wait_for_output(r'"click_tracking_id": "ct-1"')
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 0


def test_an_event_whose_switch_is_not_known_is_never_taken_for_off(home: Home) -> None:
    home.switch("scomp", "rubbish\n")
    done = home.mailvane("record", "--json", input=text(1, event_type="scomp") + b"\n" + text(2), check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"recorded": 1, "disabled": 0, "rejected": 1}
    assert "whether scomp is recorded is not known" in done.stderr


def test_without_a_home_it_says_how_to_make_one(home: Home) -> None:
    done = home.mailvane("record", "--home", "/nonexistent/home", input=text(1), check=False)
    assert done.returncode == 1
    assert "mailvane init --home /nonexistent/home" in done.stderr and "Traceback" not in done.stderr


def test_a_queue_that_cannot_be_written_names_the_lines_that_are_not_in_it(home: Home) -> None:
    (home.folder / "queue.lock").mkdir()
    done = home.mailvane("record", input=text(1) + b"\n" + text(2), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "defect" not in done.stderr
    assert "lines 1 to 2" in done.stderr
