"""The queue in PostgreSQL as people meet it: its tables, what they type in psql, what they record in transactions."""

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from mailvane.errors import EventRejected, QueueTooNew, QueueUnavailable
from mailvane.events.catalogue import CLASSIC, FIELDS, TYPES
from mailvane.events.clean import admit, parse
from mailvane.events.codecs import StoredForm, legacy_values
from mailvane.queue.contract import Books, Filter, Settlement
from mailvane.queue.postgresql import (
    OwnedPostgreSQLQueue,
    open_postgresql,
    own_postgresql,
    parse_address,
    store_in_postgresql,
)
from mailvane.queue.postgresql.errors import BadAddress
from mailvane.queue.postgresql.schema import newest
from support.postgresql import PostgreSQL, program
from support.postgresql_proxies import eventually

from .conformance import event, events

ON = {"bounce_all", "engine_unsub"}


def judge(raw: bytes) -> StoredForm | None:
    """The door, and switches of which two are on."""
    parsed = parse(raw)
    form = admit(parsed, "mail1", 1_790_000_000)
    return form if parsed.event_type in ON else None


def make(url: str) -> None:
    """Makes a queue's tables."""

    async def main() -> None:
        await (await open_postgresql(url, "a test")).close()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def owned(url: str) -> AsyncIterator[OwnedPostgreSQLQueue]:
    queue = await own_postgresql(url, "a test", judge)
    try:
        yield queue
    finally:
        await queue.close()


