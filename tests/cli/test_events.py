import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailvane.cli import main
from support.endpoint import Endpoint
from support.homes import LEAVES, Home, bounce, legacy, posts_to, rule

EVENTS = [
    bounce(1, listid="a1"),
    bounce(2, listid="b2", email="other@example.org"),
    bounce(3, "scomp", listid="a1", bounce_type="", bounce_code=None, bounce_text=""),
    bounce(4, listid="A1"),
]


OWNED = ("nobody owns the queue", "a process owns it")


@pytest.fixture(scope="module", params=OWNED)
def seen(request: pytest.FixtureRequest) -> Iterator[Home]:
    """As `home`, made once for all who only look."""
    with (
        tempfile.TemporaryDirectory(prefix="mv-", dir="/tmp") as folder,
        Home(Path(folder), legacy=LEAVES, enable=["bounce_all", "scomp"]) as home,
    ):
        home.record(EVENTS)
        if request.param == OWNED[1]:
            home.run()
        yield home


@pytest.fixture(params=OWNED)
def home(request: pytest.FixtureRequest, make_home: Callable[..., Home]) -> Home:
    """With four events, which every command sees alike whoever owns the queue."""
    home = make_home(legacy=LEAVES, enable=["bounce_all", "scomp"])
    home.record(EVENTS)
    if request.param == OWNED[1]:
        home.run()
    return home


def ids(home: Home, *arguments: str) -> list[int]:
    return [event["id"] for event in home.json("events", "list", *arguments)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", [1, 2, 3, 4]),
        ("--all", [1, 2, 3, 4]),
        ("--limit 2", [1, 2]),
        ("--id 2 --id 4 --id 99", [2, 4]),
        ("--type scomp", [3]),
        ("--type SCOMP --type bounce_all", [1, 2, 3, 4]),
        ("--email user1@example.com", [1]),
        ("--email *@EXAMPLE.org", [2]),
        ("--list a1 --type bounce_all", [1, 4]),
        ("--since 1790000002 --until 1790000004", [2, 3]),
        ("--since 2000-01-01 --until 2026-09-22T00:00", [1, 2, 3, 4]),
        ("--until 9999d", []),
        ("--state left", [1, 2, 3, 4]),
        ("--state waiting", []),
        ("--destination leave_in_queue", [1, 2, 3, 4]),
        ("--destination __legacy__", [1, 2, 3, 4]),
        ("--destination nobody", []),
    ],
)
def test_events_are_listed_and_counted_by_what_is_asked(seen: Home, arguments: str, expected: list[int]) -> None:
    words = arguments.split()
    assert ids(seen, *words) == expected
    if "--limit" not in words:
        assert seen.json("events", "count", *words) == {"count": len(expected)}
        assert seen.mailvane("events", "count", *words).stdout == f"{len(expected)}\n"


def test_a_listed_event_is_the_legacy_object_and_its_state(seen: Home) -> None:
    event = seen.json("events", "list", "--id", "2")[0]
    assert event["state"] == "left" and event["email"] == "other@example.org" and event["studio_rl_seq"] is None
    line = seen.mailvane("events", "list", "--id", "2").stdout
    assert line.startswith("2  2026-09-2") and "bounce_all h 10  other@example.org  list b2  left" in line


def test_one_event_is_shown_with_all_that_is_known(seen: Home) -> None:
    shown = seen.json("events", "show", "3")
    assert shown["event"]["event_type"] == "scomp" and shown["state"] == "left" and shown["attempts"] == 0
    assert shown["destination"] == "leave_in_queue" and shown["recorded"] > 1_700_000_000
    said = seen.mailvane("events", "show", "3").stdout
    assert "email                     user3@example.com\n" in said
    missing = seen.mailvane("events", "show", "99", check=False)
    assert missing.returncode == 1 and "event 99 is not in the queue" in missing.stderr


