"""The `?` of a statement: found where the database would see them, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.destinations.contract import Database
from mailvane.destinations.placeholders import BadStatement, parse_statement, row_shape

MY, PG, LITE, MS = Database.MYSQL, Database.POSTGRESQL, Database.SQLITE, Database.MSSQL

COUNTED = [
    (PG, "SELECT ?, ?", "SELECT $1, $2"),
    (PG, "SELECT '?', \"?\", ? -- ?\n", "SELECT '?', \"?\", $1 -- ?\n"),
    (PG, "SELECT 'it''s ?', ?", "SELECT 'it''s ?', $1"),
    (PG, r"SELECT 'back\', ?, '?'", r"SELECT 'back\', $1, '?'"),
    (PG, r"SELECT E'quote\'?', e'\\', ?", r"SELECT E'quote\'?', e'\\', $1"),
    (PG, r"SELECT rate'\', ?", r"SELECT rate'\', $1"),
    (PG, "SELECT $$ ? ' $$, $a$ ? $$ ? $a$, ?", "SELECT $$ ? ' $$, $a$ ? $$ ? $a$, $1"),
    (PG, "SELECT a$b, c$d, ?", "SELECT a$b, c$d, $1"),
    (PG, "SELECT /* ? /* ? */ ? */ ?", "SELECT /* ? /* ? */ ? */ $1"),
    (PG, "SELECT a ?? ?, b ??| ?, c ??& ?", "SELECT a ? $1, b ?| $2, c ?& $3"),
    (PG, "SELECT ?::int;  -- the end\n", "SELECT $1::int"),
    (PG, "SELECT a # ?", "SELECT a # $1"),
    (PG, "SELECT U&'?', ?", "SELECT U&'?', $1"),
    (MY, r"""SELECT 'a\'?', "a""?", "\"?", `a``?`, ?""", r"""SELECT 'a\'?', "a""?", "\"?", `a``?`, ?"""),
    (MY, "SELECT ? # ?\n, ? -- ?\n, 1--?", "SELECT ? # ?\n, ? -- ?\n, 1--?"),
    (MY, "SELECT /*! ? */ ? /* ? */", "SELECT /*! ? */ ? /* ? */"),
    (LITE, "SELECT [a?], `?`, '?', \"?\", ? /* ? */ -- ?", "SELECT [a?], `?`, '?', \"?\", ? /* ? */ -- ?"),
    (LITE, "SELECT '\\', ?", "SELECT '\\', ?"),
    (MS, "SELECT [a]]?], '%', ? /* /* ? */ ? */", "SELECT [a]]?], '%%', %s /* /* ? */ ? */"),
]
NUMBERS = [2, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 3, 2, 1, 1, 1]


@pytest.mark.parametrize(("case", "number"), list(zip(COUNTED, NUMBERS, strict=True)))
def test_d22_placeholders_are_those_that_the_database_sees(case: tuple[Database, str, str], number: int):
    database, sql, written = case
    statement = parse_statement(sql, database)
    assert statement.placeholders == number
    form = {PG: statement.numbered, MS: statement.formatted}.get(database, statement.marked)
    assert form() == written


@pytest.mark.parametrize(
    ("database", "sql", "at", "words"),
    [
        (PG, "SELECT 'abc", 8, "begins with ' here has no end"),
        (PG, "SELECT $a$ ? $b$", 8, "begins with $a$ here has no end"),
        (PG, "SELECT /* /* */ ?", 8, "begins with /* here has no end"),
        (MY, "SELECT 'a\\'", 8, "begins with ' here"),
        (LITE, "SELECT [a", 8, "begins with [ here"),
        (MY, "DELETE FROM t; DROP TABLE t", 16, "one statement behind another"),
        (LITE, "SELECT ?1", 8, "have no numbers"),
        (PG, "  -- nothing\n", 1, "it is empty"),
        (PG, ";", 1, "it is empty"),
        (PG, "SELECT 'a\0b'", 8, "a NUL"),
    ],
)
def test_a_statement_that_cannot_be_run_is_told_with_its_place(database: Database, sql: str, at: int, words: str):
    with pytest.raises(BadStatement) as told:
        parse_statement(sql, database)
    assert words in str(told.value) and f"(at character {at})" in str(told.value)


@given(st.text("?'\"`[]$a\\-#/*\n;E ", max_size=40), st.sampled_from(Database))
def test_any_text_is_read_or_refused_and_read_again_the_same(sql: str, database: Database):
    try:
        statement = parse_statement(sql, database)
    except BadStatement as error:
        assert 0 <= error.at <= len(sql)
        return
    assert len(statement.parts) == statement.placeholders + 1
    if database is not PG:
        assert parse_statement(statement.marked(), database) == statement


SHAPES = [
    ("INSERT INTO t (a, b) VALUES (?, ?)", "INSERT INTO t (a, b) VALUES (?, ?), (?, ?)"),
    ("insert ignore into t value (?, now(), '(')", "insert ignore into t value (?, now(), '('), (?, now(), '(')"),
    ("REPLACE t VALUES (?) -- end", "REPLACE t VALUES (?), (?) -- end"),
    ("INSERT INTO `values` (`a)`) VALUES (?)", "INSERT INTO `values` (`a)`) VALUES (?), (?)"),
    (
        "INSERT INTO t VALUES (?, (?)) ON DUPLICATE KEY UPDATE a = VALUES(a)",
        "INSERT INTO t VALUES (?, (?)), (?, (?)) ON DUPLICATE KEY UPDATE a = VALUES(a)",
    ),
    (
        "INSERT INTO t VALUES (?) AS new ON DUPLICATE KEY UPDATE a = new.a",
        "INSERT INTO t VALUES (?), (?) AS new ON DUPLICATE KEY UPDATE a = new.a",
    ),
]


@pytest.mark.parametrize(("sql", "twice"), SHAPES)
def test_an_insert_of_one_row_is_made_one_of_many(sql: str, twice: str):
    shape = row_shape(parse_statement(sql, MY))
    assert shape is not None
    assert shape.of(2) == twice and shape.of(1) == sql


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (?), (?)",
        "INSERT INTO t VALUES (?) ON DUPLICATE KEY UPDATE a = ?",
        "INSERT INTO t SELECT ?",
        "INSERT INTO t SET a = ?",
        "INSERT INTO t VALUES (?) RETURNING id",
        "INSERT INTO t (a) VALUES ((SELECT max(a) FROM t WHERE b = ?))",
        "UPDATE t SET a = VALUES(?)",
        "CALL p(?)",
        "SELECT ?",
    ],
)
def test_no_other_statement_is_made_one_of_many(sql: str):
    assert row_shape(parse_statement(sql, MY)) is None
