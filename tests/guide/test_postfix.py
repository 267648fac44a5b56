"""A message that a real Postfix cannot deliver comes back by its pipe, and is found again by its queue id."""

from guide.postfix import CUSTOMERS
from support.machine import on_a_machine


def test_a_message_to_an_unknown_user_comes_back_with_the_queue_id_that_postfix_gave() -> None:
    seen = on_a_machine("guide.postfix_alone", ("postfix",))
    hard, bad = seen["events"]
    assert (hard["event_type"], bad["event_type"]) == ("bounce_all", "bounce_bad_address")
    for event in (hard, bad):
        assert event["email"] == f"nobody@{CUSTOMERS}"
        assert (event["bounce_type"], event["bounce_code"]) == ("h", 10)
        assert (event["listid"], event["sendid"], event["click_tracking_id"]) == ("news", "s7", "t1")
        assert "550 5.1.1" in event["bounce_text"]
    for shown in seen["shown"]:
        assert ["msguid", seen["queue id"]] in [line.split() for line in shown.splitlines()]
