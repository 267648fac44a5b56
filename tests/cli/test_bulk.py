"""Acting on many events: how many it would be, how far it is, again after they were delivered, and out into a file."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailvane.events.catalogue import CLASSIC
from support.endpoint import Answer, Endpoint
from support.homes import COMMAND, LEAVES, Home, bounce, legacy, posts_to, rule

OWNED = ("nobody owns the queue", "a process owns it")
EVENTS = [
    bounce(1, listid="a1"),
    bounce(2, listid="b2", email="other@example.org"),
    bounce(3, "scomp", listid="a1", bounce_type="", bounce_code=None, bounce_text=""),
    bounce(4, listid="a1", bounce_text='=HYPERLINK("http://evil.example/","5.1.1")'),
]


@pytest.fixture(params=OWNED)
def owned(request: pytest.FixtureRequest) -> bool:
    return request.param == OWNED[1]


@pytest.fixture
def home(owned: bool, make_home: Callable[..., Home]) -> Home:
    """With four events that stay."""
    home = make_home(legacy=LEAVES, enable=["bounce_all", "scomp"])
    home.record(EVENTS)
    if owned:
        home.run()
    return home


@pytest.fixture
def delivered(owned: bool, make_home: Callable[..., Home], endpoint: Endpoint) -> Home:
    """With four events that were delivered, and are kept."""
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all", "scomp"], conf="keep_delivered 1h")
    home.record(EVENTS)
    home.mailvane("processor", "--once")
    assert len(endpoint.requests) == 4
    if owned:
        home.run()
    return home


def ids(home: Home, *arguments: str) -> list[int]:
    return [event["id"] for event in home.json("events", "list", *arguments)]


# Dry runs


def test_a_dry_run_tells_how_many_and_changes_nothing(home: Home) -> None:
    assert home.json("events", "drop", "--list", "a1", "--dry-run") == {"matched": 3}
    assert home.mailvane("events", "drop", "--type", "scomp", "--dry-run").stdout == "1 event would be deleted\n"
    assert home.mailvane("events", "drop", "--all", "--dry-run").stdout == "4 events would be deleted\n"
    assert ids(home) == [1, 2, 3, 4]


def test_a_dry_run_of_retry_counts_what_it_would_move(
    owned: bool, make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint]
) -> None:
    endpoint = make_endpoint(Answer(400))
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all", "scomp"])
    home.record(EVENTS[:3])
    home.mailvane("processor", "--once")
    if owned:
        home.run()
    assert home.json("events", "retry", "--all", "--dry-run") == {"matched": 3}
    assert home.json("events", "retry", "--type", "scomp", "--dry-run") == {"matched": 1}
    before = len(endpoint.requests)
    if not owned:
        assert home.json("events", "retry", "--type", "scomp") == {"matched": 1}
        assert home.json("events", "retry", "--all", "--dry-run") == {"matched": 2}
    assert len(endpoint.requests) == before


def test_a_dry_run_makes_no_queue(make_home: Callable[..., Home]) -> None:
    home = make_home()
    for act in ("drop", "retry", "replay"):
        assert home.json("events", act, "--all", "--dry-run") == {"matched": 0}
    assert not (home.folder / "queue.db").exists()


@pytest.mark.parametrize("act", ["drop", "replay"])
def test_a_bar_is_shown_on_a_terminal_alone(delivered: Home, owned: bool, act: str) -> None:
    if act == "drop":
        home, options = delivered, ["--all"]
        home.write_legacy(LEAVES)
        home.json("events", "replay", "--all")
    else:
        home, options = delivered, ["--delivered-since", "1h"]
    assert home.mailvane("events", act, *options, "--dry-run").stderr == ""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [COMMAND, "events", act, *options, "--home", home.folder],
        stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}, check=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while some := os.read(ours, 65_536):
            shown += some
    except OSError:  # the terminal's end
        pass
    os.close(ours)
    assert done.stdout == (b"4 events deleted\n" if act == "drop" else b"4 events in the queue again\n")
    assert f"{act}:".encode() in shown and b"4/4" in shown


# Replay


def test_delivered_events_are_kept_for_looking_at_and_replay(delivered: Home, endpoint: Endpoint, owned: bool) -> None:
    home = delivered
    assert home.waiting() == []
    assert ids(home, "--state", "delivered") == [1, 2, 3, 4]
    assert ids(home, "--delivered-since", "1h", "--list", "a1") == [1, 3, 4]
    assert ids(home, "--delivered-until", "1h") == []
    assert home.json("events", "count", "--state", "delivered") == {"count": 4}
    shown = home.json("events", "show", "2")
    assert shown["state"] == "delivered" and shown["delivered"] > shown["recorded"] > 0
    assert home.json("events", "replay", "--type", "scomp", "--dry-run") == {"matched": 1}
    assert home.json("events", "replay", "--id", "2", "--id", "4", "--id", "77") == {"matched": 2}
    if not owned:
        assert ids(home) == [2, 4]
        home.mailvane("processor", "--once")
    endpoint.wait_for(lambda e: len(e.requests) == 6)
    if owned:
        home.wait_until_empty()
    books = home.json("events", "status")["books"]
    assert sorted(json.loads(request.body)["id"] for request in endpoint.requests) == [1, 2, 2, 3, 4, 4]
    assert (books["recorded"], books["delivered"]) == (6, 6)
    assert ids(home, "--state", "delivered") == [1, 2, 3, 4]


def test_replay_says_when_nothing_is_kept(home: Home) -> None:
    done = home.mailvane("events", "replay", "--all")
    assert done.stdout == "0 events in the queue again\n" and "keep_delivered" in done.stderr
    assert home.mailvane("events", "replay", check=False).returncode == 2


# What is known of attempts


def test_failed_attempts_are_shown_with_what_was_answered(
    owned: bool, make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint]
) -> None:
    endpoint = make_endpoint(Answer(500, body=b"we are \x1b[31mdown"))
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    home.record(EVENTS[:1])
    for _ in range(11):
        home.mailvane("events", "retry", "--all")
        home.mailvane("processor", "--once")
    if owned:
        home.run()
    shown = home.json("events", "show", "1")
    failed = shown["failed"]
    assert shown["attempts"] >= 11
    assert [a["number"] for a in failed] == [1, *range(shown["attempts"] - 8, shown["attempts"] + 1)]
    assert all(a["status"] == 500 and a["seconds"] > 0 and "we are" in a["error"] for a in failed)
    assert [a["at"] for a in failed] == sorted(a["at"] for a in failed)
    said = home.mailvane("events", "show", "1").stdout
    assert "attempt 1 " in said and "more)" in said and ", status 500, server_error: " in said and "\x1b" not in said


# Export


def test_events_go_out_as_ndjson(home: Home) -> None:
    lines = home.mailvane("events", "export", "--list", "a1").stdout.splitlines()
    assert [json.loads(line) for line in lines] == home.json("events", "list", "--list", "a1")
    assert home.mailvane("events", "export", "--type", "studio_open").stdout == ""


def test_events_go_out_as_csv_with_the_columns_of_the_classic_row(home: Home) -> None:
    rows = list(csv.reader(io.StringIO(home.mailvane("events", "export", "--csv").stdout)))
    assert rows[0] == ["id", *CLASSIC] and all(len(row) == len(rows[0]) for row in rows)
    by_name = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [row["id"] for row in by_name] == ["1", "2", "3", "4"]
    assert (by_name[1]["email"], by_name[1]["bounce_code"], by_name[2]["bounce_code"]) == (
        "other@example.org",
        "10",
        "",
    )
    assert by_name[3]["bounce_text"] == "'" + str(EVENTS[3]["bounce_text"]), "no formula for a spreadsheet"
    exact = list(csv.reader(io.StringIO(home.mailvane("events", "export", "--csv", "--exact").stdout)))
    assert exact[4][rows[0].index("bounce_text")] == EVENTS[3]["bounce_text"]


@pytest.mark.parametrize("form", [[], ["--csv"]])
def test_an_export_goes_on_where_one_ended(home: Home, tmp_path: Path, form: list[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = home.json("events", "export", *form, "--output", str(whole))
    assert done == {"exported": 4, "last": 4}
    home.mailvane("events", "export", *form, "--output", str(parts), "--until", "1790000003")
    said = home.mailvane("events", "export", *form, "--output", str(parts), "--after", "2").stderr
    assert said == "2 events exported; for those that follow: --after 4\n"
    assert parts.read_bytes() == whole.read_bytes()
    assert whole.stat().st_mode & 0o007 == 0


def test_no_file_is_written_over_and_no_half_line_is_gone_on_from(home: Home, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text('{"id": 1')
    for options in ([], ["--after", "1"]):
        done = home.mailvane("events", "export", "--output", str(there), *options, check=False)
        assert done.returncode == 1 and str(there) in done.stderr
    missing = home.mailvane("events", "export", "--output", str(tmp_path / "no" / "file"), check=False)
    assert missing.returncode == 1 and "No such file" in missing.stderr
    assert there.read_text() == '{"id": 1'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("export --exact", "--exact is about --csv"),
        ("export --json", "it goes with --output FILE"),
        ("export --after -1", "is no id"),
        ("drop --state delivered", "invalid choice"),
        ("replay --state waiting", "unrecognized arguments"),
    ],
)
def test_what_makes_no_sense_is_refused(home: Home, arguments: str, said: str) -> None:
    done = home.mailvane("events", *arguments.split(), check=False)
    assert done.returncode == 2 and said in done.stderr


def test_an_export_takes_no_more_memory_for_more_events(make_home: Callable[..., Home], tmp_path: Path) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])

    def most_memory() -> int:
        """KiB of the process at its largest."""
        program = (
            "import re, sys; from mailvane.cli import main; status = main(sys.argv[1:]);"
            "told = open('/proc/self/status').read();"
            "print(re.search('VmHWM:\\s*([0-9]+)', told)[1], file=sys.stderr); sys.exit(status)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "events", "export", "--home", str(home.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        return int(done.stderr.splitlines()[-1])

    home.record(bounce(n, bounce_text="x" * 900) for n in range(1_500))
    few = most_memory()
    home.record(bounce(n, bounce_text="x" * 900) for n in range(12_000))
    assert most_memory() < few + 8 * 1024, "10,500 events more are 20 MiB of JSON"


# The configuration, explained


def test_the_configuration_is_explained(make_home: Callable[..., Home], tmp_path: Path) -> None:
    rules = legacy(
        rule(url="https://a.example/1", matches={"event_type": "scomp"}),
        rule(url="https://a.example/2?secret=1", matches={"mail_class": "News"}),
        rule("drop_from_queue", matches={"event_type": ["scomp"], "mail_class": "news"}),
        rule("leave_in_queue"),
    )
    home = make_home(legacy=rules)
    told = home.json("config", "explain")
    assert {"event_type": "scomp", "mail_class": None, "rule": 1} in told["taken"]
    assert {"event_type": "bounce_all", "mail_class": "news", "rule": 2} in told["taken"]
    assert {"event_type": "bounce_all", "mail_class": None, "rule": 4} in told["taken"]
    assert [r["reachable"] for r in told["rules"]] == [True, True, False, True]
    said = home.mailvane("config", "explain").stdout
    assert "secret" not in said
    assert "rule 2 (http_post https://a.example/2?...) never gets scomp of news: rule 1 takes that" in said
    assert "rule 3 (drop_from_queue) takes nothing, because of rule 1" in said
    file = tmp_path / "new.json"
    file.write_text(json.dumps(LEAVES))
    assert {t["rule"] for t in home.json("config", "explain", "--config", str(file))["taken"]} == {1}
    file.write_text('{"configuration_mode": ')
    broken = home.mailvane("config", "explain", "--config", str(file), check=False)
    assert broken.returncode == 1 and f"{file}:1:" in broken.stderr
