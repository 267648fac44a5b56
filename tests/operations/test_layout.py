"""GreenArrow's file layout: made in a folder, and on machines of the tests' own, where services run."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.homes import COMMAND
from support.machine import on_a_machine
from support.postgresql import ADMINISTRATOR, PostgreSQL, program

Layout = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [str(COMMAND), "layout", "greenarrow", "--root", str(tmp_path / "root"), *arguments]
        path = f"{os.environ['PATH']}:{program('postgres').parent}"
        return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})

    return run


def tree(folder: Path) -> dict[str, object]:
    """What is there: files by content and mode, links by target."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        else:
            found[str(path)] = path.stat().st_mode
    return found


@pytest.mark.parametrize("kind", ["daemontools", "runit"])
def test_the_layout_works_under(kind: str) -> None:
    seen: dict[str, Any] = on_a_machine(f"operations.layout_{kind}", (kind, "postgresql"), 240.0)
    assert seen["users"] == ["hvmail"]
    assert seen["guest"].startswith("2 ") and "Peer authentication failed" in seen["guest"]
    assert seen["psql"] == "bounce_all|user@example.com" and seen["switches"] == "1"
    assert int(seen["waiting while it is down"]) >= 2
    assert re.fullmatch(r"@4[0-9a-f]{23} [a-z]+: .+", seen["log"]), seen["log"]
    assert kind != "daemontools" or seen["tai64nlocal"][:2] == "20"
    assert "__legacy__" in seen["status"]
    assert seen["check"] == "/var/hvmail/control/event_processor.json: syntax OK"
    assert not seen["doctor, wrong"]
    assert sum("is up, process" in f["found"] for f in seen["doctor"]) == 8
    assert any("leads to the queue" in f["found"] for f in seen["doctor"])
    assert seen["doctor, one is down"] == ["hvmail-passenger is down"]
    assert not seen["services that are left"]
    data = ("/var/lib/mailvane", *(f"/var/hvmail/{name}" for name in ("log", "postgres", "control", "mail")))
    assert all(path.startswith(data) or path == "/var/hvmail/layout.json" for path in seen["left"])


def test_it_is_made_once_and_taken_away_again(tmp_path: Path, layout: Layout) -> None:
    root = tmp_path / "root"
    told = layout("--dry-run").stdout
    assert "would be made: /var/hvmail/control/event_processor.json" in told and not root.exists()
    assert layout().returncode == 0
    made = tree(root)
    assert f"{root}/service/hvmail-event-processor" in made
    again = layout()
    assert again.returncode == 0 and "nothing was changed" in again.stdout and tree(root) == made
    assert "would be removed: /var/hvmail/control/event_processor.json" in layout("--uninstall", "--dry-run").stdout
    assert tree(root) == made
    assert layout("--uninstall").returncode == 0
    assert not [path for path in tree(root) if Path(path).is_file() or Path(path).is_symlink()]
    assert layout("--uninstall").stdout.strip() == "nothing of it is there"


def test_nothing_is_enabled_and_events_stay(tmp_path: Path, layout: Layout) -> None:
    assert layout().returncode == 0
    control = tmp_path / "root/var/hvmail/control"
    assert [p.name for p in control.iterdir()] == ["event_processor.json"]
    assert "leave_in_queue" in (control / "event_processor.json").read_text()


@pytest.mark.parametrize(
    "path", ["var/hvmail/bin/greenarrow", "var/lib/mailvane/mailvane.conf", "usr/local/bin/greenarrow"]
)
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_it_did_not_make_is_never_overwritten(tmp_path: Path, layout: Layout, path: str, kind: str) -> None:
    there = tmp_path / "root" / path
    there.parent.mkdir(parents=True)
    if kind == "file":
        there.write_text("somebody's\n")
    elif kind == "link":
        there.symlink_to(tmp_path / "elsewhere")
    else:
        there.mkdir()
    before = tree(tmp_path)
    done = layout()
    assert done.returncode == 1 and f"{there} was not made by this" in done.stderr
    assert "nothing was changed" in done.stderr
    assert tree(tmp_path) == before


def test_what_people_edit_is_kept_and_outlives_it(tmp_path: Path, layout: Layout) -> None:
    root = tmp_path / "root"
    legacy, conf = root / "var/hvmail/control/event_processor.json", root / "var/lib/mailvane/mailvane.conf"
    switch = legacy.with_name("record_events.simplemh.scomp")
    assert layout().returncode == 0
    conf.write_text(conf.read_text() + "tls_ca_file /etc/own.pem\n")
    legacy.write_text("{}")
    switch.write_text("1\n")
    edited = tree(root)
    again = layout()
    assert again.returncode == 0 and f"{conf.name} was changed since it was made" in again.stderr
    assert tree(root) == edited
    removed = json.loads(layout("--uninstall", "--json").stdout)
    assert removed["stays"]["/var/lib/mailvane/mailvane.conf"] == "was changed since it was made"
    assert conf.exists() and legacy.exists() and switch.exists() and not (root / "service/hvmail-passenger").exists()
    assert layout().returncode == 0, "what stayed is known when it is made again"
    assert "tls_ca_file" in conf.read_text() and legacy.read_text() == "{}"