def test_the_status_is_greenarrows_table_then_ours(seen: Home) -> None:
    lines = seen.mailvane("events", "status").stdout.splitlines()
    assert lines[1] == "| Destination Name | Event Count (First Attempt) | Event Count (Retries) |"
    assert lines[3] == "|       __legacy__ |                           4 |                   n/a |"
    assert "4 events in the queue" in "\n".join(lines)
    report = seen.json("events", "status")
    assert report["destinations"][0]["name"] == "__legacy__" and report["queue"]["events"] == 4
    assert report["books"] == {"recorded": 4, "delivered": 0, "dropped": 0, "deleted": 0, "waiting": 4}
    assert (report["queue"]["in_flight"] is None) == ("nobody delivers now" in "\n".join(lines))


def test_dropping_deletes_what_is_meant_and_the_books_say_so(home: Home) -> None:
    assert home.json("events", "drop", "--list", "a1") == {"matched": 3}
    assert ids(home) == [2]
    assert home.mailvane("events", "drop", "--all").stdout == "1 event deleted\n"
    assert home.json("events", "status")["books"]["deleted"] == 4


@pytest.mark.parametrize("act", ["retry", "drop"])
def test_acts_want_to_be_told_which_events(home: Home, act: str) -> None:
    done = home.mailvane("events", act, check=False)
    assert done.returncode == 2 and "--all" in done.stderr
    assert len(ids(home)) == 4


def test_a_queue_that_is_not_there_yet_is_empty(make_home: Callable[..., Home]) -> None:
    home = make_home()
    assert home.waiting() == []
    assert home.json("events", "count") == {"count": 0}
    assert home.json("events", "status")["queue"] == {"events": 0, "oldest_seconds": None, "in_flight": None}
    assert not (home.folder / "queue.db").exists()
    assert home.json("events", "drop", "--all") == {"matched": 0}


def test_no_more_than_a_hundred_are_listed_unless_asked(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record(bounce(n) for n in range(250))
    done = home.mailvane("events", "list", "--json")
    assert len(json.loads(done.stdout)) == 100 and "--all shows everything" in done.stderr
    assert len(home.json("events", "list", "--all")) == 250
    home.run()
    assert len(home.json("events", "list")) == 100
    assert [e["id"] for e in home.json("events", "list", "--all")] == list(range(1, 251))


def states(report: dict[str, Any]) -> dict[str, str]:
    return {route["destination"]: route["state"] for route in report["destinations"][0]["routes"]}


def test_a_paused_destination_gets_nothing_over_restarts_until_it_is_resumed(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint]
) -> None:
    one, two = make_endpoint(), make_endpoint()
    home = make_home(
        legacy=legacy(rule(matches={"event_type": "scomp"}, url=two.url()), rule(url=one.url())),
        enable=["bounce_all", "scomp"],
    )
    name = f"http_post {one.url()}"
    # With nobody there it is done directly.
    assert home.json("events", "pause", one.url()) == {"destinations": [name]}
    assert states(home.json("events", "status")) == {name: "paused", f"http_post {two.url()}": "ok"}
    process = home.run()
    assert states(home.json("events", "status"))[name] == "paused"
    home.record([bounce(1), bounce(2, "scomp")])
    two.wait_for_answers(1)
    assert home.json("events", "resume", name) == {"destinations": [name]}
    one.wait_for_answers(1)
    assert home.json("events", "pause", "--all")["destinations"]
    process.stop()
    assert home.json("events", "resume", "--all")["destinations"]
    home.run()
    home.record([bounce(3)])
    one.wait_for_answers(2)


def test_pausing_what_is_not_there_names_what_is(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=posts_to("http://127.0.0.1:9/a"))
    done = home.mailvane("events", "pause", "http_post http://x.example/", check=False)
    assert done.returncode == 1 and "there are: http_post http://127.0.0.1:9/a" in done.stderr
    assert home.mailvane("events", "pause", check=False).returncode == 2
    home.write_legacy(LEAVES)
    assert "sends to no destination" in home.mailvane("events", "pause", "--all", check=False).stderr


