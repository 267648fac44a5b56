"""A sync of the disk fails: the process acknowledges nothing that it stood for, ends, and all else is there."""

from support.endpoint import Endpoint
from support.homes import Home, posts_to
from support.oracle import Oracle
from support.tools import tool

MOST = 200
"""Events that are offered, one a commit, until the sync that fails has come."""


def fail_a_sync(home: Home, endpoint: Endpoint, when: int) -> None:
    """The fdatasync of this number fails, in a process that starts over one event and takes more."""
    oracle = Oracle()
    home.record(oracle.offers(0, 1))  # the tables are made
    oracle.takes(0, 1)
    inject = f"inject=fdatasync:error=EIO:when={when}"
    process = home.start("run", prefix=[tool("strace"), "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject])
    number = 1
    while process.exit_status() is None and number < MOST:
        event = oracle.offers(number, 1)
        try:
            answer = home.post_events(event)
        except OSError:  # not up yet, or ended
            continue
        if answer.status == 202:
            oracle.takes(number, 1, [answer.json["results"][0]["id"]])
            number += 1
        else:
            assert answer.status == 503
    assert process.wait() == 1, process
    assert "Traceback" not in process.output, process
    home.write_legacy(posts_to(endpoint.url()))
    home.run()
    home.wait_until_empty()
    oracle.account(endpoint).assert_right()
