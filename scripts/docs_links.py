"""Checks the links of README.md, CONTRIBUTING.md, CHANGELOG.md and docs/, without any network: docs_links.py [SITE].

A link that leads to a file must find it, and one with an anchor the heading (as GitHub names them). With SITE, the
folder of the built site, the links of its pages are checked too: there the generator has named the anchors. Links to
other hosts are left alone. Exit status 1, and a line FILE:LINE for each link that leads nowhere.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^ *(```+|~~~+)")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)")
_HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?) *#* *$")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")


class Link(NamedTuple):
    line: int
    to: str


def pages(root: Path) -> list[Path]:
    """The pages that people read on GitHub, or in an editor."""
    top = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [page for page in top if page.exists()] + sorted((root / "docs").rglob("*.md"))


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside of fences and of indented blocks, with their numbers."""
    fence, blank = "", True
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
            continue
        if mark:
            fence = mark[1]
            continue
        if not (blank and line.startswith("    ")):
            blank = not line.strip()
            yield number, line


def links(text: str) -> list[Link]:
    """The links of a page of Markdown. What stands in code is no link."""
    found: list[Link] = []
    for number, line in _prose(text):
        bare = _CODE.sub("`", line)
        found += [Link(number, to) for to in _LINK.findall(bare)]
        if reference := _REFERENCE.match(bare):
            found.append(Link(number, reference[1]))
    return found


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings: lower case, blanks as dashes, no punctuation; a second ends in -1."""
    names: set[str] = set()
    for _, line in _prose(text):
        if heading := _HEADING.match(line):
            shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            number = 0
            while (unique := f"{name}-{number}" if number else name) in names:
                number += 1
            names.add(unique)
    return names


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[Link] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (name == "name" and tag == "a")):
                self.names.add(value)
            elif value and name in {"href", "src"}:
                self.links.append(Link(self.getpos()[0], value))


def _leads_nowhere(page: Path, link: Link, names: dict[Path, set[str]], top: Path) -> str:
    parts = urlsplit(link.to)
    if parts.scheme or parts.netloc:
        return ""
    target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    if not target.is_relative_to(top):
        return f"{link.to} leads out of {top.name}"
    if not target.exists():
        return f"{link.to} is not there"
    if parts.fragment and target in names and unquote(parts.fragment) not in names[target]:
        return f"{link.to}: {target.name} has no such heading"
    return ""


def broken(root: Path) -> list[str]:
    """What is wrong with the links of the pages below `root`, as FILE:LINE: … ."""
    texts = {page.resolve(): page.read_text(encoding="utf-8") for page in pages(root)}
    names = {page: anchors(text) for page, text in texts.items()}
    return [
        f"{page.relative_to(root)}:{link.line}: {wrong}"
        for page, text in texts.items()
        for link in links(text)
        if (wrong := _leads_nowhere(page, link, names, root))
    ]


def broken_on_site(site: Path) -> list[str]:
    """The same for a site's pages of HTML."""
    read: dict[Path, _Page] = {}
    for file in sorted(site.rglob("*.html")):
        if file.name != "404.html":  # its links are for a server's root
            read[file.resolve()] = page = _Page()
            page.feed(file.read_text(encoding="utf-8"))
    names = {file: page.names for file, page in read.items()}
    return [
        f"{file.relative_to(site.parent)}:{link.line}: {wrong}"
        for file, page in read.items()
        for link in page.links
        if (wrong := _leads_nowhere(file, link, names, site))
    ]


def main() -> int:
    wrong = broken(HERE)
    for site in sys.argv[1:]:
        wrong += broken_on_site(Path(site).resolve())
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
