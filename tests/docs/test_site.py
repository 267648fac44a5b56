"""The pages as a site: it builds, every page is in its menu, and every link leads somewhere."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import docs_links

HERE = Path(__file__).parents[2]


def test_every_link_of_the_pages_leads_somewhere() -> None:
    assert docs_links.broken(HERE) == []


def test_the_site_builds_and_every_link_of_it_leads_somewhere() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "scripts" / "docs_site.py"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (HERE / "build" / "site" / "commands.html").exists()


def _named(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for below in nav.values():
            yield from _named(below)
    elif isinstance(nav, list):
        for below in nav:
            yield from _named(below)


def test_every_page_is_in_the_menu_and_every_decision_on_its_page() -> None:
    nav = tomllib.loads((HERE / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    there = {str(page.relative_to(HERE / "docs")) for page in (HERE / "docs").glob("*.md")}
    assert set(_named(nav)) - {"decisions/index.md"} == there, "zensical.toml: nav"
    decisions = HERE / "docs" / "decisions"
    listed = {link.to for link in docs_links.links((decisions / "index.md").read_text(encoding="utf-8"))}
    assert listed == {page.name for page in decisions.glob("*.md")} - {"index.md"}, "docs/decisions/index.md"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](queue.md)", ""),
        ("[a](queue.md#who-may-write)", ""),
        ("[a](queue.md#nowhere)", "queue.md has no such heading"),
        ("[a](nowhere.md)", "nowhere.md is not there"),
        ("[a](../../x)", "../../x leads out of"),
        ("[a](#here-it-is)\n\n## Here *it* is", ""),
        ("[a](https://example.com/x)", ""),
        ("`[a](nowhere.md)`", ""),
        ("```\n[a](nowhere.md)\n```", ""),
        ("text\n\n    [a](nowhere.md)", ""),
        ("text\n    [a](nowhere.md)", "nowhere.md is not there"),
        ("[a]: nowhere.md", "nowhere.md is not there"),
    ],
)
def test_links_that_lead_nowhere_are_found(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "queue.md").write_text("# The queue\n\n## Who may write\n")
    (tmp_path / "docs" / "page.md").write_text(text + "\n")
    found = docs_links.broken(tmp_path)
    assert [wrong in line for line in found] == ([True] if wrong else []), found


def test_a_link_of_the_site_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    links = '<a href="b.html#x">b</a><a href="b.html#y">b</a><a href="c.html">c</a>'
    (tmp_path / "a.html").write_text(f'<h1 id="top">A</h1>{links}')
    (tmp_path / "b.html").write_text('<h2 id="x">B</h2><a href="a.html#top">a</a>')
    found = docs_links.broken_on_site(tmp_path)
    assert len(found) == 2 and "b.html#y" in found[0] and "c.html is not there" in found[1]
