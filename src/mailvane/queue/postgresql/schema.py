"""Makes the queue's tables and brings older ones up: numbered migrations, in a transaction, a newer schema refused.

Nothing is ever replaced that is not ours: where a table, a view or a function of one of our names stands and we have
not made the schema, it is left alone and named.
"""

import re
from functools import lru_cache

from mailvane.errors import QueueTooNew, QueueUnavailable
from mailvane.queue.postgresql.address import Address
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.errors import Disconnected, NoQueueYet, TryAgain, told
from mailvane.queue.statements import migrations

STORE = "postgresql"
_RELATION = re.compile(r"^CREATE (?:TABLE|VIEW|SEQUENCE|INDEX) (\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^CREATE FUNCTION (\w+)", re.MULTILINE)


@lru_cache(maxsize=1)
def newest() -> int:
    """The schema that this mailvane writes."""
    return migrations(STORE)[-1][0]


async def ensure_schema(connection: Connection, address: Address, writes: bool = True) -> None:
    """Makes the tables or brings them up, where that is needed, and looks at their version.

    Whoever comes first does it, the others wait. Raises QueueTooNew, and QueueUnavailable with what is in the way.
    """
    version = await _version(connection, address)
    if version == newest():
        return
    if not writes:
        if not version:
            raise NoQueueYet(
                f"{address.shown}: there is no queue yet; it is made with the first event, where writes are taken"
            )
        return
    with told(address.shown):
        async with connection.transaction():
            await connection.fetchval(SQL["one_at_a_time"], address.schema)
            version = await _version(connection, address)
            if version == 0:
                await _refuse_others(connection, address)
            for number, script in migrations(STORE):
                if number > version:
                    await _migrate(connection, address, number, script)


async def _version(connection: Connection, address: Address) -> int:
    """0 where there is none of ours. Raises QueueTooNew."""
    with told(address.shown):
        if await connection.fetchval(SQL["version_in"], address.schema) is None:
            return 0
        version = int(await connection.fetchval(f"SELECT version FROM {quoted(address.schema)}.mailvane_schema") or 0)
    if version > newest():
        raise QueueTooNew(
            f"{address.shown} has schema {version}, this mailvane knows {newest()}: it was written by a newer mailvane."
            " Install that version again; nothing was changed"
        )
    return version


async def refuse_unfit(connection: Connection, address: Address) -> None:
    """Raises what `ensure_schema` would where something is in the way; makes nothing."""
    if await _version(connection, address) == 0:
        with told(address.shown):
            await _refuse_strangers(connection, address)


async def _refuse_others(connection: Connection, address: Address) -> None:
    if not await connection.fetchval(SQL["schema_exists"], address.schema):
        await connection.execute(f"CREATE SCHEMA {quoted(address.schema)}")
    await _refuse_strangers(connection, address)


async def _refuse_strangers(connection: Connection, address: Address) -> None:
    scripts = "\n".join(script for _, script in migrations(STORE))
    found = await connection.fetch(
        SQL["relations_in"], address.schema, _RELATION.findall(scripts), _FUNCTION.findall(scripts)
    )
    if found:
        names = ", ".join(str(row[0]) for row in found)
        raise QueueUnavailable(
            f"{address.shown}: the schema {address.schema} has {names} already, which is not mailvane's and was left as"
            " it is. Give the queue a schema of its own: add ?schema=mailvane to its URL (`mailvane init --schema`)"
        )


async def _migrate(connection: Connection, address: Address, number: int, script: str) -> None:
    try:
        with told(address.shown):
            await connection.execute(script.replace(':"schema"', quoted(address.schema)))
            if number == 1:
                await connection.execute(SQL["set_version"], number)
            else:
                await connection.execute(SQL["move_version"], number)
    except (Disconnected, TryAgain):
        raise
    except QueueUnavailable as e:
        if "permission denied for schema" not in str(e):
            raise
        raise QueueUnavailable(
            f"{e}. Let the role own the database, or GRANT CREATE ON SCHEMA {address.schema}, or name a schema that it"
            " may make: ?schema=mailvane"
        ) from e


def quoted(name: str) -> str:
    """An identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