def test_where_the_owner_does_not_deliver_all_is_seen_and_done_as_with_nobody_there(
    make_home: Callable[..., Home],
) -> None:
    home = make_home(legacy=posts_to("http://127.0.0.1:9/a"), enable=["bounce_all"])
    name = "http_post http://127.0.0.1:9/a"
    process = home.run("--only", "web")
    home.record([bounce(1)])
    assert ids(home, "--state", "waiting", "--destination", name) == [1]
    assert home.json("events", "pause", "--all") == {"destinations": [name]}
    assert states(home.json("events", "status")) == {name: "paused"}
    process.stop()
    assert states(home.json("events", "status")) == {name: "paused"}
    home.run("--only", "web")
    assert home.json("events", "resume", name) == {"destinations": [name]}
    assert states(home.json("events", "status")) == {name: "ok"}


def test_more_than_a_page_is_dropped_and_retried_whole(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record(bounce(n) for n in range(2_500))
    assert home.json("events", "retry", "--state", "left") == {"matched": 0}
    assert home.json("events", "drop", "--state", "left") == {"matched": 2_500}


@pytest.mark.parametrize("act", ["drop", "retry"])
def test_the_owner_of_millions_is_not_given_up_after_a_minute(
    make_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(1)])
    home.run()
    waits: list[float] = []
    recv = socket.socket.recv_into

    def noted(self: socket.socket, *args: Any) -> int:
        if self.family == socket.AF_UNIX:
            waits.append(self.gettimeout() or 0)
        return recv(self, *args)

    monkeypatch.setattr(socket.socket, "recv_into", noted)
    assert main(["events", act, "--all", "--home", str(home.folder)]) == 0
    assert waits and min(waits) >= 1_800


@pytest.mark.parametrize("owned", [False, True])
def test_retrying_makes_failed_events_due_at_once(
    make_home: Callable[..., Home], endpoint: Endpoint, owned: bool
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    endpoint.answer = 404  # the next try would be a minute later
    process = home.run()
    home.record([bounce(1)])
    endpoint.wait_for_answers(1)
    home.wait_for_status(lambda status: status["destinations"][0]["retries"] == 1)
    assert ids(home, "--state", "deferred") == [1]
    if not owned:
        process.stop()
        route = home.json("events", "status")["destinations"][0]["routes"][0]
        assert (route["state"], route["deferred"]) == ("retrying", 1) and "404" in route["last_error"]
        assert home.json("events", "show", "1")["attempts"] == 1
    endpoint.answer = 200
    assert home.json("events", "retry", "--all") == {"matched": 1}
    if not owned:
        home.mailvane("processor", "--once")
        assert home.waiting() == []
    else:
        home.wait_until_empty()
    assert len(endpoint.answered) == 2


def test_tail_shows_the_last_events_and_those_that_come(make_home: Callable[..., Home]) -> None:
    home = make_home(legacy=LEAVES, enable=["bounce_all", "scomp"])
    home.record(bounce(n) for n in range(1, 21))
    tail = home.start("events", "tail", "--lines", "2")
    tail.wait_for_output(r"^19  .*user19@example.com")
    tail.wait_for_output(r"^20  ")
    assert "\n18  " not in "\n" + tail.output
    home.record([bounce(21, "scomp")])
    tail.wait_for_output(r"^21  .*scomp")
    complaints = home.start("events", "tail", "--type", "scomp", "--json", "--lines", "1")
    assert json.loads(complaints.wait_for_output(r"^\{.*").string)["id"] == 21
    home.record([bounce(22), bounce(23, "scomp")])
    tail.wait_for_output(r"^23  .*scomp")
    assert json.loads(complaints.wait_for_output(r'^\{.*"id":\s*23').string)["id"] == 23


def test_a_newer_queue_is_refused_by_name(make_home: Callable[..., Home]) -> None:
    import apsw

    home = make_home(legacy=LEAVES, enable=["bounce_all"])
    home.record([bounce(1)])
    db = apsw.Connection(str(home.folder / "queue.db"))
    db.pragma("user_version", 99)
    db.close()
    for arguments in (["events", "list"], ["events", "drop", "--all"], ["record"], ["processor", "--once"]):
        done = home.mailvane(*arguments, input=json.dumps(bounce(1)), check=False)
        assert done.returncode == 1 and "written by a newer mailvane" in done.stderr, arguments
        assert "defect" not in done.stderr
