"""GreenArrow's guide, typed word for word on a machine that has mailvane: everything in it happens."""

from itertools import pairwise

import need
from guide.shell import Said, Typed
from guide.text import guide
from guide.transcript import PAGE, other_story, page
from support.machine import on_a_machine

PACKAGES = ("daemontools", "postfix", "postgresql")
SECONDS = 170.0
"""Less than a test of ours may take; it is done in twenty."""
MADE = need.CHECKOUT / "build" / "guide-transcript.md"


def test_the_guide_can_be_typed_word_for_word_and_everything_in_it_happens() -> None:
    """What has to happen is said where it is typed: guide/story.py, act by act."""
    seen = on_a_machine("guide.story", PACKAGES, SECONDS)
    session = [Said(**step) if "words" in step else Typed(**step) for step in seen["session"]]
    made = page(session, seen["of"])
    MADE.parent.mkdir(exist_ok=True)
    MADE.write_text(made, encoding="utf-8")
    typed = [step for step in session if isinstance(step, Typed)]
    _is_typed_as_it_stands(typed)
    kept = need.CHECKOUT / PAGE
    difference = other_story(kept.read_text(encoding="utf-8") if kept.exists() else "", session)
    assert not difference, f"{PAGE} tells another story; if this run's is right: cp {MADE} {PAGE}\n{difference}"


def _is_typed_as_it_stands(typed: list[Typed]) -> None:
    """The guide's commands, in its order, nothing between; what programs were given is the guide's, too."""
    text = guide()
    recording = [*text.engine_switches, text.psql, *text.apply_changes]
    lines = [step.line for step in typed]
    begins = lines.index(recording[0])
    assert lines[begins : begins + len(recording)] == recording
    sql = typed[begins + len(text.engine_switches)]
    assert sql.given == f"{text.studio_switches}{text.logout}\n"
    configured, checked = next((a, b) for a, b in pairwise(typed) if b.line == text.check_syntax)
    assert (configured.given, checked.status) == (text.configuration, 0)
