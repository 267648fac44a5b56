"""Every block of code on every page is tried as it stands; tests/docs/pages.py says of each page how."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from docs.blocks import Block, blocks
from docs.pages import HOW, PAGES, Page
from docs.sandbox import HERE, Step, run
from support.mariadb import MariaDB
from support.postgresql import ADMINISTRATOR, USER, PostgreSQL

READ = [HERE / "README.md", HERE / "CONTRIBUTING.md", *sorted((HERE / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(HERE)) for page in READ]


def _of(name: str) -> tuple[Page, list[Block]]:
    return PAGES.get(name, Page()), blocks((HERE / name).read_text(encoding="utf-8"))


def _said(of: Mapping[str, str], block: Block) -> str:
    return next((what for begins, what in of.items() if block.first.startswith(begins)), "")


def _how(page: Page, block: Block) -> str:
    """The command that tries a block, "" if nobody has said one."""
    return _said(page.by, block) or HOW.get(_said(page.languages, block) or block.language, "")


@pytest.fixture
def postgresql_of_the_page() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        server.query(f"DROP DATABASE {USER}")  # pages make their own
        server.query(f"DROP ROLE {USER}")
        yield server


def test_only_pages_and_blocks_that_are_there_are_spoken_of() -> None:
    gone = sorted(set(PAGES) - set(NAMES))
    for name in NAMES:
        page, there = _of(name)
        for begins in {*page.by, *page.languages, *page.left, *page.first}:
            if not any(block.first.startswith(begins) for block in there):
                gone.append(f"{name}: {begins}")
    assert gone == [], "tests/docs/pages.py names what is no longer there"


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_tried_or_its_exception_has_a_reason(name: str) -> None:
    page, there = _of(name)
    unknown = [f"{name}:{b.line}: {b.first}" for b in there if not (_how(page, b) or _said(page.left, b))]
    assert unknown == [], "say in tests/docs/pages.py how these are tried, or why they are not"


THERE = 'mkdir -p /run/postgresql && ln -s "$POSTGRESQL" /run/postgresql/.s.PGSQL.5432'
TRIED = [name for name in NAMES for page, there in [_of(name)] if not all(_said(page.left, b) for b in there)]


@pytest.mark.parametrize("name", TRIED)
def test_the_blocks_of_a_page_do_what_they_say(name: str, short_folder: Path, request: pytest.FixtureRequest) -> None:
    page, there = _of(name)
    environment = dict(page.environment)
    shared: list[Path] = []
    if page.postgresql:
        server: PostgreSQL = request.getfixturevalue("postgresql_of_the_page")
        environment |= {"POSTGRESQL": f"{server.folder}/.s.PGSQL.{server.port}", "PGHOST": "/run/postgresql"}
        shared.append(server.folder)
        environment |= {"PGUSER": ADMINISTRATOR, "PGDATABASE": ADMINISTRATOR}
    if page.mariadb:
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        shared.append(mariadb.folder)
        environment["MYSQL"] = str(mariadb.socket)
    steps = [Step("PostgreSQL", THERE)] if page.postgresql else []
    if page.mariadb:
        # Not by MYSQL_UNIX_PORT: what a distribution's my.cnf says goes before it.
        steps.append(Step("MariaDB", 'mkdir -p /run/mysqld && ln -s "$MYSQL" /run/mysqld/mysqld.sock'))
    if page.before:
        steps.append(Step("before the page", page.before))
    for block in there:
        where = f"{name}:{block.line}"
        if made_ready := _said(page.first, block):
            steps.append(Step(f"before {where}", made_ready))
        if not _said(page.left, block):
            steps.append(Step(where, _how(page, block), block.text))
    tried = run(steps, short_folder, environment, shared)
    wrong = [
        f"{done.step.where}: exit status {done.status} of: {done.step.command}\n{done.step.text}\n{done.output}"
        for done in tried
        if done.status
    ]
    assert not wrong, "\n".join(wrong)
