"""What is recorded goes out because of its commit. Shown without the look that happens once a second in any case."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.endpoint import Endpoint
from support.filling import fill
from support.homes import Home, posts_to
from support.oracle import Oracle
from support.sabotage import WAKES_NOBODY, WITHOUT_THE_SAFETY_NET, sabotaged

PROGRAM = """
import sys
from mailvane import Event, Recorder
with Recorder(sys.argv[1]) as recorder:
    for line in sys.stdin:
        print(recorder.record(Event(event_type="bounce_all", email="user@example.com", click_tracking_id=line.strip())))
        sys.stdout.flush()
"""


@pytest.fixture
def without_net(tmp_path: Path) -> Iterator[None]:
    with sabotaged(tmp_path, WITHOUT_THE_SAFETY_NET):
        yield


@pytest.mark.usefixtures("without_net")
def test_an_event_recorded_through_the_socket_by_another_process_goes_out_at_once(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    command = [sys.executable, "-c", PROGRAM, str(home.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin and program.stdout

        def record(number: int) -> int:
            assert program.stdin and program.stdout
            program.stdin.write(f"ct-{number}\n")
            program.stdin.flush()
            return int(program.stdout.readline())

        first = record(1)  # nobody owns the queue: it takes it for a moment
        home.run()
        endpoint.wait_for_answers(1)
        ids = [record(number) for number in range(2, 12)]  # now by the owner's socket
        endpoint.wait_for_answers(11)
        program.stdin.close()
    assert [event["id"] for event in endpoint.events()] == [first, *ids]


@pytest.mark.usefixtures("without_net")
def test_what_was_recorded_while_nobody_owned_the_queue_goes_out_when_run_starts(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home, oracle = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"]), Oracle()
    process = home.start("run")
    fill(home, oracle, 0, 3_000)  # before it starts, while it starts, and by its socket
    home.record(oracle.offers(3_000, 5))
    oracle.takes(3_000, 5)
    endpoint.wait_for_answers(3_005)
    home.wait_until_empty()
    assert process.exit_status() is None
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats


@pytest.mark.usefixtures("without_net")
def test_a_person_who_retries_or_resumes_wakes_the_processor(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home, oracle = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"]), Oracle()
    endpoint.answer = 404  # due again after a minute at the earliest
    home.run()
    home.record(oracle.offers(0, 3))
    oracle.takes(0, 3)
    home.wait_for_status(lambda status: status["destinations"][0]["retries"] == 3)
    endpoint.answer = 200
    home.mailvane("events", "retry", "--all")
    home.wait_until_empty()

    home.mailvane("events", "pause", "__legacy__")
    home.record(oracle.offers(3, 3))
    oracle.takes(3, 3)
    assert home.status()["queue"]["events"] == 3
    home.mailvane("events", "resume", "__legacy__")
    home.wait_until_empty()
    oracle.account(endpoint).assert_right()


def test_a_build_in_which_a_commit_wakes_nobody_is_caught(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path
) -> None:
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    with sabotaged(tmp_path, WAKES_NOBODY):
        home.run()
        for number in range(5):  # the first may still come in time for the look at the start
            assert home.post_events(Oracle().offers(number, 1)).status == 202
        with pytest.raises(AssertionError):
            endpoint.wait_for_requests(5, timeout=2)
