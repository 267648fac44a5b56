"""Which events are wanted, as a pure function of the switches."""

import pytest

from mailvane.events.catalogue import TYPES, Event
from mailvane.events.side import STUDIO_IDS, Side, side_of
from mailvane.recording.gate import AttemptRules, Gate, IncludeStatus, Wanted


def event(event_type: str, **fields: object) -> Event:
    return Event(event_type=event_type, email="user@example.com", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", STUDIO_IDS)
def test_an_event_with_any_of_studios_ids_is_studios(field: str):
    assert side_of(event("bounce_all", **{field: 0})) is Side.STUDIO
    assert side_of(event("bounce_all", studio_rl_seq=7, studio_rl_recipid="r")) is Side.ENGINE


def test_studios_own_types_are_studios_and_all_other_types_engines():
    own = {name for name in TYPES if side_of(event(name)) is Side.STUDIO}
    assert own == {
        "studio_open", "studio_click", "studio_unsub", "studio_subscriber_created", "studio_subscriber_updated",
    }  # fmt: skip
    assert set(STUDIO_IDS) == {
        "studio_mailing_list_id", "studio_subscriber_id", "studio_campaign_id", "studio_autoresponder_id",
        "studio_rl_seq_id", "studio_rl_distinct_id",
    }  # fmt: skip


def test_each_side_goes_by_its_own_switches():
    gate = Gate(engine=frozenset({"bounce_all"}), studio=frozenset({"scomp", "studio_open"}))
    assert gate.wants(event("bounce_all")) is Wanted.YES
    assert gate.wants(event("bounce_all", studio_campaign_id=1)) is Wanted.NO
    assert gate.wants(event("scomp")) is Wanted.NO
    assert gate.wants(event("scomp", studio_campaign_id=1)) is Wanted.YES
    assert gate.wants(event("studio_open")) is Wanted.YES
    assert gate.wants(event("studio_click")) is Wanted.NO


def test_who_knows_the_side_better_goes_by_that():
    gate = Gate(engine=frozenset({"bounce_all"}))
    assert gate.wants(event("bounce_all"), Side.STUDIO) is Wanted.NO
    assert gate.wants(event("bounce_all", studio_campaign_id=1), Side.ENGINE) is Wanted.YES


def test_what_is_not_known_is_not_off():
    gate = Gate(unknown=frozenset({"scomp", "delivery_attempt"}))
    assert gate.wants(event("scomp")) is Wanted.UNKNOWN
    assert gate.wants(event("delivery_attempt")) is Wanted.UNKNOWN
    assert gate.wants(event("scomp", studio_campaign_id=1)) is Wanted.NO
    assert gate.wants(event("bounce_all")) is Wanted.NO


def attempt(**fields: object) -> Event:
    return event("delivery_attempt", **fields)


ON = AttemptRules(enabled=True)
NO_FIRST = AttemptRules(enabled=True, include_first_attempt_regardless_of_status=False)


@pytest.mark.parametrize(
    ("rules", "fields", "wanted"),
    [
        (AttemptRules(), {"status": "success", "is_retry": 0}, False),
        (ON, {"status": "success", "is_retry": 1}, True),
        (ON, {"status": "deferral", "is_retry": 1}, True),
        (ON, {"status": "failure", "is_retry": 1}, True),
        (ON, {"status": "failure_toolong", "is_retry": 1}, True),
        (ON, {"status": "connmaxout", "is_retry": 1}, False),
        (ON, {"status": "connmaxout", "is_retry": 0}, True),
        (ON, {"status": "connmaxout"}, False),
        (NO_FIRST, {"status": "connmaxout", "is_retry": 0}, False),
        (ON, {}, True),
        (ON, {"status": "success", "channel": "local"}, True),
        (AttemptRules(True, include_local_channel=False), {"status": "success", "channel": "local"}, False),
        (
            AttemptRules(True, include_local_channel=False),
            {"status": "success", "channel": "local", "is_retry": 0},
            False,
        ),
        (AttemptRules(True, include_local_channel=False), {"status": "success", "channel": "remote"}, True),
        (AttemptRules(True, IncludeStatus(deferral=False)), {"status": "deferral", "is_retry": 1}, False),
        (AttemptRules(True, IncludeStatus(deferral=False)), {"status": "deferral", "is_retry": 0}, True),
    ],
)
def test_delivery_attempts_go_by_their_rules(rules: AttemptRules, fields: dict[str, object], wanted: bool):
    gate = Gate(engine=frozenset({"delivery_attempt"}), attempts=rules)
    assert gate.wants(attempt(**fields)) is (Wanted.YES if wanted else Wanted.NO)
