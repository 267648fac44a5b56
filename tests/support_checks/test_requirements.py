"""The pinned requirements are those of pyproject.toml, and can be installed from anywhere."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
DEVELOPMENT: list[str] = PROJECT["dependency-groups"]["dev"]


@pytest.mark.parametrize(("file", "wanted"), [("runtime.txt", RUNTIME), ("dev.txt", RUNTIME + DEVELOPMENT)])
def test_pins_satisfy_the_project(file: str, wanted: list[str]) -> None:
    text = (CHECKOUT / "requirements" / file).read_text()
    pins = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))
    stale = [
        str(requirement)
        for requirement in map(Requirement, wanted)
        if pins.get(canonicalize_name(requirement.name), "0") not in requirement.specifier
    ]
    assert not stale, "make lock pins them anew"


@pytest.mark.parametrize("file", ["runtime.txt", "dev.txt"])
def test_pins_have_hashes_and_name_no_place(file: str) -> None:
    text = (CHECKOUT / "requirements" / file).read_text()
    unhashed = [pin for pin in re.findall(r"^[a-z].*$", text, re.MULTILINE) if not pin.endswith("\\")]
    assert not unhashed
    assert not re.findall(r"^--(?:index|extra|find)|://", text, re.MULTILINE)
