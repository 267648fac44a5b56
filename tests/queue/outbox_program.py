"""An application that records in its own transactions, with the code of docs/outbox.md: outbox_program.py WAY URL.

The package `shop` is what the page shows. Unsubscribes four people one after the other, and prints as JSON what each
came to: "" or the name of the error.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

PEOPLE = (1, 2, 3, 4)


def shop(module: str) -> Any:
    return importlib.import_module(f"shop.{module}")


def django(url: str) -> Callable[[int], object]:
    import django
    from django.conf import settings
    from psycopg.conninfo import conninfo_to_dict

    to = conninfo_to_dict(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": to["dbname"],
        "USER": to["user"],
        "PASSWORD": to["password"],
        "HOST": to["host"],
        "PORT": to["port"],
    }
    settings.configure(
        DATABASES={"default": database}, INSTALLED_APPS=["shop"], DEFAULT_AUTO_FIELD="django.db.models.AutoField"
    )
    django.setup()
    from django.test import RequestFactory

    view = shop("views").unsubscribe
    return lambda person: view(RequestFactory().post("/unsubscribe"), person)


def sqlalchemy(url: str) -> Callable[[int], object]:
    from sqlalchemy import create_engine

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    unsubscribe = shop("unsubscribing").unsubscribe
    return lambda person: unsubscribe(engine, person)


def sqlalchemy_async(url: str, driver: str) -> Callable[[int], object]:
    from sqlalchemy.ext.asyncio import create_async_engine

    unsubscribe = shop("unsubscribing_async").unsubscribe

    async def in_a_loop(person: int) -> None:
        engine = create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
        try:
            await unsubscribe(engine, person)
        finally:
            await engine.dispose()

    return lambda person: asyncio.run(in_a_loop(person))


def psycopg(url: str) -> Callable[[int], object]:
    from psycopg import Connection

    connection = Connection.connect(url)
    unsubscribe = shop("unsubscribing").unsubscribe
    return lambda person: unsubscribe(connection, person)


WAYS: dict[str, Callable[[str], Callable[[int], object]]] = {
    "django": django,
    "sqlalchemy": sqlalchemy,
    "sqlalchemy-async-psycopg": lambda url: sqlalchemy_async(url, "psycopg"),
    "sqlalchemy-async-asyncpg": lambda url: sqlalchemy_async(url, "asyncpg"),
    "psycopg": psycopg,
}


def main(way: str, url: str) -> None:
    unsubscribe = WAYS[way](url)
    told: list[str] = []
    for person in PEOPLE:
        try:
            unsubscribe(person)
        except Exception as e:  # which one it is, is what is asked
            told.append(f"{type(e).__name__}: {e}")
        else:
            told.append("")
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