def test_a_newer_version_renews_what_was_made(tmp_path: Path, layout: Layout) -> None:
    """As it was made, though the text is another now: an older mailvane's."""
    root = tmp_path / "root"
    assert layout().returncode == 0
    made = root / "var/hvmail/layout.json"
    command = root / "var/hvmail/bin/greenarrow"
    now = command.read_bytes()
    command.write_bytes(b"#!/bin/sh\nexec old\n")
    said = json.loads(made.read_text())
    said["files"]["/var/hvmail/bin/greenarrow"] = sha256(command.read_bytes()).hexdigest()
    made.write_text(json.dumps(said))
    assert "renewed: /var/hvmail/bin/greenarrow" in layout().stdout
    assert command.read_bytes() == now and command.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("until", [1, 5, 20, 45])
def test_where_it_was_cut_short_it_goes_on_and_can_be_taken_away(tmp_path: Path, layout: Layout, until: int) -> None:
    root = tmp_path / "root"
    assert layout().returncode == 0
    whole = set(tree(root))
    made = json.loads((root / "var/hvmail/layout.json").read_text())
    for path in [*made["links"], *reversed(made["files"])][:until]:
        (root / path.lstrip("/")).unlink()
    assert layout().returncode == 0
    assert set(tree(root)) == whole
    assert layout("--uninstall").returncode == 0
    assert not [path for path in tree(root) if Path(path).is_file() or Path(path).is_symlink()]


def test_a_link_planted_by_the_service_user_leads_nowhere(tmp_path: Path, layout: Layout) -> None:
    """Folders of the service user's own are no way to other files."""
    root = tmp_path / "root"
    assert layout().returncode == 0
    legacy, target = root / "var/hvmail/control/event_processor.json", tmp_path / "target"
    legacy.unlink()
    legacy.symlink_to(target)
    assert layout().returncode == 0
    assert not target.exists()
    target.write_text("precious\n")
    assert layout("--uninstall").returncode == 0
    assert target.read_text() == "precious\n"


def test_units_of_systemd_are_made_in_place_of_services(tmp_path: Path, layout: Layout) -> None:
    assert layout("--supervisor", "systemd").returncode == 0
    root = tmp_path / "root"
    assert sorted(p.name for p in (root / "etc/systemd/system").iterdir()) == [
        "hvmail-event-processor.service", "hvmail-passenger.service", "hvmail-postgres.service",
        "hvmail-studio-worker.service",
    ]  # fmt: skip
    assert not (root / "service").exists()


def test_units_of_systemd_are_right_and_little_exposed() -> None:
    seen: dict[str, Any] = on_a_machine("operations.layout_systemd", ("systemd", "postgresql"))
    assert seen["verified"] == ""
    assert len(seen["exposed"]) == 4 and max(seen["exposed"].values()) <= 3.0, seen


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


def administrator(server: PostgreSQL) -> str:
    return f"postgresql://{ADMINISTRATOR}@/postgres?host={server.folder}&port={server.port}"


def test_role_and_database_are_made_in_a_server_by_url(tmp_path: Path, layout: Layout, server: PostgreSQL) -> None:
    root = tmp_path / "root"
    url = tmp_path / "url"
    url.write_text(administrator(server))
    assert layout("--postgresql", f"@file:{url}", "--dry-run").returncode == 0
    assert server.query("SELECT 1 FROM pg_roles WHERE rolname = 'greenarrow'") == []
    done = layout("--postgresql", f"@file:{url}")
    assert done.returncode == 0, done.stderr
    kept = root / "var/lib/mailvane/queue.url"
    assert kept.stat().st_mode & 0o777 == 0o640 and "greenarrow:" in kept.read_text()
    assert "password" not in done.stdout and kept.read_text().split(":")[2].split("@")[0] not in done.stdout
    assert not (root / "service/hvmail-postgres").exists()
    psql = [str(root / "var/hvmail/postgres/default/bin/psql"), "-U", "greenarrow", "-A", "-t", "-c"]
    asked = subprocess.run([*psql, "SELECT current_database()"], capture_output=True, text=True, check=True)
    assert asked.stdout == "greenarrow\n"
    again = layout("--postgresql", f"@file:{url}")
    assert again.returncode == 0 and "nothing was changed" in again.stdout


def test_the_roles_own_url_will_do_others_are_told(tmp_path: Path, layout: Layout, server: PostgreSQL) -> None:
    server.query("CREATE ROLE greenarrow LOGIN PASSWORD 'secret'")
    refused = layout("--postgresql", administrator(server))
    assert refused.returncode == 1 and "the role greenarrow is there already; name its own URL" in refused.stderr
    wrong = layout("--postgresql", server.url_of("other", "greenarrow", "secret"))
    assert wrong.returncode == 1 and "the database must be called greenarrow" in wrong.stderr
    assert not (tmp_path / "root").exists()
    server.query("CREATE DATABASE greenarrow OWNER greenarrow")
    done = layout("--postgresql", server.url_of("greenarrow", "greenarrow", "secret"))
    assert done.returncode == 0, done.stderr
    server.stop()
    away = layout("--root", str(tmp_path / "other"), "--postgresql", administrator(server))
    assert away.returncode == 1 and "Traceback" not in away.stderr and not (tmp_path / "other").exists()
