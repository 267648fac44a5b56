"""What is typed is one person's session: a folder stays entered, each line's end and output are its own."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from guide import shell
from guide.shell import Said, Shell, Typed


@pytest.fixture(name="bash")
def _bash() -> Iterator[Shell]:
    with Shell() as bash:
        yield bash


def test_a_folder_stays_entered_and_a_variable_set(bash: Shell) -> None:
    bash.type("cd /usr/")
    bash.type("A='b  c'")
    assert bash.type('pwd; echo "$A"') == "/usr\nb  c\n"


def test_what_is_given_is_the_lines_standard_input_and_ends(bash: Shell) -> None:
    assert bash.type("cat; echo done", given="SELECT 1; \n\\d\n") == "SELECT 1; \n\\d\ndone\n"
    assert bash.type("cat") == ""


def test_both_outputs_come_in_their_order(bash: Shell) -> None:
    assert bash.type("echo a; echo b >&2; echo c") == "a\nb\nc\n"


def test_a_line_that_fails_is_told_unless_it_should(bash: Shell) -> None:
    assert bash.type("echo no; (exit 3)", status=3) == "no\n"
    with pytest.raises(AssertionError, match=r"# echo no; false\nno\nexit status 1, not 0"):
        bash.type("echo no; false")
    with pytest.raises(AssertionError, match="exit status 0, not 1"):
        bash.type("true", status=1)


def test_what_a_line_leaves_running_holds_nothing_up(bash: Shell) -> None:
    bash.type("sleep 100 & echo $! >/dev/null")
    assert bash.type("kill $!; wait $! 2>/dev/null; echo $?") == "143\n"


def test_more_than_a_pipe_holds_is_printed(bash: Shell) -> None:
    assert len(bash.type("seq 100000")) == 588895


@pytest.mark.parametrize(("line", "why"), [("echo a; sleep 100", "not done in 0.1 s"), ("echo a; kill $$", "ended")])
def test_a_line_that_is_not_done_is_told(bash: Shell, line: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "SECONDS", 0.1 if "sleep" in line else 60)
    with pytest.raises(AssertionError, match=f"a\n.*{why}"):
        bash.type(line)


def test_the_transcript_is_what_was_typed_and_said(bash: Shell) -> None:
    bash.say("Both outputs.")
    bash.type("cat; echo b >&2", given="a\n")
    assert bash.transcript == [Said("Both outputs."), Typed("cat; echo b >&2", "a\n", "a\nb\n", 0)]


def test_a_shell_works_in_a_process_that_has_opened_nothing_else() -> None:
    program = "from guide.shell import Shell\nwith Shell() as bash: print(bash.type('echo there'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert printed == "there\n\n"
