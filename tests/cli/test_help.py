import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailvane.cli.commands import COMMANDS, overview, parser_for, spec_of
from mailvane.events.catalogue import FIELDS, TYPES
from support.homes import COMMAND

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()

# The commands that others rely on.
CONTRACT = (
    *("init", "run", "processor", "record", "enable", "disable", "enabled", "ingest mail", "events status"),
    *("events list", "events show", "events tail", "events count", "events retry", "events pause", "events resume"),
    *(
        "events drop",
        "events replay",
        "events export",
        "config explain",
        "config sql-table",
        "queue move",
        "queue salvage",
        "layout greenarrow",
        "listen",
        "trigger",
        "doctor",
        "demo",
    ),
)


def mailvane(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_command_that_others_rely_on_is_there_and_no_other() -> None:
    assert set(COMMANDS) == set(CONTRACT)
    assert all(f"  {name} " in overview() for name in CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_help_needs_nothing_else(name: str) -> None:
    shown = mailvane(*name.split(), "--help", COLUMNS="100")
    assert shown.returncode == 0 and shown.stderr == ""
    examples = re.split(r"^examples?:$", shown.stdout, flags=re.MULTILINE)
    assert len(examples) == 2
    lines = examples[1].split("\n\n")[0].splitlines()
    assert any("mailvane " in line or "hvmail_event_processor" in line for line in lines)
    assert len(spec_of(COMMANDS[name]).about) > 50


@pytest.mark.parametrize("name", CONTRACT)
def test_the_page_on_commands_has_its_heading_options_and_examples(name: str) -> None:
    found = re.search(rf"^## mailvane {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/commands.md has no heading for mailvane {name}"
    section = " ".join(found[1].split())
    for action in parser_for(name)._actions:
        for option in action.option_strings:
            if option not in {"-h", "--help", "--home"}:
                assert f"`{option}" in section, f"{option} is not told"
    for line, _ in spec_of(COMMANDS[name]).examples:
        assert line in found[1]


@pytest.mark.parametrize("name", ["record", "trigger"])
def test_help_on_events_tells_every_type_and_field_of_the_catalogue(name: str) -> None:
    text = parser_for(name).format_help()
    words = set(text.split())
    assert {t.name for t in TYPES.values() if t.made} <= words
    assert set(FIELDS) <= words


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--help",), 0, "mailvane COMMAND"),
        (("help", "record"), 0, "usage: mailvane record"),
        (("--version",), 0, "mailvane "),
        (("events", "--help"), 0, "events status"),
        ((), 2, "commands:"),
        (("events",), 2, "events status"),
        (("recrod",), 2, 'did you mean "mailvane record"?'),
        (("status",), 2, 'did you mean "mailvane events status"?'),
        (("events", "lst"), 2, 'did you mean "mailvane events list"?'),
        (("ingest", "log"), 2, "is not there yet"),
        (("record", "--bogus"), 2, "unrecognized arguments: --bogus"),
        (("run", "--only", "studio"), 2, "'studio' is no part yet"),
        (("events", "drop"), 2, "which events?"),
        (("events", "list", "--since", "soon"), 2, "'soon' is no time"),
        (("events", "list", "--type", "bounce"), 2, "is no type of event"),
        (("--home",), 2, "wanted is a folder"),
        (("listen", "--status", "99"), 2, "is no status"),
    ],
)
def test_usage_is_told(arguments: tuple[str, ...], status: int, said: str) -> None:
    done = mailvane(*arguments, MAILVANE_HOME="/nonexistent")
    assert done.returncode == status
    assert said in (done.stdout if status == 0 or len(arguments) == 0 or arguments == ("events",) else done.stderr)
    assert "Traceback" not in done.stderr


def test_showing_help_brings_in_no_database_loop_or_colours() -> None:
    script = (
        "import sys\nfrom mailvane.cli import main\nmain(['--help'])\n"
        "names = 'apsw', 'asyncio', 'asyncpg', 'rich', 'starlette', 'uvloop', 'uvicorn'\n"
        "print([m for m in names if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "mailvane", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mailvane ")
