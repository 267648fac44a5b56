"""`mailvane run` as a process: one a home, ended by signals, short of open files."""

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from support.endpoint import Answer, Endpoint
from support.homes import LEAVES, Home, posts_to
from support.oracle import Oracle, assert_books_balance
from support.producers import Producers
from support.tools import tool


def test_d13_a_second_process_is_refused_and_takes_over_when_the_first_was_killed(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home, oracle = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"]), Oracle()
    endpoint.hold()
    first = home.run()
    assert home.post_events(oracle.offers(0, 100)).status == 202
    oracle.takes(0, 100)
    in_flight = len(endpoint.wait_for_requests(16))

    for command in (["run"], ["processor"], ["processor", "--once"]):
        refused = home.mailvane(*command, check=False)
        assert refused.returncode == 1
        assert f"process {first.pid}" in refused.stderr and "mailvane run" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert home.get("/readyz").status == 200, "the first goes on"

    first.kill()
    home.run()
    endpoint.release()
    books = home.wait_until_empty()["books"]
    account = oracle.account(endpoint)
    account.assert_right()
    assert account.repeated <= in_flight
    assert_books_balance(books, delivered=100)


def test_d13_it_gets_the_queue_from_programs_that_record_all_the_time(
    make_home: Callable[..., Home], endpoint: Endpoint, tmp_path: Path
) -> None:
    home, oracle = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"]), Oracle()
    with Producers(home, tmp_path) as producers:
        producers.start("recorder", "recorder", "recorder", pace=0)
        for _ in range(3):
            producers.wait_for("acknowledged", 100)
            home.run().stop()
        producers.stop()
        producers.tell(oracle)
        assert not producers.refusals()
    home.run()
    home.wait_until_empty(60)
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats


def test_d18_sigterm_under_load_ends_with_nothing_lost(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint, oracle = make_endpoint(Answer(200, delay=0.05)), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    with Producers(home, tmp_path) as producers:
        producers.start("http", "recorder")
        for _ in range(3):
            process = home.run()
            before = len(endpoint.requests)
            endpoint.wait_for_requests(before + 50)
            process.send(signal.SIGTERM)
            assert process.wait(10) == 0, process
        home.run()
        producers.stop()
        producers.tell(oracle)
    books = home.wait_until_empty()["books"]
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats, "what was on its way may arrive, and is then settled"
    assert_books_balance(books, recorded=account.accepted)


def test_d18_sigterm_waits_for_no_endpoint_for_long_and_twice_is_at_once(
    make_home: Callable[..., Home], endpoint: Endpoint
) -> None:
    home, oracle = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"]), Oracle()
    endpoint.hold()
    process = home.run()
    assert home.post_events(oracle.offers(0, 40)).status == 202
    oracle.takes(0, 40)
    endpoint.wait_for_requests(16)
    process.send(signal.SIGTERM)
    assert process.wait(10) == 0, "the endpoint answers nothing, and is not waited for"

    again = home.run()
    endpoint.wait_for_requests(32)
    again.send(signal.SIGTERM)
    again.wait_for_output("the same signal again ends at once")
    again.send(signal.SIGTERM)
    assert again.wait(10) == 1
    assert "ended at once" in again.output

    home.run()
    endpoint.release()
    home.wait_until_empty()
    oracle.account(endpoint).assert_right()


def test_d19_with_few_open_files_load_is_shed_and_nothing_is_lost(
    make_home: Callable[..., Home], make_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint, oracle = make_endpoint(Answer(200, delay=0.02)), Oracle()
    home = make_home(legacy=posts_to(endpoint.url()), enable=["bounce_all"])
    process = home.run(prefix=[tool("prlimit"), "--nofile=40:40"])
    with Producers(home, tmp_path) as producers:
        producers.start("http", "http", "http", "recorder", pace=0.03)
        endpoint.wait_for_requests(300)
        assert "not delivered" not in process.output, "that we are short of files is no failure of the endpoint's"
        crowd = [idle_connection(home) for _ in range(60)]
        endpoint.wait_for_requests(len(endpoint.requests) + 100)
        for connection in crowd:
            connection.close()
        endpoint.wait_for_requests(len(endpoint.requests) + 100)
        producers.stop()
        producers.tell(oracle)
    endpoint.wait_for(lambda e: len(e.answered) >= len(oracle.acknowledged), 60)
    assert process.exit_status() is None and "Traceback" not in process.output, process.output[-4000:]
    process.stop()
    home.run()
    books = home.wait_until_empty()["books"]
    account = oracle.account(endpoint)
    account.assert_right()
    assert not account.repeats
    assert_books_balance(books, recorded=account.accepted)


def idle_connection(home: Home) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", home.port), timeout=30)
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")  # and no end of it
    return connection


def test_a_shell_reads_and_deletes_while_everything_runs(make_home: Callable[..., Home], endpoint: Endpoint) -> None:
    home, oracle = make_home(legacy=LEAVES, enable=["bounce_all"]), Oracle()
    home.run()
    assert home.post_events(oracle.offers(0, 10)).status == 202
    shell = [tool("sqlite3"), "-cmd", ".timeout 30000", str(home.folder / "queue.db")]
    statements = "DELETE FROM events WHERE id <= 4; SELECT count(*) FROM events;"
    told = subprocess.run([*shell, statements], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "6", told
    home.write_legacy(posts_to(endpoint.url()))
    books = home.wait_until_empty()["books"]
    assert_books_balance(books, deleted=4, delivered=6)
