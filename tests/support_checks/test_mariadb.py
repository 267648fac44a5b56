import pymysql
import pytest
from pymysql.cursors import Cursor

from support.mariadb import PASSWORD, USER, MariaDB, database_of


def connect(
    server: MariaDB, url: str, password: str = PASSWORD, tls: dict[str, str] | None = None
) -> "pymysql.Connection[Cursor]":
    database = database_of(url)
    return pymysql.connect(host="127.0.0.1", port=server.port, user=USER, password=password, database=database, ssl=tls)


def test_databases_are_empty_and_the_user_may_do_all_in_them(mariadb: MariaDB) -> None:
    first, second = mariadb.database(), mariadb.database()
    with connect(mariadb, first) as connection:
        connection.cursor().execute("CREATE TABLE here (n int)")
    assert [name for (name,) in mariadb.query("SHOW TABLES", url=first)] == ["here"]
    assert not mariadb.query("SHOW TABLES", url=second)
    mariadb.drop(first)
    mariadb.drop(second)


def test_its_temporary_files_are_its_own(mariadb: MariaDB) -> None:
    """A server that starts removes those in its folder for them, also those of another one that is being set up."""
    assert mariadb.query("SELECT @@tmpdir") == [(str(mariadb.folder),)]


def test_a_wrong_password_is_refused(mariadb: MariaDB, mariadb_url: str) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        connect(mariadb, mariadb_url, password="wrong")


def test_tls_is_there_for_those_who_know_its_authority(mariadb: MariaDB, mariadb_url: str) -> None:
    with connect(mariadb, mariadb_url, tls={"ca": str(mariadb.authority_file)}) as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
        assert cursor.fetchall() == (("Ssl_version", "TLSv1.3"),)


def test_what_is_committed_stays_when_it_is_killed() -> None:
    with MariaDB() as server:
        url = server.database()
        server.query("CREATE TABLE kept (n int)", url=url)
        for n, end in enumerate((server.kill, server.stop)):
            committed, left_open = connect(server, url), connect(server, url)
            left_open.cursor().execute("INSERT INTO kept VALUES (100)")
            committed.cursor().execute("INSERT INTO kept VALUES (%s)", (n,))
            committed.commit()
            end()
            with pytest.raises(pymysql.err.OperationalError):
                left_open.commit()
            with pytest.raises(pymysql.err.OperationalError):
                connect(server, url)
            server.start()
        assert server.query("SELECT n FROM kept ORDER BY n", url=url) == [(0,), (1,)]


def test_settings_hold() -> None:
    with MariaDB({"max-allowed-packet": "1M"}) as server:
        assert server.query("SELECT @@max_allowed_packet") == [(2**20,)]
