"""A page of a session shows all that was typed and printed, and is no other session's."""

from dataclasses import replace

import pytest

from guide.shell import Said, Typed
from guide.transcript import other_story, page

PID = Typed("svstat /service/x", "", "/service/x: up (pid 7) 6 seconds\n", 0, varies=True)
SQL = Typed("psql -U greenarrow", "UPDATE t \nSET a = TRUE;\n", "UPDATE 1", 0)
SESSION = (Said("## Studio"), Said("By SQL."), SQL, PID, Said("Done."))


def test_a_page_shows_what_was_said_typed_and_printed() -> None:
    text = page(SESSION, "A run.")
    assert text.startswith("# The guide, typed\n") and "\n\nA run.\n\n## Studio\n\nBy SQL.\n\n" in text
    assert text.endswith(
        "\n```text\n# psql -U greenarrow\nUPDATE t \nSET a = TRUE;\n^D\nUPDATE 1\n"
        "# svstat /service/x\n/service/x: up (pid 7) 6 seconds\n```\n\nDone.\n"
    )


def test_a_page_other_story_another_run_of_the_same_session() -> None:
    again = (*SESSION[:3], replace(PID, printed="/service/x: up (pid 1234) 8 seconds\n"), SESSION[4])
    assert other_story(page(SESSION, "Monday."), again) == ""


@pytest.mark.parametrize(
    "other",
    [
        (*SESSION[:2], replace(SQL, given="UPDATE t;\n"), *SESSION[3:]),
        (*SESSION[:2], replace(SQL, printed="UPDATE 0"), *SESSION[3:]),
        (*SESSION[:3], replace(PID, line="svstat /service/y"), SESSION[4]),
        (SESSION[0], *SESSION[2:]),
        SESSION[:4],
        (*SESSION, PID),
    ],
)
def test_a_page_of_another_session_is_told(other: tuple[Typed | Said, ...]) -> None:
    assert "---" in other_story(page(SESSION, "A run."), other)


def test_where_a_page_tells_another_story_is_shown() -> None:
    other = (*SESSION[:2], replace(SQL, given="UPDATE t;\n"), *SESSION[3:])
    shown = other_story(page(SESSION, "A run."), other)
    assert "# psql -U greenarrow\nUPDATE t \nSET a = TRUE;\n^D" in shown
    assert shown.endswith("--- this run\n# psql -U greenarrow\nUPDATE t;\n^D\n")
