"""Role and database in a PostgreSQL that somebody else runs.

The URL that is given is that of the queue itself (role and database `greenarrow`), or an administrator's; then both are
made, where they are not there, and the role gets a password of its own.
"""

import secrets
from typing import cast
from urllib.parse import quote, unquote, urlsplit

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from mailvane.errors import MailvaneError
from mailvane.operations.layout.places import DATABASE, ROLE
from mailvane.queue.postgresql import look_at_postgresql, parse_address
from mailvane.queue.postgresql.connection import Connection

COMMAND = "mailvane layout"


async def queue_at(url: str) -> str:
    """The queue's URL, with its password. Raises QueueUnavailable, BadAddress, MailvaneError with what to do."""
    parts = urlsplit(parse_address(url).url)
    if unquote(parts.username or "") != ROLE:
        url = await _made_by_administrator(url)
    elif unquote(parts.path.lstrip("/")) != DATABASE:
        raise MailvaneError(
            f"--postgresql: the database must be called {DATABASE}, as the guide's psql -U {ROLE} asks for"
        )
    await look_at_postgresql(url, COMMAND)
    return url


async def _made_by_administrator(url: str) -> str:
    address = parse_address(url)
    try:
        connection = cast(
            Connection,
            await asyncpg.connect(address.url, server_settings={"application_name": COMMAND}),  # pyright: ignore[reportUnknownMemberType]
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as e:
        raise MailvaneError(f"--postgresql {address.shown}: {e or type(e).__name__}") from e
    try:
        password = secrets.token_urlsafe(24)
        if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE):
            raise MailvaneError(
                f"--postgresql {address.shown}: the role {ROLE} is there already; name its own URL, with its password: "
                f"postgresql://{ROLE}:PASSWORD@HOST/{DATABASE}"
            )
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE} ENCODING 'UTF8' TEMPLATE template0")
    except asyncpg.PostgresError as e:
        raise MailvaneError(f"--postgresql {address.shown}: {e}") from e
    finally:
        await connection.close()
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{ROLE}:{quote(password)}@{host}", path=f"/{DATABASE}").geturl()