def psql(url: str, *statements: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """What psql prints, one row a line, its columns between bars."""
    command = [str(program("psql")), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]
    for statement in statements:
        command += ["-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def as_administrator(server: PostgreSQL, url: str, *statements: str) -> None:
    """In the database of a URL."""
    database = url.rpartition("/")[2]
    with psycopg.connect(
        host=str(server.folder), port=server.port, user="postgres", dbname=database, autocommit=True
    ) as administrator:
        for statement in statements:
            administrator.execute(statement.encode())


# Addresses


@pytest.mark.parametrize(
    "url, schema, shown",
    [
        ("postgresql://u:s3cret@db:5433/d", "public", "postgresql://u@db:5433/d"),
        ("postgres://u@/d?host=/run/postgresql&schema=mv", "mv", "postgresql://u@/d?host=/run/postgresql&schema=mv"),
        ("postgresql://u:p%40ss@a,b:5433/d?sslmode=require", "public", "postgresql://u@a,b:5433/d?sslmode=require"),
        ("postgresql:///d?password=s3cret&user=u", "public", "postgresql:///d?user=u"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, schema: str, shown: str) -> None:
    address = parse_address(url)
    assert (address.schema, address.shown) == (schema, shown)
    assert "s3cret" not in repr(address) and "schema=" not in address.url


@pytest.mark.parametrize(
    "url", ["mysql://u:s3cret@h/d", "postgresql://u:s3cret@h:99999/d", "postgresql://u:s3cret@h/d?schema=a'b",
            "postgresql://u:s3cret@h/d#x"],
)  # fmt: skip
def test_a_bad_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadAddress) as error:
        parse_address(url)
    assert "s3cret" not in str(error.value)


# Making the tables


def test_many_processes_may_make_the_tables_at_once(postgresql_url: str) -> None:
    async def main() -> None:
        queues = await asyncio.gather(*[open_postgresql(postgresql_url, "a test") for _ in range(8)])
        assert len({queue.epoch for queue in queues}) == 1
        await asyncio.gather(*[queue.close() for queue in queues])

    asyncio.run(main())


def test_another_encoding_than_utf8_is_refused(postgresql: PostgreSQL) -> None:
    postgresql.query("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 OWNER mailvane")
    url = postgresql.url_of("latin")
    try:
        with pytest.raises(QueueUnavailable, match="encoding is LATIN1, wanted is UTF8"):
            make(url)
    finally:
        postgresql.drop(url)


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE events (id int)", "CREATE VIEW queue AS SELECT 1 AS id", "CREATE SEQUENCE kept",
     "CREATE FUNCTION mailvane_record(jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1'"],
)  # fmt: skip
def test_a_relation_that_is_not_ours_is_never_replaced(postgresql_url: str, statement: str) -> None:
    name = re.findall(r"CREATE \w+ (\w+)", statement)[0]
    psql(postgresql_url, statement)
    with pytest.raises(QueueUnavailable, match=rf"has {name} already, which is not mailvane's.*schema=mailvane"):
        make(postgresql_url)
    assert psql(postgresql_url, "SELECT to_regclass('mailvane_schema') IS NULL").stdout == "t\n"
    make(f"{postgresql_url}?schema=mailvane")
    assert psql(postgresql_url, "SELECT count(*) FROM mailvane.events").stdout == "0\n"


def test_a_role_that_may_make_nothing_is_told_what_to_do(postgresql: PostgreSQL, postgresql_url: str) -> None:
    as_administrator(postgresql, postgresql_url, "ALTER SCHEMA public OWNER TO postgres")
    with pytest.raises(QueueUnavailable, match="GRANT CREATE ON SCHEMA public"):
        make(postgresql_url)


def test_d24_a_newer_schema_is_refused_untouched(postgresql_url: str) -> None:
    make(postgresql_url)
    psql(postgresql_url, f"UPDATE mailvane_schema SET version = {newest() + 1}")
    for way in (open_postgresql, own_postgresql):
        with pytest.raises(QueueTooNew, match=f"has schema {newest() + 1}, this mailvane knows {newest()}"):
            asyncio.run(way(postgresql_url, "a test"))
    with pytest.raises(QueueTooNew):
        store_in_postgresql(postgresql_url, "a test").append([(events(1), "")])
    assert psql(postgresql_url, "SELECT version FROM mailvane_schema").stdout == f"{newest() + 1}\n"


def test_d24_a_migration_that_fails_half_way_leaves_nothing(postgresql: PostgreSQL, postgresql_url: str) -> None:
    """The disk is full, say: the last statement of making the tables fails."""
    as_administrator(
        postgresql,
        postgresql_url,
        """
        CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%mailvane_settle%') THEN
                RAISE EXCEPTION 'no more';
            END IF;
        END $$;
        """,
        "CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(QueueUnavailable, match="no more"):
        make(postgresql_url)
    left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert psql(postgresql_url, left).stdout == "0\n"
    as_administrator(postgresql, postgresql_url, "DROP EVENT TRIGGER refuse")
    make(postgresql_url)


def test_a_queue_survives_a_dump_and_a_restore_under_another_epoch(
    postgresql: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    """Restored elsewhere it may lack what was recorded since, and would give those ids again."""

    async def before() -> tuple[str, list[int]]:
        async with owned(postgresql_url) as queue:
            return queue.epoch, await queue.append(events(3))

    async def after(url: str) -> None:
        async with owned(url) as queue:
            assert [row.id for row in await queue.read(0, 10)] == ids
            assert queue.epoch != epoch
            assert await queue.append(events(1)) == [ids[-1] + 1]

    epoch, ids = asyncio.run(before())
    dump = subprocess.run([program("pg_dump"), "--no-owner", postgresql_url], capture_output=True, check=True).stdout
    with PostgreSQL() as other:
        url = other.database()
        restore = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", url]
        subprocess.run(restore, input=dump, capture_output=True, check=True)
        asyncio.run(after(url))


# By hand, in psql


def test_the_statements_of_the_guide_work_while_events_are_recorded(postgresql_url: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue:
            stopping = asyncio.Event()
            recorded: list[int] = []

            async def record() -> None:
                while not stopping.is_set():
                    recorded.extend(await queue.append([event(n, "scomp") for n in range(3)]))

            forms = [
                event(n, bounce_type="h" if n % 2 else "s", bounce_text=f"550 User unknown {n}") for n in range(20)
            ]
            ids = await queue.append(forms)
            recording = asyncio.ensure_future(record())

            async def typed(*statements: str) -> list[str]:
                return (await asyncio.to_thread(psql, postgresql_url, *statements)).stdout.splitlines()

            assert "bounce_all|20" in await typed("SELECT event_type, count(*) FROM events GROUP BY 1 ORDER BY 1")
            chosen = await typed(
                "SELECT id FROM events WHERE event_type = 'bounce_all' AND bounce_type = 'h'"
                " AND event_time >= 1790000003 AND event_time <= 1790000007"
                " AND bounce_text ILIKE '%USER unknown%' AND email ILIKE 'user%' ORDER BY id"
            )
            assert [int(i) for i in chosen] == [ids[3], ids[5], ids[7]]
            file = tmp_path / "bounces.csv"
            await typed(rf"\COPY (SELECT id, email FROM events WHERE event_type = 'bounce_all') TO '{file}' WITH CSV")
            assert len(file.read_text().splitlines()) == 20
            await typed(f"DELETE FROM events WHERE id IN ({', '.join(chosen)})")
            await typed("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE bounce_type = 's')")
            stopping.set()
            await recording
            left = {row.id for row in await queue.read(0, 100_000)}
            gone = {ids[n] for n in range(20) if n in (3, 5, 7) or not n % 2}
            assert left == {*ids, *recorded} - gone
            assert await queue.books() == Books(20 + len(recorded), 0, 0, len(gone))

    asyncio.run(main())


def test_the_view_has_the_classic_row(postgresql_url: str) -> None:
    form = event(
        1, bounce_type="h", bounce_code=10, studio_is_unique=1, json_after={"a": [1, None]}, list_name="Ünï 'q'",
    )  # fmt: skip

    async def main() -> int:
        async with owned(postgresql_url) as queue:
            return (await queue.append([form]))[0]

    event_id = asyncio.run(main())
    with psycopg.connect(postgresql_url) as person:
        cursor = person.execute("SELECT * FROM events")
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        row = dict(zip(names, cursor.fetchone() or (), strict=True))
    assert names == ["id", *CLASSIC]
    wanted = legacy_values(event_id, form.body)
    assert json.loads(row.pop("json_after")) == wanted.pop("json_after")
    assert row == wanted


def test_counting_by_type_parses_no_body(postgresql_url: str) -> None:
    make(postgresql_url)
    plan = psql(postgresql_url, "EXPLAIN SELECT event_type, count(*) FROM events GROUP BY 1").stdout
    assert "json_to_record" not in plan and "Seq Scan on queue" in plan


@pytest.mark.parametrize(
    "statement", ["INSERT INTO events (event_type) VALUES ('scomp')", "UPDATE events SET email = ''"]
)
def test_inserting_and_changing_by_hand_is_refused_with_the_right_way(postgresql_url: str, statement: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue:
            await queue.append(events(1))

    asyncio.run(main())
    refused = psql(postgresql_url, statement, check=False)
    assert refused.returncode == 1
    assert "HINT:" in refused.stderr and "SELECT mailvane_record(" in refused.stderr


# In transactions of people's own


def test_what_is_recorded_in_a_transaction_is_there_if_and_only_if_it_commits(postgresql_url: str) -> None:
    async def main() -> None:
        async with owned(postgresql_url) as queue, await psycopg.AsyncConnection.connect(postgresql_url) as person:
            record = "SELECT mailvane_record(%s::jsonb)"
            await person.execute("CREATE TABLE subscribers (email text)")
            await person.commit()
            for n, keep in enumerate((True, False, True)):
                await person.execute("INSERT INTO subscribers VALUES (%s)", [f"s{n}@example.com"])
                unsub = {"event_type": "engine_unsub", "email": f"S{n}@example.com", "listid": "A1"}
                await person.execute(record, [json.dumps(unsub)])
                assert await queue.count(Filter()) == min(n, 1)
                await (person.commit() if keep else person.rollback())
                wanted = min(n + 1, 1) + (n == 2)

                async def moved(wanted: int = wanted) -> bool:
                    return await queue.count(Filter()) == wanted

                await eventually(moved)
            rows = await queue.select(Filter(), 0, 10)
            assert [legacy_values(r.id, r.body)["email"] for r in rows] == ["S0@example.com", "S2@example.com"]
            assert [legacy_values(r.id, r.body)["listid"] for r in rows] == ["a1", "a1"]
            assert await queue.books() == Books(2, 0, 0, 0)

    asyncio.run(main())


@pytest.mark.parametrize(
    "given, why",
    [
        ("[]", "no JSON object"),
        ('{"event_type": "nonsense", "email": "a@example.com"}', "event_type: unknown type 'nonsense'"),
        ('{"event_type": "scomp_lite", "email": "a@example.com"}', "event_type: unknown type 'scomp_lite'"),
        ('{"email": "a@example.com"}', "event_type: unknown type null"),
        ('{"event_type": "scomp"}', "email: must be"),
        ('{"event_type": "scomp", "email": ""}', "email: must be"),
        ('{"event_type": "scomp", "email": 7}', "email: must be"),
        ('{"event_type": "scomp", "email": "a@example.com", "id": 7}', "id: is given by the queue"),
        ('{"event_type": "scomp", "email": "a@example.com", "emial": "x"}', "unknown field 'emial'"),
        ('{"event_type": "scomp", "email": "a@example.com", "message": "%s"}' % ("x" * 1_048_576), "is larger than"),
    ],
)  # fmt: skip
def test_what_is_wrong_fails_the_statement_at_once(postgresql_url: str, given: str, why: str) -> None:
    make(postgresql_url)
    with psycopg.connect(postgresql_url, autocommit=True) as person:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=re.escape(why)):
            person.execute("SELECT mailvane_record(%s::jsonb)", [given])
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="no JSON object"):
            person.execute("SELECT mailvane_record(NULL)")
        assert person.execute("SELECT count(*) FROM inbox").fetchone() == (0,)


def test_the_function_knows_the_types_and_fields_of_the_catalogue(postgresql_url: str) -> None:
    make(postgresql_url)
    source = psql(postgresql_url, "SELECT prosrc FROM pg_proc WHERE proname = 'mailvane_record'").stdout
    types, fields = re.findall(r"text\[\] := ARRAY\[(.*?)\]", source, re.DOTALL)
    assert re.findall(r"'(\w+)'", types) == [t.name for t in TYPES.values() if t.made]
    assert re.findall(r"'(\w+)'", fields) == list(FIELDS)


def test_the_door_and_the_switches_judge_what_is_moved(postgresql_url: str) -> None:
    """What the door does not let in stays with the reason, and holds up nothing."""
    make(postgresql_url)
    given = [
        {"event_type": "bounce_all", "email": "a@example.com"},
        {"event_type": "bounce_all", "email": "b@example.com", "event_time": "yesterday"},
        {"event_type": "scomp", "email": "off@example.com"},
        {"event_type": "engine_unsub", "email": "line\nbreak@example.com"},
        {"event_type": "bounce_all", "email": "c@example.com"},
    ]
    with psycopg.connect(postgresql_url) as person:
        for one in given:
            person.execute("SELECT mailvane_record(%s::jsonb)", [json.dumps(one)])

    async def main() -> None:
        async with owned(postgresql_url) as queue:

            async def moved() -> bool:
                return await queue.count(Filter()) == 2

            await eventually(moved)
            ids = await queue.append(events(1))
            await queue.settle(Settlement(ids), queue.term)

    asyncio.run(main())
    with psycopg.connect(postgresql_url) as person:
        emails = person.execute("SELECT email FROM events ORDER BY id").fetchall()
        left = person.execute("SELECT event ->> 'email', rejected FROM inbox ORDER BY id").fetchall()
    assert emails == [("a@example.com",), ("c@example.com",)]
    assert [email for email, _ in left] == ["b@example.com", "line\nbreak@example.com"]
    assert "event_time" in left[0][1] and "control character" in left[1][1]


def test_while_a_switch_is_not_known_what_is_in_the_inbox_waits(postgresql_url: str) -> None:
    make(postgresql_url)
    psql(postgresql_url, """SELECT mailvane_record('{"event_type": "bounce_all", "email": "a@example.com"}')""")
    known = False

    def doubtful(raw: bytes) -> StoredForm | EventRejected | None:
        if not known:
            raise QueueUnavailable("whether bounce_all is recorded is not known")
        return judge(raw)

    async def main() -> None:
        nonlocal known
        queue = await open_postgresql(postgresql_url, "a test", doubtful)
        ids = await queue.append(events(1))
        assert await queue.count(Filter()) == 1
        known = True

        async def moved() -> bool:
            return await queue.count(Filter()) == 2

        await eventually(moved)
        assert await queue.lookup.matching_ids(Filter(), 0, 10) == [ids[0], ids[0] + 1]
        await queue.close()

    asyncio.run(main())


def test_several_recorders_move_each_event_once(postgresql_url: str) -> None:
    make(postgresql_url)
    with psycopg.connect(postgresql_url) as person:
        person.execute(
            "SELECT mailvane_record(jsonb_build_object('event_type', 'bounce_all', 'email', n || '@example.com'))"
            " FROM generate_series(1, 2000) n"
        )

    async def main() -> None:
        queues = await asyncio.gather(*[open_postgresql(postgresql_url, "a test", judge) for _ in range(3)])

        async def all_moved() -> bool:
            return await queues[0].count(Filter()) >= 2_000

        await eventually(all_moved)
        assert (await queues[0].books()).recorded == 2_000
        await asyncio.gather(*[queue.close() for queue in queues])

    asyncio.run(main())
    counted = psql(postgresql_url, "SELECT count(DISTINCT email) FROM events", "SELECT count(*) FROM inbox").stdout
    assert counted == "2000\n0\n"


def test_a_program_moves_the_inbox_too(postgresql_url: str) -> None:
    make(postgresql_url)
    psql(postgresql_url, """SELECT mailvane_record('{"event_type": "bounce_all", "email": "a@example.com"}')""")
    store = store_in_postgresql(postgresql_url, "a program", judge)
    store.append([(events(1), "")])
    store.close()
    assert psql(postgresql_url, "SELECT email FROM events ORDER BY id").stdout == "user1@example.com\na@example.com\n"


def test_only_who_was_granted_it_may_record_so_and_needs_nothing_else(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    make(postgresql_url)
    postgresql.query("CREATE ROLE application LOGIN PASSWORD 'a'")
    try:
        record = """SELECT public.mailvane_record('{"event_type": "scomp", "email": "a@example.com"}')"""
        as_application = postgresql.url_of(postgresql_url.rpartition("/")[2], "application", "a")
        assert "permission denied for function" in psql(as_application, record, check=False).stderr
        psql(postgresql_url, "GRANT EXECUTE ON FUNCTION mailvane_record(jsonb) TO application")
        psql(as_application, "SET search_path = pg_temp", record)
        assert psql(postgresql_url, "SELECT count(*) FROM inbox").stdout == "1\n"
        assert "permission denied" in psql(as_application, "SELECT * FROM inbox", check=False).stderr
    finally:
        as_administrator(postgresql, postgresql_url, "DROP OWNED BY application", "DROP ROLE application")
