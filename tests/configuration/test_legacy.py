"""The legacy configuration: good files become plans, and of bad ones every mistake is told in one go."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.legacy_keys import ANY_DESTINATION, FILE, MATCHES, RULE
from mailvane.configuration.mistakes import render
from mailvane.configuration.secrets import SecretMissing
from mailvane.destinations.contract import HttpPost
from mailvane.events.catalogue import TYPES
from mailvane.processor.plan import Drop, Leave, Match, Plan, Route

GUIDE = """{
  "configuration_mode": "json",

  "use_json_for_http_post": true,

  "event_destinations": [
    {
      "matches": {
         "all": true
      },
      "destination": {
        "type": "http_post",
        "url": "https://my-hook-server.exampledomain.com/notification"
      }
    }
  ]
}
"""
DESTINATION = '{"type": "http_post", "url": "https://hook.example.com/n"}'
ALL = '{"all": true}'


def no_secrets(reference: str) -> str:
    raise SecretMissing(f"{reference} leads to nothing")


def one(matches: str = ALL, destination: str = DESTINATION, top: str = "") -> str:
    return f'{{{top}"event_destinations": [\n {{"matches": {matches},\n  "destination": {destination}}}]}}'


def several(*matches: str) -> str:
    rules = ",\n".join(f'{{"matches": {m}, "destination": {DESTINATION}}}' for m in matches)
    return f'{{"event_destinations": [\n{rules}]}}'


def mistakes(text: str) -> list[tuple[int, int, str]]:
    read = read_legacy(text.encode(), no_secrets)
    assert (read.plan is None) == bool(read.mistakes)
    return [(m.line, m.column, m.message) for m in read.mistakes]


def plan_of(text: str) -> Plan:
    read = read_legacy(text.encode(), no_secrets)
    assert read.plan is not None, read.mistakes
    return read.plan


def test_the_guides_file_is_good():
    assert plan_of(GUIDE) == Plan(
        (
            Route(
                "http_post https://my-hook-server.exampledomain.com/notification",
                Match(),
                HttpPost("https://my-hook-server.exampledomain.com/notification", json=True),
            ),
        )
    )


def test_settings_at_the_top_hold_wherever_they_stand():
    text = one()[:-1] + ', "http_keep_alive": 0, "http_user_agent": "a/1"}'
    assert plan_of(text).routes[0].target == HttpPost("https://hook.example.com/n", False, 0, "a/1")


def test_filters_ignore_case_and_may_be_one_or_many():
    plan = plan_of(
        several('{"event_type": ["Bounce_All", "SCOMP"], "mail_class": "News"}', '{"mail_class": ["a"]}', ALL)
    )
    assert [r.match for r in plan.routes] == [
        Match(frozenset({"bounce_all", "scomp"}), frozenset({"news"})),
        Match(None, frozenset({"a"})),
        Match(),
    ]


def test_types_that_are_only_names_may_be_filtered_for():
    assert plan_of(several('{"event_type": "bounce_lite"}', ALL))


SINGLE = [
    # What is wrong, where, and what the message has.
    ("[]", 1, 1, "found an array, wanted an object"),
    ("{}", 1, 1, 'neither "event_destinations" nor "logfile" is here'),
    ('{"event_destinations": []}', 1, 24, "is an empty array; at least one destination must be in it"),
    ('{"event_destinations": {}}', 1, 24, '"event_destinations" must be an array of objects; an object is here'),
    ('{"event_destinations": "x"}', 1, 24, 'the string "x" is here'),
    ('{"event_destinations": [7]}', 1, 25, "found the number 7, wanted an object"),
    (one(top='"configuration_mode": "perl", '), 1, 24, 'must be "json"; the string "perl" is here'),
    (one(top='"configuration_mode": null, '), 1, 24, 'must be "json"; null is here'),
    (one(top='"use_json_for_http_post": 1, '), 1, 28, "must be true or false; the number 1 is here"),
    (one(top='"http_keep_alive": true, '), 1, 21, "must be a whole number from 0; true is here"),
    (one(top='"http_keep_alive": -1, '), 1, 21, "the number -1 is here"),
    (one(top='"http_keep_alive": 1.0, '), 1, 21, "the number 1.0 is here"),
    (one(top='"http_keep_alive": "4", '), 1, 21, 'the string "4" is here'),
    (one(top=f'"http_keep_alive": {"9" * 6000}, '), 1, 21, "must be a whole number"),
    (one(top='"http_keep_alive": 100001, '), 1, 21, "at most 100,000"),
    (one(top='"http_user_agent": "a\\r\\nb", '), 1, 21, "printable ASCII characters only"),
    (one(top='"http_user_agent": 7, '), 1, 21, "must be a string; the number 7 is here"),
    (one(top='"http_user_agent": " a", '), 1, 21, "neither begin nor end with a space"),
    (one(top='"http_user_agent": "@file:agent", '), 1, 21, "must be absolute"),
    (one(top='"http_user_agent": "@env:", '), 1, 21, "@file:/PATH or @env:NAME"),
    (one(top='"http_user_agent": "@env:NOWHERE", '), 1, 21, "@env:NOWHERE leads to nothing"),
    (one(top='"http_keepalive": 1, '), 1, 2, '"http_keepalive" is no key of the file; did you mean "http_keep_alive"?'),
    (one(top='"url": "https://a/", '), 1, 2, '"url" is no key of the file; it belongs into "destination"'),
    ('{"event_destinations": [{"matches": {"all": true}}]}', 1, 25, 'lacks "destination": an object'),
    (f'{{"event_destinations": [{{"destination": {DESTINATION}}}]}}', 1, 25, 'lacks "matches": an object'),
    (one('"all"'), 2, 14, '"matches" must be an object; the string "all" is here'),
    (one("{}"), 2, 14, '"matches" is empty'),
    (one('{"all": false}'), 2, 22, '"all" must be true; false is here'),
    (one('{"all": "true"}'), 2, 22, '"all" must be true; the string "true" is here'),
    (one('{"all": true, "event_type": "scomp"}'), 2, 28, '"all" stands alone; take out "event_type", or "all"'),
    (one('{"event_tipe": "scomp"}'), 2, 15, '"event_tipe" is no key of "matches"; did you mean "event_type"?'),
    (one('{"event_type": "scomp"}'), 2, 14, 'the last destination must match all: {"all": true}'),
    (several('{"event_type": ["bounce_al"]}', ALL), 2, 29, 'no type of event; did you mean "bounce_all"?'),
    (several('{"event_type": []}', ALL), 2, 28, '"event_type" is an empty array'),
    (several('{"event_type": 5}', ALL), 2, 28, "must be a string or an array of strings; the number 5 is here"),
    (several('{"mail_class": ["a", 5]}', ALL), 2, 34, "must be a string or an array of strings; the number 5 is in it"),
    (several('{"mail_class": "@env:CLASS"}', ALL), 2, 28, '"mail_class" takes no reference'),
    (several('{"event_type": ["scomp", "@file:/t"]}', ALL), 2, 38, '"event_type" takes no reference'),
    (several('{"mail_class": [["a"]]}', ALL), 2, 29, "an array is in it"),
    (several(ALL, ALL), 3, 1, "never reached: the destination at line 2, column 1 takes every event"),
    (one(destination='"https://a/"'), 3, 18, '"destination" must be an object'),
    (one(destination="{}"), 3, 18, '"destination" lacks "type": a string'),
    (one(destination='{"type": "http_pots", "url": "https://a/"}'), 3, 27, 'did you mean "http_post"?'),
    (one(destination='{"type": 1}'), 3, 27, '"type" must be a string; the number 1 is here'),
    (one(destination='{"type": "http_post"}'), 3, 18, 'lacks "url": a string'),
    (one(destination='{"type": "http_post", "url": ""}'), 3, 47, "the URL is empty"),
    (one(destination='{"type": "http_post", "url": 7}'), 3, 47, '"url" must be a string; the number 7 is here'),
    (one(destination='{"type": "http_post", "url": "http:///x"}'), 3, 47, "the URL has no host"),
    (one(destination='{"type": "http_post", "url": "ftp://a/"}'), 3, 47, "has the scheme ftp"),
    (one(destination='{"type": "http_post", "url": "@vault:x"}'), 3, 47, "@file:/PATH or @env:NAME"),
    (one(destination='{"type": "http_post", "url": "@file:x"}'), 3, 47, "must be absolute"),
    (one(destination='{"type": "http_post", "url": "@env:NOWHERE"}'), 3, 47, "@env:NOWHERE leads to nothing"),
    (one(destination='{"type": "drop_from_queue", "url": "https://a/"}'), 3, 46, 'is no key of a destination of type'),
    (one(destination='{"type": "http_post", "uri": 1, "url": "https://a/"}'), 3, 40, 'did you mean "url"?'),
    ('{"event_destinations": [], "event_destinations": []}', 1, 28, "stands here twice"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "words"), SINGLE, ids=[str(i) for i in range(len(SINGLE))])
def test_c3_a_mistake_is_told_with_its_place_and_what_would_be_right(text: str, line: int, column: int, words: str):
    found = mistakes(text)
    assert any((a, b) == (line, column) and words in message for a, b, message in found), found
    assert text.count("event_destinations") > 1 or len(found) == 1, found


def test_a_filter_alone_after_an_all_is_unreachable_and_no_more():
    assert [m[:2] for m in mistakes(several(ALL, '{"event_type": "scomp"}', ALL))] == [(3, 1), (4, 1)]


def test_an_address_by_reference_is_judged_and_stays_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hook").write_text("https://host/canary?canary\n")
    text = one(destination=f'{{"type": "http_post", "url": "@file:{tmp_path}/hook"}}')
    read = read_legacy(text.encode())
    assert read.plan and read.plan.routes[0].target == HttpPost(f"@file:{tmp_path}/hook", json=False)
    assert read.plan.routes[0].name == f"http_post @file:{tmp_path}/hook"
    assert read.secret_files == (tmp_path / "hook",)
    (tmp_path / "hook").write_text("https://user:canary@host/canary")
    assert read_legacy(text.encode()).plan
    (tmp_path / "hook").write_text("https://canary host/canary")
    bad = read_legacy(text.encode())
    assert "leads to will not do: the URL has a space" in bad.mistakes[0].message
    assert "canary" not in render(bad.mistakes, bad.text, "f")
    monkeypatch.setenv("MAILVANE_TEST_HOOK", "http://host/")
    assert read_legacy(text.replace(f"@file:{tmp_path}/hook", "@env:MAILVANE_TEST_HOOK").encode()).plan


def test_a_user_agent_by_reference_is_judged_and_stays_a_reference(tmp_path: Path):
    file = tmp_path / "agent"
    file.write_text("canary/1\n")
    text = one(top=f'"http_user_agent": "@file:{file}", ')
    read = read_legacy(text.encode())
    assert read.plan and read.plan.routes[0].target == HttpPost(
        "https://hook.example.com/n", json=False, user_agent=f"@file:{file}"
    )
    assert read.secret_files == (file,)
    file.write_text("canary/ü\n")
    bad = read_legacy(text.encode())
    assert [m.column for m in bad.mistakes] == [21] and "printable ASCII" in bad.mistakes[0].message
    assert f"@file:{file}" in bad.mistakes[0].message and "canary" not in render(bad.mistakes, bad.text, "f")


def test_check_syntax_says_in_whose_environment_a_variable_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MAILVANE_TEST_HOOK", raising=False)
    (mistake,) = read_legacy(
        one(destination='{"type": "http_post", "url": "@env:MAILVANE_TEST_HOOK"}').encode()
    ).mistakes
    assert "@env:MAILVANE_TEST_HOOK leads to nothing: the variable is not set here" in mistake.message


def names(rules: Sequence[tuple[str, str]]) -> list[str]:
    """The names of destinations, by pairs of matches and URL."""
    text = ", ".join(
        f'{{"matches": {matches}, "destination": {{"type": "http_post", "url": "{url}"}}}}' for matches, url in rules
    )
    return [route.name for route in plan_of(f'{{"event_destinations": [{text}]}}').routes]


def test_destinations_that_differ_only_in_what_is_masked_are_named_by_what_they_take():
    assert names(
        [
            ('{"event_type": ["Scomp", "bounce_all"]}', "https://h/a?t=1"),
            ('{"event_type": "scomp", "mail_class": ["n2", "N1"]}', "https://h/a?t=2"),
            ('{"mail_class": "n3\\u202e"}', "https://h/a?t=3"),
            ('{"mail_class": "n3"}', "https://h/b?t=3"),
            (ALL, "https://h/a?t=1"),
        ]
    ) == [
        "http_post https://h/a?... (all or bounce_all, scomp)",
        "http_post https://h/a?... (scomp; mail class n1, n2)",
        "http_post https://h/a?... (mail class n3\\u202e)",
        "http_post https://h/b?...",
        "http_post https://h/a?... (all or bounce_all, scomp)",
    ]


def test_a_destination_keeps_its_name_when_the_rules_are_put_in_another_order():
    # A pause is kept by name.
    rules = [
        ('{"event_type": "scomp"}', "https://h/a?t=1"),
        ('{"event_type": "engine_open"}', "https://h/a?t=2"),
        ('{"event_type": "engine_click"}', "https://h/a?t=3"),
    ]
    last = (ALL, "https://h/b")
    assert dict(zip(reversed(rules), names([*reversed(rules), last]), strict=False)) == dict(
        zip(rules, names([*rules, last]), strict=False)
    )


def test_of_two_that_take_the_same_the_second_which_gets_nothing_is_numbered():
    assert names(
        [('{"event_type": "scomp"}', "https://h/?1"), ('{"event_type": "scomp"}', "https://h/?2"), (ALL, "http://x")]
    )[:2] == ["http_post https://h/?... (scomp)", "http_post https://h/?... (scomp) (2)"]


SEVEN = """{
  "configuration_mode": "json",
  "use_json_for_http_post": "true",
  "http_keep_alive": true,
  "event_destinations": [
    {"matches": {"event_type": ["bounce_all", "bounce_al", "scomp"]},
     "destination": {"type": "http_post", "url": "https://bounce_al.example/event_tipe"}},
    {"matches": {"event_type": "scomp", "event_tipe": "scomp"},
     "destination": {"type": "http_post", "url": "https:///event_type"}},
    {"matches": {"all": true, "mail_class": "all"},
     "destination": {"type": "http_pots", "url": "https://http_post.example/true"}}
  ]
}
"""
SEVEN_TOLD = """\
event_processor.json:3:29: "use_json_for_http_post" must be true or false; the string "true" is here
      "use_json_for_http_post": "true",
                                ^
