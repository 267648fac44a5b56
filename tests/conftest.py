"""Fixtures that every test may use, and which tests run when."""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from destinations.matrix.printed import pytest_terminal_summary  # noqa: F401  a hook: prints the matrix
from support.certificates import Authority
from support.endpoint import Endpoint
from support.homes import Home
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL

PROOF = Path(__file__).parent / "proof"

# Timings are never a test's matter: a busy machine is no failure.
settings.register_profile("test", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("proof", settings.get_profile("test"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The long tests run only when they are asked for by their path (`make proof`)."""
    asked = any("proof" in Path(argument.split("::")[0]).parts for argument in config.args)
    return True if collection_path == PROOF and not asked else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No test is skipped: one that cannot run here fails and says what is missing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed here: {report.longrepr}"
    return report


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """An empty folder with a short path: that of a Unix socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mv-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_home(short_folder: Path) -> Iterator[Callable[..., Home]]:
    """Makes homes (arguments as `Home`, without its folder); they and their processes end with the test."""
    with ExitStack() as stack:
        count = 0

        def make(**options: Any) -> Home:
            nonlocal count
            count += 1
            folder = short_folder / str(count)
            folder.mkdir()
            return stack.enter_context(Home(folder, **options))

        yield make


@pytest.fixture
def make_endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints (arguments as `Endpoint`); they end with the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Endpoint(*arguments, **options))


@pytest.fixture
def endpoint(make_endpoint: Callable[..., Endpoint]) -> Endpoint:
    """An endpoint that answers 200 to everything until told otherwise."""
    return make_endpoint()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts unless told to (`tls_ca_file`)."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server that many tests use: for a test that stops or kills one, `with PostgreSQL() as server` is quick."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """An empty database of the test's own."""
    url = postgresql.database()
    yield url
    postgresql.drop(url)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A server that many tests use: for a test that stops or kills one, `with MariaDB() as server` is quick."""
    with MariaDB() as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> Iterator[str]:
    """An empty database of the test's own."""
    url = mariadb.database()
    yield url
    mariadb.drop(url)
