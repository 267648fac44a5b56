"""What the doctor says of destinations that are databases."""

import json
from pathlib import Path

from mailvane.configuration.settings import Settings
from mailvane.operations.doctor_plan import databases
from mailvane.operations.findings import Finding


def told(folder: Path, dsn: str, kind: str, **settings: str) -> Finding:
    control = folder / "control"
    control.mkdir(exist_ok=True)
    destination = {"type": kind, "db_dsn": dsn, "sql": "DELETE FROM t", "db_password": "hunter2"}
    document = {"event_destinations": [{"matches": {"all": True}, "destination": destination}]}
    (control / "event_processor.json").write_text(json.dumps(document))
    (finding,) = databases(Settings(folder, "test", folder / "queue.db", control, **settings))  # type: ignore[arg-type]
    return finding


def test_a_database_that_may_be_reached(tmp_path: Path):
    (tmp_path / "events.db").touch()
    for dsn, kind in (("mysql://127.0.0.1:3306/d", "mysql"), (f"sqlite:{tmp_path}/events.db", "sqlite")):
        finding = told(tmp_path, dsn, kind)
        assert finding.level == "ok" and kind in finding.found, finding


def test_a_database_that_may_not_be_reached_or_is_not_there(tmp_path: Path):
    for dsn, kind, words in (
        ("postgresql://169.254.169.254/d", "postgresql", "metadata"),
        (f"sqlite:{tmp_path}/none.db", "sqlite", "it is not there"),
        ("postgresql:///d?host=/nowhere", "postgresql", "it is not there"),
    ):
        finding = told(tmp_path, dsn, kind)
        assert finding.level == "wrong" and words in finding.found and finding.advice, finding
        assert "hunter2" not in finding.found
    private = told(tmp_path, "mysql://127.0.0.1:3306/d", "mysql", destination_networks="public")
    assert private.level == "wrong" and "loopback" in private.found, "its port is no reason, its address is"
