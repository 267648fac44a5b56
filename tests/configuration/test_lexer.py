"""The lexical rules of greenarrow.conf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.configuration.lexer import Block, Directive, lex


def told(text: str) -> list[tuple[int, int, str]]:
    return [(m.line, m.column, m.message) for m in lex(text).mistakes]


def test_directives_blocks_and_comments():
    lexed = lex(
        "# a comment\r\n  # another { \n\n"
        "server_id mail-1\n"
        "event_delivery_destination primary, second {\n"
        '\tevent_delivery_url "https://example.com/a b"\n'
        '  inner {\n    x `a \\n "b"` [::1]:25 a;b%c|d@e$f*\n  }\n'
        "}\n"
    )
    assert not lexed.mistakes
    first, block = lexed.statements
    assert isinstance(first, Directive) and isinstance(block, Block)
    assert (first.name.text, first.name.place, [v.text for v in first.values]) == ("server_id", (4, 1), ["mail-1"])
    assert [label.text for label in block.labels] == ["primary", "second"]
    url, inner = block.body
    assert isinstance(url, Directive) and isinstance(inner, Block)
    assert (url.values[0].text, url.values[0].place, url.values[0].quoted) == ("https://example.com/a b", (6, 21), True)
    assert isinstance(inner.body[0], Directive)
    assert [v.text for v in inner.body[0].values] == ['a \\n "b"', "[::1]:25", "a;b%c|d@e$f*"]


def test_double_quotes_have_jsons_escapes():
    (directive,) = lex(r'a "\u00fc\n\"\\\/ \ud83d\ude00"').statements
    assert isinstance(directive, Directive) and directive.values[0].text == 'ü\n"\\/ 😀'


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a 1\nb ü\n", 2, 3, "found U+00FC in a bare word, wanted double quotes"),
        ("a x # why", 1, 5, "found # within a line, wanted comments on lines of their own"),
        ('a "x', 1, 3, "not closed on its line"),
        ("a `x", 1, 3, "not closed on its line, wanted a backtick"),
        ("a 'x'", 1, 3, "a single quote"),
        (r'a "\x"', 1, 3, "an escape that is none"),
        ('a "x\ty"', 1, 3, "an escape that is none"),
        (r'a "\ud800"', 1, 3, "surrogate"),
        ('"a" b', 1, 1, "found no name"),
        (", b", 1, 1, "found no name"),
        ("}", 1, 1, "no block is open"),
        ("a {\n} b", 2, 3, "found more after }"),
        ("a { b }", 1, 3, "found { within a line"),
        ("a b }", 1, 5, "found } within a line"),
        ("a b c {\n}", 1, 5, "found no list of names"),
        ("a b, {\n}", 1, 4, "found no list of names"),
        ("\na {\nb {\n}\n", 2, 1, 'the block "a" is never closed'),
        ("a\x00b", 1, 2, "found U+0000"),
    ],
)
def test_mistakes_have_places(text: str, line: int, column: int, words: str):
    found = told(text)
    assert any((a, b) == (line, column) and words in message for a, b, message in found), found


def test_every_line_is_judged():
    assert [m[:2] for m in told("a ü\nb 1\nc 'x'\n}\n")] == [(1, 3), (3, 3), (4, 1)]


def test_nesting_is_bounded():
    assert "nested deeper than 50" in told("a {\n" * 200_000)[0][2]


@given(st.text(alphabet='ab {},"`\\\n#1ü\t\r', max_size=60))
def test_any_text_is_lexed_with_places_inside(text: str):
    lines = text.split("\n")
    for line, column, _ in told(text):
        assert 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


def test_long_lines_take_time_in_proportion():
    for piece in ('"', '"a" ', "`", "\\", '"\\', "{ ", "a ", ","):
        lex(piece * (100_000 // len(piece)))
