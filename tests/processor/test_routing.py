from hypothesis import given
from hypothesis import strategies as st

from mailvane.processor import routing
from mailvane.processor.plan import Drop, Leave, Match, Plan, Route
from mailvane.processor.routing import Router, first_match

BOUNCES = Match(event_types=frozenset({"bounce_all", "bounce_bad_address"}))
NEWS = Match(mail_classes=frozenset({"news"}))
NEWS_CLICKS = Match(event_types=frozenset({"engine_click"}), mail_classes=frozenset({"news", "shop"}))


def plan(*matches: Match) -> Plan:
    return Plan(tuple(Route(str(i), m, Leave() if i % 2 else Drop()) for i, m in enumerate(matches)))


def test_the_first_route_that_matches_takes_the_event():
    p = plan(BOUNCES, NEWS, Match())
    assert first_match(p, "bounce_all", "news") == 0
    assert first_match(p, "scomp", "news") == 1
    assert first_match(p, "scomp", "other") == 2


def test_all_filters_of_a_route_must_match():
    p = plan(NEWS_CLICKS)
    assert first_match(p, "engine_click", "shop") == 0
    assert first_match(p, "engine_click", "other") is None
    assert first_match(p, "engine_open", "news") is None


def test_case_is_ignored():
    assert first_match(plan(NEWS_CLICKS), "Engine_CLICK", "NewS") == 0


def test_a_plan_without_routes_takes_nothing():
    assert first_match(Plan(), "scomp", "") is None
    assert Router(Plan(), ()).route("scomp", "") is None


matches = st.builds(
    Match,
    event_types=st.none() | st.frozensets(st.sampled_from(["a", "b", "c"])),
    mail_classes=st.none() | st.frozensets(st.sampled_from(["x", "y", ""])),
)


@given(
    st.lists(matches, max_size=6), st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "Y", "z", ""])))
)
def test_what_is_remembered_is_what_is_right(given_matches: list[Match], events: list[tuple[str, str]]):
    p = plan(*given_matches)
    router = Router(p, range(len(p.routes)))
    for event_type, mail_class in events:
        assert router.route(event_type, mail_class) == first_match(p, event_type, mail_class)


def test_any_number_of_mail_classes_costs_bounded_memory():
    router = Router(plan(NEWS, Match()), (0, 1))
    for n in range(routing.REMEMBERED * 2 + 5):
        assert router.route("scomp", f"class{n}") == 1
        assert len(router._seen) <= routing.REMEMBERED
    before = len(router._seen)
    assert router.route("scomp", "long" * 1_000) == 1
    assert len(router._seen) == before
