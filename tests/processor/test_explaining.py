"""The table of a plan says what the router does, and names what is never reached."""

from hypothesis import given
from hypothesis import strategies as st

from mailvane.destinations.contract import HttpPost
from mailvane.processor.explaining import Explanation, explain
from mailvane.processor.plan import Drop, Leave, Match, Plan, Route
from mailvane.processor.routing import first_match

TYPES = ("bounce_all", "scomp", "engine_open")
CLASSES = ("news", "shop", "a1")


def plan(*matches: Match) -> Plan:
    targets = (HttpPost("http://a.example/"), Drop(), Leave())
    return Plan(tuple(Route(f"r{i}", match, targets[i % 3]) for i, match in enumerate(matches)))


def types(*names: str) -> Match:
    return Match(frozenset(names))


def taken(told: Explanation) -> set[tuple[str, str | None, int | None]]:
    return {(t.event_type, t.mail_class, t.rule) for t in told.taken}


def test_without_filters_by_class_each_type_has_one_line() -> None:
    told = explain(plan(types("scomp"), Match()), TYPES)
    assert taken(told) == {("bounce_all", None, 2), ("scomp", None, 1), ("engine_open", None, 2)}
    assert [t.event_type for t in told.taken] == list(TYPES)
    assert all(rule.reachable and not rule.shadowed for rule in told.rules)


def test_classes_have_lines_where_they_make_a_difference() -> None:
    told = explain(plan(types("scomp"), Match(mail_classes=frozenset({"news"})), Match()), TYPES)
    assert taken(told) == {
        ("scomp", None, 1),
        ("bounce_all", "news", 2), ("bounce_all", None, 3),
        ("engine_open", "news", 2), ("engine_open", None, 3),
    }  # fmt: skip
    assert [(s.event_type, s.mail_class, s.by) for s in told.rules[1].shadowed] == [("scomp", "news", 1)]


def test_a_rule_that_takes_nothing_is_told_with_the_one_before_it() -> None:
    told = explain(plan(types("scomp", "bounce_all"), types("scomp"), Match()), TYPES)
    assert [rule.reachable for rule in told.rules] == [True, False, True]
    assert [(s.event_type, s.by) for s in told.rules[1].shadowed] == [("scomp", 1)]
    assert told.rules[2].shadowed == ()


def test_what_no_rule_takes_stays() -> None:
    assert ("engine_open", None, None) in taken(explain(plan(types("scomp")), TYPES))
    assert taken(explain(Plan(), TYPES)) == {(t, None, None) for t in TYPES}


some = st.none() | st.frozensets(st.sampled_from(TYPES), min_size=1)
some_classes = st.none() | st.frozensets(st.sampled_from(CLASSES), min_size=1)


@given(st.lists(st.builds(Match, some, some_classes), max_size=5))
def test_the_table_is_what_the_router_does(matches: list[Match]) -> None:
    of = plan(*matches)
    told = explain(of, TYPES)
    answers = {(t.event_type, t.mail_class): t.rule for t in told.taken}
    reached: set[int] = set()
    for event_type in TYPES:
        for mail_class in (*CLASSES, "something else"):
            index = first_match(of, event_type, mail_class)
            rule = answers.get((event_type, mail_class), answers[event_type, None])
            assert rule == (None if index is None else index + 1)
            reached |= set() if index is None else {index + 1}
    assert {rule.number for rule in told.rules if rule.reachable} == reached
    assert all(
        rule.shadowed or rule.event_types is rule.mail_classes is None for rule in told.rules if not rule.reachable
    )
