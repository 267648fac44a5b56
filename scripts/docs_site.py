"""Builds the site of docs/ into build/site, and checks every link: what `make docs` runs.

Pages link to files beside docs/ (a test, CONTRIBUTING.md). On a site these would lead nowhere, so what is linked goes
along as text under source/. Nothing of this needs a network.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import docs_links

HERE = Path(__file__).resolve().parent.parent
PAGES = HERE / "build" / "pages"
SITE = HERE / "build" / "site"
_LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def staged() -> None:
    """docs/ in build/pages, with the files that it links to."""
    docs = HERE / "docs"
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(docs, PAGES)
    for page in docs.rglob("*.md"):

        def inside(found: re.Match[str], page: Path = page) -> str:
            target = (page.parent / found[1]).resolve()
            if target.is_relative_to(docs) or not target.is_file():
                return found[0]
            copy = PAGES / "source" / f"{target.relative_to(HERE)}.txt"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, copy)
            return f"]({os.path.relpath(copy, (PAGES / page.relative_to(docs)).parent)})"

        text = page.read_text(encoding="utf-8")
        (PAGES / page.relative_to(docs)).write_text(_LINK.sub(inside, text), encoding="utf-8")


def main() -> int:
    wrong = docs_links.broken(HERE)
    if not wrong:
        staged()
        shutil.rmtree(SITE, ignore_errors=True)
        built = subprocess.run(
            [Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"], cwd=HERE, check=False
        )
        if built.returncode:
            return 1
        wrong = docs_links.broken_on_site(SITE)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"{SITE.relative_to(HERE)}/index.html: every link leads somewhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
