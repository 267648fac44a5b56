"""Destinations that are databases, in the legacy configuration."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailvane.configuration.legacy import Legacy, read_legacy
from mailvane.configuration.mistakes import render
from mailvane.destinations.contract import Database, SqlStatement
from mailvane.events.catalogue import CLASSIC

GOOD: Mapping[str, object] = {
    "type": "mysql",
    "db_dsn": "mysql://db.example.com/customer",
    "db_username": "mailvane",
    "db_password": "hunter2-hunter2",
    "sql": "INSERT INTO q (id, email) VALUES (?, ?)",
    "bind_list": ["id", "email"],
}


def read(destination: Mapping[str, object], **changed: object) -> Legacy:
    merged = {key: value for key, value in {**destination, **changed}.items() if value is not ...}
    rule = {"matches": {"all": True}, "destination": merged}
    return read_legacy(json.dumps({"event_destinations": [rule]}, indent=1).encode())


def target(legacy: Legacy) -> SqlStatement:
    assert legacy.plan is not None, legacy.mistakes
    found = legacy.plan.routes[0].target
    assert isinstance(found, SqlStatement)
    return found


def test_a_statement_with_all_that_it_needs():
    legacy = read(GOOD)
    assert target(legacy) == SqlStatement(
        Database.MYSQL,
        "mysql://db.example.com/customer",
        "INSERT INTO q (id, email) VALUES (?, ?)",
        ("id", "email"),
        "mailvane",
        "hunter2-hunter2",
    )
    assert legacy.plan and legacy.plan.routes[0].name == "mysql db.example.com/customer"


@pytest.mark.parametrize(
    ("dsn", "database", "name"),
    [
        ("DBI:mysql:database=d;host=h;port=3307;password=hunter2", Database.MYSQL, "mysql h:3307/d"),
        ("dbi:Pg:dbname=d;host=/run/postgresql", Database.POSTGRESQL, "postgresql /run/postgresql d"),
        ("postgresql://u:hunter2@h/d?sslmode=require", Database.POSTGRESQL, "postgresql h/d"),
        ("dbi:SQLite:dbname=/f.db", Database.SQLITE, "sqlite /f.db"),
        ("sqlite:/f.db", Database.SQLITE, "sqlite /f.db"),
        ("mssql://h/d", Database.MSSQL, "mssql h/d"),
    ],
)
def test_custom_sql_goes_where_the_dsn_leads(dsn: str, database: Database, name: str):
    legacy = read(GOOD, type="custom_sql", db_dsn=dsn, db_username=..., db_password=...)
    assert target(legacy).database is database
    assert target(read(GOOD, type=database.value, db_dsn=dsn)).database is database
    assert legacy.plan and legacy.plan.routes[0].name == name


@pytest.mark.parametrize(
    ("changed", "line", "words"),
    [
        ({"sql": "INSERT INTO q VALUES (?, ?, ?)"}, 13, '"sql" has 3 placeholders (?) and "bind_list" 2 names'),
        ({"bind_list": ["id"]}, 13, '"sql" has 2 placeholders (?) and "bind_list" 1 name;'),
        ({"bind_list": ...}, 12, '"sql" has 2 placeholders (?) and "bind_list" 0 names'),
        ({"sql": "INSERT INTO q VALUES (?, '?)"}, 12, '"sql": what begins with \' here has no end (at character 26)'),
        ({"bind_list": ["id", "emial"]}, 15, '"emial" is no field of an event\'s row; did you mean "email"?'),
        ({"bind_list": ["id", "mail_class"]}, 15, '"mail_class" is no field of an event\'s row'),
        ({"bind_list": ["id", 7]}, 15, '"bind_list" must be an array of strings; the number 7 is in it'),
        ({"bind_list": "id"}, 13, '"bind_list" must be an array of strings; the string "id" is here'),
        ({"db_dsn": "mysql://db.example.com"}, 9, '"db_dsn": it names no database (at character 23)'),
        ({"db_dsn": "http://db.example.com/d"}, 9, '"db_dsn": wanted is a URL'),
        ({"db_dsn": "postgresql://h/d"}, 9, '"db_dsn" leads to postgresql, and the type is "mysql"'),
        ({"db_dsn": ...}, 7, 'a destination of type "mysql" lacks "db_dsn"'),
        ({"sql": ...}, 7, 'a destination of type "mysql" lacks "sql"'),
        ({"sql": ["x"]}, 12, '"sql" must be a string; an array is here'),
        ({"db_password": 12345678}, 11, '"db_password" must be a string, in quotes'),
        ({"db_password": "@file:password"}, 11, "must be absolute"),
        ({"db_password": "@env:MAILVANE_TEST_NOWHERE"}, 11, "leads to nothing"),
        ({"db_user": "x"}, 17, 'did you mean "db_username"?'),
        ({"url": "https://a/"}, 17, '"url" is no key of a destination of type "mysql"'),
    ],
)
def test_a_mistake_is_told_with_its_place(changed: Mapping[str, object], line: int, words: str):
    legacy = read(GOOD, **changed)
    assert legacy.plan is None
    assert any(m.line == line and words in m.message for m in legacy.mistakes), legacy.mistakes
    told = render(legacy.mistakes, legacy.text, "f")
    assert "hunter2" not in told and "12345678" not in told


def test_secrets_by_reference_stay_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dsn").write_text("postgresql://u:hunter2@h/d\n")
    monkeypatch.setenv("MAILVANE_TEST_PASSWORD", "hunter2")
    by_reference = {"db_dsn": f"@file:{tmp_path}/dsn", "db_password": "@env:MAILVANE_TEST_PASSWORD"}
    legacy = read(GOOD, type="postgresql", **by_reference)
    assert target(legacy).dsn == f"@file:{tmp_path}/dsn" and legacy.secret_files == (tmp_path / "dsn",)
    assert legacy.plan and legacy.plan.routes[0].name == f"postgresql @file:{tmp_path}/dsn"
    assert "hunter2" not in repr(legacy.plan)
    nobody_knows = read(GOOD, type="custom_sql", **by_reference)
    assert "name the database by the type: mysql, postgresql, sqlite, mssql" in nobody_knows.mistakes[0].message
    (tmp_path / "dsn").write_text("postgresql://u:hunter2@h\n")
    broken = read(GOOD, type="postgresql", **by_reference)
    assert "leads to will not do" in broken.mistakes[0].message
    assert "hunter2" not in render(broken.mistakes, broken.text, "f")


def test_sql_server_without_its_driver_is_told_when_the_file_is_checked(tmp_path: Path):
    file = tmp_path / "event_processor.json"
    destination = {**GOOD, "type": "mssql", "db_dsn": "mssql://h/d"}
    file.write_text(json.dumps({"event_destinations": [{"matches": {"all": True}, "destination": destination}]}))
    script = (
        "import importlib.util as u, sys; found = u.find_spec;"
        "u.find_spec = lambda name, package=None: None if name == 'pytds' else found(name, package);"
        "from mailvane.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "processor", "--check-syntax", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the driver for SQL Server is not installed" in done.stderr
    assert "Traceback" not in done.stderr and "hunter2" not in done.stderr


@pytest.mark.parametrize("database", ["mysql", "postgresql", "sqlite"])
def test_the_destination_that_comes_with_the_queue_table_is_right_and_has_every_field(database: str, tmp_path: Path):
    command = [sys.executable, "-m", "mailvane", "config", "sql-table", database]
    table, _, advice = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition(";")
    text = "".join(line.removeprefix("-- ") for line in advice.splitlines() if line.startswith("-- "))
    destination = json.loads(text[text.index("{") :])
    (tmp_path / "password").write_text("x")
    if "db_password" in destination:
        destination["db_password"] = f"@file:{tmp_path}/password"
    found = target(read(destination))
    assert found.bind == (*CLASSIC, "event_unique_id")
    columns = re.findall(r"^ {4}(\w+) ", table, re.MULTILINE)
    assert columns == ["id", *found.bind]
    assert f"({', '.join(found.bind)})" in found.sql
