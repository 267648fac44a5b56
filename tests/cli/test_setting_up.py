import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.endpoint import Endpoint
from support.homes import Home, bounce


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    return make_home()


def test_init_makes_a_home_once(home: Home) -> None:
    new = home.folder.parent / "new"
    assert home.json("init", "--home", str(new)) == {"home": str(new), "made": True, "enabled": []}
    assert home.json("--home", str(new), "init") == {"home": str(new), "made": False, "enabled": []}
    assert sorted(p.name for p in new.iterdir()) == ["control", "mailvane.conf"]
    assert [p.name for p in (new / "control").iterdir()] == ["event_processor.json"]
    assert (
        f"mailvane enable bounce_all bounce_bad_address --home {new}2"
        in home.mailvane("init", "--home", f"{new}2").stdout
    )


def test_init_says_at_once_what_is_recorded_and_where_it_goes(home: Home, endpoint: Endpoint) -> None:
    new = str(home.folder.parent / "new")
    wanted = ("init", "--home", new, "--enable", "BOUNCE_ALL", "scomp", "--post-to", endpoint.url())
    said = home.mailvane(*wanted).stdout
    assert "made the home" in said and "recorded from now on: bounce_all, scomp" in said
    lines = "\n".join(json.dumps(event) for event in (bounce(1), bounce(2, "engine_open")))
    assert home.mailvane("record", "--home", new, "-", input=lines).returncode == 0
    home.mailvane("processor", "--once", "--home", new)
    assert [e["event_type"] for e in endpoint.events()] == ["bounce_all"]
    assert home.json(*wanted) == {"home": new, "made": False, "enabled": ["bounce_all", "scomp"]}


def test_init_never_overwrites_a_configuration(home: Home) -> None:
    kept = (home.folder / "control" / "event_processor.json").read_text()
    done = home.mailvane("init", "--post-to", "http://localhost:3000/", "--enable", "scomp", check=False)
    assert done.returncode == 1 and "event_processor.json is there and says something else" in done.stderr
    assert (home.folder / "control" / "event_processor.json").read_text() == kept
    assert home.json("enabled")["types"]["scomp"] == "off"


def test_init_never_passes_over_an_endpoint_in_a_home_that_is_there(home: Home) -> None:
    elsewhere = home.folder / "elsewhere"
    elsewhere.mkdir()
    home.configure("control_directory elsewhere")
    (home.folder / "control" / "event_processor.json").unlink()
    done = home.mailvane("init", "--post-to", "http://localhost:3000/", check=False)
    assert done.returncode == 1 and f"{elsewhere}/event_processor.json is not there" in done.stderr
    (elsewhere / "event_processor.json").write_text("{}")
    done = home.mailvane("init", "--post-to", "http://localhost:3000/", check=False)
    assert done.returncode == 1 and f"{elsewhere}/event_processor.json is there and says something else" in done.stderr


def test_init_enables_all_types_as_enable_does(home: Home) -> None:
    home.mailvane("init", "--enable", "all")
    assert set(home.json("enabled")["types"].values()) == {"on"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--enable", "bounce_al"), 'did you mean "bounce_all"?'),
        (("--post-to", "localhost:3000"), "--post-to: the URL has no scheme"),
    ],
)
def test_nothing_is_made_of_what_cannot_be_meant(home: Home, arguments: tuple[str, ...], said: str) -> None:
    new = home.folder.parent / "new"
    done = home.mailvane("init", "--home", str(new), *arguments, check=False)
    assert done.returncode == 1 and said in done.stderr and not new.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--queue", "postgresql://x/y?schema=a b"), "will not do"),
        (("--queue", "mysql:x"), "no queue that is known"),
        (("--home", "/proc/nothing"), "cannot be made"),
        (("--home", "/etc"), "is no home of mailvane"),
    ],
)
def test_what_cannot_be_a_home_is_told(home: Home, arguments: tuple[str, ...], said: str) -> None:
    done = home.mailvane("init", *arguments, check=False)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_types_are_switched_and_the_switches_shown(home: Home) -> None:
    assert home.mailvane("enable", "bounce_all", "SCOMP").stdout.splitlines()[1].startswith("scomp is on (")
    switch = home.folder / "control" / "record_events.simplemh.scomp"
    assert switch.read_text() == "1\n"
    states = home.json("enabled")
    assert states["problems"] == []
    assert [name for name, state in states["types"].items() if state == "on"] == ["bounce_all", "scomp"]
    assert home.json("disable", "scomp") == [{"type": "scomp", "state": "off", "file": str(switch)}]
    table = home.mailvane("enabled").stdout
    assert "record_events.simplemh.bounce_all" in table and "off" in table


def test_all_types_can_be_switched_at_once(home: Home) -> None:
    home.mailvane("enable", "all")
    assert set(home.json("enabled")["types"].values()) == {"on"}
    home.mailvane("disable", "all")
    assert set(home.json("enabled")["types"].values()) == {"off"}


def test_a_type_without_a_switch_is_told_and_the_others_are_switched(home: Home) -> None:
    done = home.mailvane("enable", "bounce_al", "studio_open", "bounce_all", check=False)
    assert done.returncode == 1
    assert 'did you mean "bounce_all"?' in done.stderr and "mailvane enable --studio studio_open" in done.stderr
    assert home.json("enabled")["types"]["bounce_all"] == "on"


def test_strange_control_files_are_reported(home: Home) -> None:
    home.switch("scomp", "rubbish")
    done = home.mailvane("enabled", check=False)
    assert done.returncode == 1 and 'says "rubbish"; wanted is 1 or 0' in done.stderr
    assert "unknown" in done.stdout


def test_a_control_directory_that_cannot_be_written_is_told(home: Home) -> None:
    control = home.folder / "control"
    control.rename(Path(f"{control}.away"))
    done = home.mailvane("enable", "scomp", check=False)
    assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
