"""Step 1 of the guide: recording is enabled, for Engine by control files and for Studio by SQL."""

import re

from guide.happenings import ENGINE, STUDIO
from guide.stage import Stage, asked, ready

RESTARTED = ("/service/hvmail-passenger", "/service/hvmail-studio-worker")


def nothing_is_enabled(stage: Stage) -> None:
    stage.shell.say("## Before: no type is enabled")
    stage.shell.say("What happens now is offered, and not recorded: one event of each type that the guide speaks of.")
    said = stage.post(*ENGINE, *STUDIO)
    assert (said["recorded"], said["disabled"]) == (0, len(ENGINE) + len(STUDIO)), said
    assert stage.waiting() == []


def enable(stage: Stage) -> None:
    """The guide's commands, all of them and nothing else."""
    shell, guide = stage.shell, stage.guide
    shell.say("## Step 1: Event Recording")
    shell.say("Enable recording for Engine events, as the guide has it:")
    for line in guide.engine_switches:
        assert shell.type(line) == "", line
    # The same types on the other side wait for their own switches.
    assert stage.offer(*STUDIO)["recorded"] == 0
    shell.say("Enable recording for Studio events. The guide's last word to psql lists relations; its input then ends:")
    said = shell.type(guide.psql, given=f"{guide.studio_switches}{guide.logout}\n")
    assert said.startswith("UPDATE 1\n") and "List of relations" in said and "s_system_configs" in said, said
    before = _pids(asked("svstat", *RESTARTED))
    shell.say("Apply Changes:")
    *_, svstat = guide.apply_changes
    for line in guide.apply_changes:
        said = shell.type(line, varies=line == svstat)
    up = re.findall(r"^(\S+): up \(pid \d+\) \d+ seconds$", said, re.MULTILINE)
    assert tuple(up) == RESTARTED, said
    assert ready(), "the API is up, and takes no events"
    assert len(before) == len(up) and not {*before} & {*_pids(said)}, f"not restarted: {before}, then {said}"


def _pids(svstat: str) -> list[str]:
    return re.findall(r"\(pid (\d+)\)", svstat)
