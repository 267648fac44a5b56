"""A full disk: producers are refused, nothing is delivered twice for that, all goes on when there is room."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.endpoint import Answer, Endpoint
from support.full_disk import WAITING, Full, fill, small_disk
from support.homes import Home, posts_to
from support.oracle import Oracle, assert_books_balance
from support.sabotage import GOES_ON_WITHOUT_SETTLING, KEEPS_THE_BALLAST, sabotaged
from support.tmpfs import Tmpfs

MAIL = Path(__file__).parents[1] / "data" / "bounces" / "mails" / "arf-01.eml"


@pytest.fixture
def make_full(short_folder: Path, tmp_path: Path, endpoint: Endpoint) -> Iterator[Callable[[], Full]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(small_disk(short_folder, tmp_path / "logs", endpoint))


def test_d6_d7_on_a_full_disk_producers_are_refused_and_what_is_in_flight_is_delivered_once(
    make_full: Callable[[], Full],
) -> None:
    full = make_full()
    full.fill_until_refused()
    assert full.home.get("/readyz").status == 503, "nothing is taken"
    assert full.home.mailvane("ingest", "mail", "-", input=MAIL.read_bytes(), check=False).returncode == 75
    full.wait_for_refusals(1)

    full.endpoint.release()  # what was in flight is answered, and must be removed on the full disk
    full.home.wait_for_status(lambda status: status["queue"]["events"] == 0)
    assert not full.ballast.exists()
    taken = full.producers.noted("acknowledged")
    full.wait_for_refusals(300)
    assert full.producers.noted("acknowledged") == taken, "recording must not eat the room that settling needs"
    assert full.home.get("/readyz").status == 503

    account, books = full.end()
    account.assert_right()
    assert not account.repeats
    assert_books_balance(books, recorded=account.accepted, waiting=0)


def test_d6_d7_a_process_that_starts_on_a_full_disk_delivers_what_waits(make_full: Callable[[], Full]) -> None:
    full = make_full()
    full.fill_until_refused()
    in_flight = len(full.endpoint.requests)
    full.home.processes[0].kill()
    full.fill()
    full.endpoint.release()
    full.home.start("run")
    full.endpoint.wait_for_answers(WAITING)
    full.home.wait_for_status(lambda status: status["queue"]["events"] == 0)
    assert full.home.get("/readyz").status == 503
    account, books = full.end()
    account.assert_right()
    assert account.repeated <= in_flight
    assert_books_balance(books, recorded=account.accepted, waiting=0)


def test_d6_a_start_with_neither_room_nor_ballast_says_so_and_loses_nothing(make_full: Callable[[], Full]) -> None:
    full = make_full()
    full.fill_until_refused()
    full.home.processes.pop().close()
    full.ballast.unlink()
    full.fill()
    refused = full.home.start("run")
    assert refused.wait() == 1
    assert "make room" in refused.output and "Traceback" not in refused.output, refused
    full.make_room()
    full.endpoint.release()
    full.home.run()
    full.fill()
    account, _ = full.end()
    account.assert_right()


def stand_still(full: Full) -> None:
    """The room of the ballast is eaten by others: nothing can be settled. Ends when it has been tried again."""
    full.fill_until_refused()
    full.ballast.unlink()
    full.fill()
    full.endpoint.release()
    full.endpoint.wait_for_answers(16)
    full.wait_for_refusals(1_000)  # longer than it takes to try again, twice


def test_d7_nothing_is_delivered_while_nothing_can_be_settled(make_full: Callable[[], Full]) -> None:
    full = make_full()
    stand_still(full)
    sent = len(full.endpoint.requests)
    full.wait_for_refusals(100)
    assert len(full.endpoint.requests) == sent < WAITING
    status = full.home.status()
    assert "the disk is full" in status["trouble"] and status["queue"]["events"] >= WAITING
    assert full.home.get("/readyz").status == 503 and full.home.get("/healthz").status == 200
    account, books = full.end()
    account.assert_right()
    assert not account.repeats
    assert_books_balance(books, recorded=account.accepted, waiting=0)


def test_d7_a_single_run_on_a_disk_that_stays_full_ends_with_the_reason(short_folder: Path, endpoint: Endpoint) -> None:
    oracle = Oracle()
    endpoint.answer = Answer(200, delay=0.2)  # on a busy machine the refusal takes longer than a thousand quick answers
    with (
        Tmpfs(short_folder / "t", size="16m") as small,
        Home(
            small.folder, legacy=posts_to(endpoint.url()), enable=["bounce_all"], prefix=small.prefix, seen=small.seen
        ) as home,
    ):
        home.record(oracle.offers(0, WAITING))
        oracle.takes(0, WAITING)
        endpoint.hold()
        run = home.start("processor", "--once")
        in_flight = len(endpoint.wait_for_requests(16))
        (home.seen / "ballast").unlink()  # somebody else eats its room, too
        fill(small.seen / "junk")
        endpoint.release()
        assert run.wait() == 1
        assert "make room" in run.output and "waits" in run.output and "Traceback" not in run.output, run.output
        sent = len(endpoint.requests)
        assert sent < WAITING

        (small.seen / "junk").unlink()
        assert home.start("processor", "--once").wait() == 0
        account = oracle.account(endpoint)
        account.assert_right()
        assert account.repeated <= max(in_flight, sent)
        assert not home.waiting()


def test_delivering_without_settling_is_caught(make_full: Callable[[], Full], tmp_path: Path) -> None:
    with sabotaged(tmp_path, GOES_ON_WITHOUT_SETTLING):
        full = make_full()
        stand_still(full)
        full.endpoint.wait_for_requests(WAITING)


def test_a_ballast_that_is_not_freed_is_caught(make_full: Callable[[], Full], tmp_path: Path) -> None:
    with sabotaged(tmp_path, KEEPS_THE_BALLAST):
        full = make_full()
        full.fill_until_refused()
        full.endpoint.release()
        full.wait_for_refusals(500)
        assert full.home.status()["queue"]["events"] > 0