event_processor.json:4:22: "http_keep_alive" must be a whole number from 0; true is here
      "http_keep_alive": true,
                         ^
event_processor.json:6:47: "bounce_al" is no type of event; did you mean "bounce_all"?
        {"matches": {"event_type": ["bounce_all", "bounce_al", "scomp"]},
                                                  ^
event_processor.json:8:41: "event_tipe" is no key of "matches"; did you mean "event_type"?
        {"matches": {"event_type": "scomp", "event_tipe": "scomp"},
                                            ^
event_processor.json:9:50: the URL has no host
         "destination": {"type": "http_post", "url": "https:///event_type"}},
                                                     ^
event_processor.json:10:31: "all" stands alone; take out "mail_class", or "all"
        {"matches": {"all": true, "mail_class": "all"},
                                  ^
event_processor.json:11:30: "http_pots" is no type of destination; did you mean "http_post"?
         "destination": {"type": "http_pots", "url": "https://http_post.example/true"}}
                                 ^"""

TABBED = """{"event_destinations": [
\t{"matches": {"event_type": "scomp"}, "destination": {"type": "drop_from_queue"}},
\t{"matches": {"event_type": []}, "destination": {"type": "drop_from_queue", "type": "leave_in_queue"}},
\t{"matches": {"all": true}, "destination": {"type": "leave_in_queue"}},
\t{"matches": {"all": "true"}, "destination": {"type": "leave_in_queue", "url": "日本"}},
\t{"matches": {"mail_class": ["日本", null, "\\ud800"]}, "destination": {"type": "mysql", "sql": "leave_in_queue"}}
]}"""
TABBED_TOLD = """\
f:3:29: "event_type" is an empty array, which matches nothing; name at least one
        {"matches": {"event_type": []}, "destination": {"type": "drop_from_queue", "type": "leave_in_que…
                                   ^
f:3:77: the key "type" stands here twice, first on line 3
    …: {"event_type": []}, "destination": {"type": "drop_from_queue", "type": "leave_in_queue"}},
                                                                      ^
f:5:2: never reached: the destination at line 4, column 2 takes every event; put this one before it
        {"matches": {"all": "true"}, "destination": {"type": "leave_in_queue", "url": "日本"}},
        ^
f:5:22: "all" must be true; the string "true" is here
        {"matches": {"all": "true"}, "destination": {"type": "leave_in_queue", "url": "日本"}},
                            ^
f:5:73: "url" is no key of a destination of type "leave_in_queue"; known is type
    …hes": {"all": "true"}, "destination": {"type": "leave_in_queue", "url": "日本"}},
                                                                      ^
f:6:2: never reached: the destination at line 4, column 2 takes every event; put this one before it
        {"matches": {"mail_class": ["日本", null, "\\ud800"]}, "destination": {"type": "mysql", "sql": "l…
        ^
f:6:36: "mail_class" must be a string or an array of strings; null is in it
        {"matches": {"mail_class": ["日本", null, "\\ud800"]}, "destination": {"type": "mysql", "sql": "l…
                                            ^
f:6:43: half of a surrogate pair is no character
        {"matches": {"mail_class": ["日本", null, "\\ud800"]}, "destination": {"type": "mysql", "sql": "l…
                                                   ^
f:6:69: a destination of type "mysql" lacks "db_dsn": a string
    …tches": {"mail_class": ["日本", null, "\\ud800"]}, "destination": {"type": "mysql", "sql": "leave_in_…
                                                                      ^"""


def test_every_mistake_in_one_go_where_the_same_words_also_stand_rightly_elsewhere():
    read = read_legacy(SEVEN.encode())
    assert render(read.mistakes, read.text, "event_processor.json") == SEVEN_TOLD


def test_every_mistake_in_one_go_with_tabs_wide_characters_and_long_lines():
    read = read_legacy(TABBED.encode())
    assert render(read.mistakes, read.text, "f") == TABBED_TOLD


def test_after_a_mistake_of_syntax_the_rest_is_not_judged():
    assert [m[:2] for m in mistakes(SEVEN.replace('"json",', '"json"'))] == [(3, 3)]


# Files made from the plans that they must become.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
CASED = st.sampled_from(sorted(TYPES)).flatmap(lambda n: st.sampled_from([n, n.upper(), n.title()]))
URLS = st.builds(
    lambda scheme, host, port, path: f"{scheme}://{host}{port}{path}",
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,5})?", fullmatch=True),
    st.sampled_from(["", ":1", ":8080", ":65535"]),
    st.sampled_from(["", "/", "/a/b", "/x?y=z&token=s", "?q"]),
)


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, Any], Plan]:
    as_json = draw(st.none() | st.booleans())
    keep_alive = draw(st.none() | st.integers(0, 1000))
    agent = draw(st.none() | st.from_regex(r"[!-~]([ -~]{0,10}[!-~])?", fullmatch=True))
    rules: list[Any] = []
    routes: list[Route] = []
    count = draw(st.integers(1, 5))
    for index in range(count):
        if index == count - 1:
            matches: dict[str, Any] = {"all": True}
            match = Match()
        else:
            types = draw(st.none() | CASED | st.lists(CASED, min_size=1, max_size=3))
            classes = draw(NAMES | st.lists(NAMES, min_size=1, max_size=3) | (st.none() if types else st.nothing()))
            matches = {k: v for k, v in (("event_type", types), ("mail_class", classes)) if v is not None}
            match = Match(*(None if v is None else frozenset(n.lower() for n in ([v] if isinstance(v, str) else v))
                            for v in (types, classes)))  # fmt: skip
        url = draw(st.none() | URLS)
        if url is None:
            kind = draw(st.sampled_from(["drop_from_queue", "leave_in_queue"]))
            destination = {"type": kind}
            routes.append(Route(kind, match, Drop() if kind.startswith("drop") else Leave()))
        else:
            destination = {"type": "http_post", "url": url}
            name = "http_post " + url.split("?")[0] + ("?..." if "?" in url else "")
            routes.append(Route(name, match, HttpPost(url, as_json is True, keep_alive, agent or "")))
        rules.append({"matches": matches, "destination": destination})
    top = {
        "configuration_mode": draw(st.none() | st.just("json")),
        "use_json_for_http_post": as_json,
        "http_keep_alive": keep_alive,
        "http_user_agent": agent,
        "event_destinations": rules,
    }
    order = draw(st.permutations(list(top)))
    return {key: top[key] for key in order if top[key] is not None}, Plan(tuple(routes))


@given(files(), st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_a_generated_file_becomes_the_plan_that_it_was_made_from(
    made: tuple[dict[str, Any], Plan], indent: int | str | None, escape: bool
):
    text = json.dumps(made[0], indent=indent, ensure_ascii=escape)
    assert plan_of(text) == made[1]


def inside(text: str, line: int, column: int) -> bool:
    lines = text.split("\n")
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


@given(files(), st.data())
def test_a_file_with_a_character_changed_never_crashes_and_places_are_inside(
    made: tuple[dict[str, Any], Plan], data: st.DataObject
):
    text = json.dumps(made[0], indent=data.draw(st.sampled_from([None, 1])))
    at = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 3))
    put = data.draw(st.text(alphabet='{}[]",:\\tfn019 \n\x00ü日', max_size=3))
    changed = text[:at] + put + text[at + length :]
    read = read_legacy(changed.encode(), no_secrets)
    assert (read.plan is None) == bool(read.mistakes)
    assert all(inside(changed, m.line, m.column) for m in read.mistakes)
    assert list(read.mistakes) == sorted(read.mistakes)
    render(read.mistakes, read.text, "f")


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(data: bytes):
    read = read_legacy(data, no_secrets)
    assert read.mistakes and all(inside(read.text, m.line, m.column) for m in read.mistakes)


KEYS = sorted({k for keys in (FILE, RULE, MATCHES, ANY_DESTINATION) for k in keys.names()})
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["json", "http_post", "drop_from_queue", "scomp", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=15,
)


@given(SHAPES)
def test_any_shape_of_known_keys_is_judged(value: Any):
    text = json.dumps(value, indent=1)
    read = read_legacy(text.encode(), no_secrets)
    assert (read.plan is None) == bool(read.mistakes)
    assert all(inside(text, m.line, m.column) for m in read.mistakes)
