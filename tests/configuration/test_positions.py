"""JSON with places: what json.loads takes is taken with the same value, all else is refused with its place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.configuration.mistakes import Broken
from mailvane.configuration.positions import Array, Node, Object, parse
from mailvane.configuration.text import SIZE, decode


def plain(node: Node) -> Any:
    if isinstance(node, Object):
        return {m.key: plain(m.value) for m in node.members}
    if isinstance(node, Array):
        return [plain(item) for item in node.items]
    return node.value


def refused(text: str | bytes) -> tuple[int, int, str]:
    with pytest.raises(Broken) as caught:
        parse(decode(text.encode() if isinstance(text, str) else text))
    mistake = caught.value.mistake
    return mistake.line, mistake.column, mistake.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_reads_what_the_standard_library_writes(value: Any, indent: int | str | None, escape: bool):
    assert plain(parse(json.dumps(value, indent=indent, ensure_ascii=escape)).root) == value


@given(st.text(alphabet='{}[]",:\\/ tru0-1.eEu\n\ud800ü\x00#'.replace("\ud800", ""), max_size=40))
def test_accepts_and_refuses_what_the_standard_library_does(text: str):
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(Broken) as caught:
            parse(text)
        mistake = caught.value.mistake
        lines = text.split("\n")
        assert 1 <= mistake.line <= len(lines) and 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1
    else:
        assert plain(parse(text).root) == wanted


def test_every_key_and_value_has_its_place():
    document = parse('{\n "ä😀": [1,\r\n\t{"b": null}]\n}')
    assert isinstance(document.root, Object)
    (outer,) = document.root.members
    assert (document.root.place, outer.place, outer.value.place) == ((1, 1), (2, 2), (2, 8))
    assert isinstance(outer.value, Array)
    one, inner = outer.value.items
    assert isinstance(inner, Object)
    assert (one.place, inner.place) == ((2, 9), (3, 2))
    assert (inner.members[0].place, inner.members[0].value.place) == ((3, 3), (3, 8))


C2 = [
    (b"\xef\xbb\xbf{}", (1, 1), "byte order mark"),
    (b"\xff\xfe{\x00}\x00", (1, 1), "0xff is no UTF-8"),
    ('{"ä": "é'.encode() + b'\xe9"}', (1, 9), "0xe9 is no UTF-8"),
    ('{\n// why\n"a": 1}', (2, 1), "no comments"),
    ('{"a": 1 /* why */}', (1, 9), "found '/'"),
    ('{"a": # why\n 1}', (1, 7), "no comments"),
    ('{"a": 1,\n}', (1, 8), "found a comma that nothing follows, wanted none"),
    ('{"a": [1,\n 2,]}', (2, 3), "found a comma that nothing follows, wanted none"),
    ('{"a": NaN}', (1, 7), "NaN is no number in JSON"),
    ('{"a": -Infinity}', (1, 7), "-Infinity is no number in JSON"),
    ('{"a": True}', (1, 7), "True is written true in JSON"),
    ('{"a": "x\ty"}', (1, 9), "control character U+0009 in a string; write it as \\u0009"),
    ('{"a": "x\n"}', (1, 7), "no closing quotation mark on its line"),
    ('{"a": "x', (1, 7), "no closing quotation mark"),
    ('{"a": "\\x"}', (1, 8), "no such escape"),
    ("{'a': 1}", (1, 2), "found ''', wanted a key in double quotes"),
    ('{"a" 1}', (1, 6), "found '1', wanted a colon after the key \"a\""),
    ('{"a": 1 "b": 2}', (1, 9), "found '\"', wanted a comma or }"),
    ('{"a": 007}', (1, 8), "found '0', wanted a comma or }"),
    ('{"a": 1}\n{', (2, 1), "after the end of the value"),
    ('{\n "a": [1,\n\n', (2, 10), "the file ends, wanted a value"),
    ('{\n "a": 1\n\n', (2, 8), "the file ends, wanted a comma or }; { was opened on line 1"),
    ("", (1, 1), "the file is empty"),
    (" \n ", (1, 1), "the file is empty"),
    ("[" * 51, (1, 51), "nested deeper than 50"),
    ("[" * 500_000, (1, 51), "nested deeper than 50"),
    ('{"a":' * 150_000, (1, 251), "nested deeper than 50"),
    (b" " * (SIZE + 1), (1, 1), "at most 1,048,576 are read"),
    ('{"a":\u00a01}', (1, 6), "found U+00A0 (NO-BREAK SPACE), wanted a value"),
]


@pytest.mark.parametrize(("text", "place", "words"), C2, ids=[str(i) for i in range(len(C2))])
def test_c2_what_is_no_json_is_refused_with_its_place(text: str | bytes, place: tuple[int, int], words: str):
    line, column, message = refused(text)
    assert (line, column) == place and words in message


def test_c2_equal_keys_are_told_and_the_rest_is_read():
    document = parse('{"a": 1,\n "b": 2, "a": 3,\n "a": 4}')
    assert [(m.line, m.column, m.message) for m in document.mistakes] == [
        (2, 10, 'the key "a" stands here twice, first on line 1'),
        (3, 2, 'the key "a" stands here twice, first on line 1'),
    ]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (r'["\ud800"]', 3),
        (r'["\\ud800 \ud83d\ude00 \udc00"]', 24),
        (r'["\ud800\ud83d\ude00"]', 3),
        (r'["a\ud83dx"]', 4),
    ],
)
def test_c2_half_a_surrogate_pair_is_told_at_its_escape(text: str, column: int):
    document = parse(text)
    assert [(m.line, m.column) for m in document.mistakes] == [(1, column)]
    json.dumps(plain(document.root)).encode("utf-8")


def test_depth_of_fifty_is_read():
    parse("[" * 50 + "]" * 50)


def test_numbers_of_any_length_are_read():
    assert plain(parse("[" + "9" * 10_000 + "]").root) == [float("inf")]
