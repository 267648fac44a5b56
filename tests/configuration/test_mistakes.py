"""How mistakes look."""

from mailvane.configuration.mistakes import WIDTH, Mistake, nearest, quoted, render


def test_each_mistake_stands_over_its_line_and_a_caret_in_order_of_place():
    text = '{"a": 1,\n "b": 2}\n'
    assert render([Mistake(2, 7, "second"), Mistake(1, 2, "first")], text, "f.json") == (
        'f.json:1:2: first\n    {"a": 1,\n     ^\nf.json:2:7: second\n     "b": 2}\n          ^'
    )


def test_tabs_wide_and_combining_characters_do_not_move_the_caret():
    shown = render([Mistake(1, 8, "m")], '\t日本e\u0301: "x"', "f").split("\n")
    assert shown[1] == "    " + '    日本e\u0301: "x"'
    # four cells of the tab, two for each of the wide ones, one for the letter, none for its accent, two more
    assert shown[2] == "    " + " " * (4 + 4 + 1 + 2) + "^"


def test_a_long_line_is_cut_around_the_column():
    line = "a" * 5_000 + "X" + "b" * 500_000
    shown = render([Mistake(1, 5_001, "m")], line, "f").split("\n")
    assert len(shown[1]) <= WIDTH + 6 and shown[1].endswith("…") and shown[1].startswith("    …")
    assert shown[1][shown[2].index("^")] == "X"


def test_control_and_direction_characters_do_not_reach_the_terminal():
    shown = render([Mistake(1, 1, "m")], "a\x1b[31m\u202eb\r\nsecond", "f\x1b.json")
    assert "\x1b" not in shown and "\u202e" not in shown and "\r" not in shown
    assert "\x1b" not in quoted("a\x1bb")


def test_nearest_name_or_all_of_them():
    assert nearest("Event_Tipe", ["event_type", "all"]) == 'did you mean "event_type"?'
    assert nearest("zzz", ["b", "a"]) == "known are a, b"


def test_long_text_is_cut():
    assert quoted("x" * 41) == f'"{"x" * 40}…"' and quoted("x" * 40) == f'"{"x" * 40}"'
