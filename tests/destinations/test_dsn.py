"""Where a database is: URLs and Perl DBI strings."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailvane.destinations.contract import Database
from mailvane.destinations.dsn import BadDsn, Dsn, Tls, database_of, parse_dsn

MY, PG, LITE, MS = Database.MYSQL, Database.POSTGRESQL, Database.SQLITE, Database.MSSQL

GOOD = [
    ("mysql://host:3306/db", Dsn(MY, "db", "host", 3306)),
    ("mariadb://u:p%40%2F%23@[2001:DB8::1]/db", Dsn(MY, "db", "2001:db8::1", 3306, user="u", password="p@/#")),
    ("mysql://u@h/d?ssl-mode=VERIFY_IDENTITY", Dsn(MY, "d", "h", 3306, user="u", tls=Tls.VERIFY_FULL)),
    ("mysql:///d?socket=/run/mysqld/mysqld.sock", Dsn(MY, "d", "", 3306, "/run/mysqld/mysqld.sock", tls=Tls.DISABLE)),
    ("mysql://h/d?ssl-ca=/etc/ca.pem", Dsn(MY, "d", "h", 3306, tls=Tls.VERIFY_CA, ca_file="/etc/ca.pem")),
    ("postgresql://H.example.com/d?sslmode=require", Dsn(PG, "d", "h.example.com", 5432, tls=Tls.REQUIRE)),
    ("postgres://h:6543/d", Dsn(PG, "d", "h", 6543)),
    ("postgresql://u@/d?host=/run/postgresql", Dsn(PG, "d", "", 5432, "/run/postgresql", "u", tls=Tls.DISABLE)),
    ("postgresql://%2Frun%2Fpostgresql/d", Dsn(PG, "d", "", 5432, "/run/postgresql", tls=Tls.DISABLE)),
    ("sqlite:/var/lib/a%20b.db", Dsn(LITE, "/var/lib/a b.db", tls=Tls.DISABLE)),
    ("sqlite:///var/lib/a.db", Dsn(LITE, "/var/lib/a.db", tls=Tls.DISABLE)),
    ("mssql://h/d?tls=verify-full", Dsn(MS, "d", "h", 1433, tls=Tls.VERIFY_FULL)),
    ("DBI:mysql:database=d;host=h;port=3307", Dsn(MY, "d", "h", 3307)),
    ("dbi:mysql:d:h:3307", Dsn(MY, "d", "h", 3307)),
    ("dbi:mysql:d", Dsn(MY, "d", "localhost", 3306)),
    ("DBI:mysql:database=d;mysql_socket=/s.sock", Dsn(MY, "d", "", 3306, "/s.sock", tls=Tls.DISABLE)),
    ("DBI:MariaDB:database=d;host=h;mariadb_ssl=1", Dsn(MY, "d", "h", 3306, tls=Tls.REQUIRE)),
    ("DBI:mysql:database=d;host=h;mysql_enable_utf8mb4=1;mysql_ssl=0", Dsn(MY, "d", "h", 3306, tls=Tls.DISABLE)),
    (
        "DBI:mysql:database=d;host=h;mysql_ssl=1;mysql_ssl_verify_server_cert=1;mysql_ssl_ca_file=/ca",
        Dsn(MY, "d", "h", 3306, tls=Tls.VERIFY_FULL, ca_file="/ca"),
    ),
    ("dbi:Pg:dbname=d;host=h;port=1;sslmode=verify-ca", Dsn(PG, "d", "h", 1, tls=Tls.VERIFY_CA)),
    ("dbi:Pg(RaiseError=>1):dbname=d;host=/run/postgresql", Dsn(PG, "d", "", 5432, "/run/postgresql", tls=Tls.DISABLE)),
    ("dbi:Pg:dbname=d", Dsn(PG, "d", "localhost", 5432)),
    ("dbi:SQLite:dbname=/f.db", Dsn(LITE, "/f.db", tls=Tls.DISABLE)),
    ("dbi:SQLite:/f.db", Dsn(LITE, "/f.db", tls=Tls.DISABLE)),
    (
        "dbi:ODBC:Driver={ODBC Driver 18};Server=h,1444;Database=d;UID=u;PWD=p",
        Dsn(MS, "d", "h", 1444, user="u", password="p"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "dsn"), GOOD)
def test_what_it_means(text: str, dsn: Dsn):
    assert parse_dsn(text) == dsn
    assert database_of(text) is dsn.database


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("", 1, "wanted is a URL"),
        ("oracle://h/d", 1, "wanted is a URL"),
        ("dbi:Oracle:d", 5, "the DBI driver is not known"),
        ("dbi:mysql", 10, "a colon must follow"),
        ("mysql:h/d", 7, '"//" must follow mysql:'),
        ("mysql://h", 10, "it names no database"),
        ("mysql://h:0/d", 11, "the port is no number"),
        ("mysql://h:99999/d", 11, "the port is no number"),
        ("mysql://u:secret#1@h/d", 17, "in a password it is written %23"),
        ("mysql://-h-/d", 9, "the host is no name"),
        ("mysql://[::g]/d", 9, "the host is no IPv6 address"),
        ("mysql://a:b:c/d", 11, "the port is no number"),
        ("mysql://h/d?ssl-moda=x", 13, 'did you mean "ssl-mode"?'),
        ("postgresql://h/d?sslmode=strong", 26, "wanted is one of disable, prefer, require, verify-ca, verify-full"),
        ("postgresql://h/d?sslmode", 18, "wanted is NAME=VALUE"),
        ("dbi:Pg:dbname=d;hots=h", 17, 'did you mean "host"?'),
        ("dbi:Pg:dbname=d;port=h", 22, "the port is no number"),
        ("dbi:SQLite:dbname=f.db", 19, "must be an absolute path"),
        ("sqlite:", 8, "it names no file"),
        ("mysql://h/d\n", 12, "a line break"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, at: int, words: str):
    with pytest.raises(BadDsn) as told:
        parse_dsn(text)
    assert words in str(told.value) and str(told.value).endswith(f"(at character {at})")


@given(st.text("mysql:/@?=;&%dbiPg.[]0129# \x00", max_size=40))
@example("mysql://u:hunter2hunter2@h:x/d")
@example("DBI:mysql:hunter2hunter2=hunter2hunter2;password")
def test_any_text_is_read_or_refused_and_never_shown(text: str):
    try:
        dsn = parse_dsn(text)
    except BadDsn as error:
        assert 0 <= error.at <= len(text) and "hunter2hunter2=" not in str(error)
        return
    assert dsn.name and (dsn.host or dsn.socket or dsn.database is LITE)


def test_what_people_see_has_neither_user_nor_password():
    for text, _ in GOOD:
        assert not re.search(r"\bu\b|p@|\bp\b", parse_dsn(text).shown)
    assert parse_dsn("mysql://u:p@[::1]:3307/d").shown == "[::1]:3307/d"
    assert "password" not in repr(parse_dsn("mysql://u:p@h/d"))
