"""The keys of `event_processor.json`, as data: the parser, its messages and the documentation are made from it."""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal[
    "mode", "boolean", "count", "header", "rules", "matches", "destination", "all", "types", "classes", "type", "url",
    "logfile", "filename", "rotate_bytes", "keep", "dsn", "username", "password", "sql", "bind_list", "later",
]  # fmt: skip
"""How a value is read; see `mailvane.configuration.legacy`."""


@dataclass(frozen=True)
class Key:
    """A key of an object: what must stand there (as messages and the documentation say it) and what it means."""

    name: str
    kind: Kind
    wanted: str
    about: str
    required: bool = False


@dataclass(frozen=True)
class Keys:
    """The keys that an object of the file may have; `name` is what messages call it."""

    name: str
    keys: tuple[Key, ...]

    def names(self) -> tuple[str, ...]:
        return tuple(k.name for k in self.keys)

    def get(self, name: str) -> Key | None:
        return next((k for k in self.keys if k.name == name), None)


@dataclass(frozen=True)
class DestinationType:
    """A `type` of destination, with the keys that it takes beside `type`; `later`: known, but not there yet."""

    name: str
    about: str
    keys: tuple[Key, ...] = ()
    later: bool = False


FILE = Keys(
    "the file",
    (
        Key("configuration_mode", "mode", '"json"', "may be absent"),
        Key(
            "use_json_for_http_post",
            "boolean",
            "true or false",
            "true: a JSON object is posted and any 2xx is success; false or absent: form fields are posted, and the "
            "body of the answer must contain the word `ok`, in either case",
        ),
        Key(
            "http_keep_alive",
            "count",
            "a whole number from 0",
            "how many connections to an endpoint are kept and used again at most; 0: none; absent: all there are",
        ),
        Key(
            "http_user_agent",
            "header",
            "a string",
            "the User-Agent of each POST, or a reference to it as for `url`; default `mailvane/VERSION`",
        ),
        Key(
            "event_destinations",
            "rules",
            "an array of objects",
            "objects with `matches` and `destination`; the first that matches gets the event, and the last one must "
            "match all",
        ),
        Key(
            "logfile",
            "logfile",
            "an object",
            "a file to which every event that is delivered or dropped is written too, one JSON object a line; with no "
            "`event_destinations` beside it events are written there and removed",
        ),
    ),
)

LOGFILE = Keys(
    '"logfile"',
    (
        Key(
            "filename",
            "filename",
            "the absolute path of a file",
            "where it is; or `@file:/PATH` or `@env:NAME`, which lead to it",
            required=True,
        ),
        Key(
            "rotate_bytes",
            "rotate_bytes",
            "0, or a whole number from 1048576 (1 MiB)",
            "the file is moved aside before it has more bytes; 0 or absent: never",
        ),
        Key("rotate_daily", "boolean", "true or false", "the file is moved aside when a day (UTC) is over"),
        Key("keep", "keep", "a whole number from 1", "how many older files stay; default 7"),
        Key("compress", "boolean", "true or false", "whether older files are compressed (gzip); default true"),
    ),
)

RULE = Keys(
    "an event destination",
    (
        Key("matches", "matches", "an object", "which events this destination takes", required=True),
        Key("destination", "destination", "an object", "where they go", required=True),
    ),
)

MATCHES = Keys(
    '"matches"',
    (
        Key("all", "all", "true", "takes every event; stands alone"),
        Key("event_type", "types", "a string or an array of strings", "types of events, in either case"),
        Key(
            "mail_class",
            "classes",
            "a string or an array of strings",
            "mail classes, in either case; an event without one is known by its listid",
        ),
    ),
)

TYPE = Key("type", "type", "a string", "one of the types below", required=True)

_SQL = (
    Key(
        "db_dsn",
        "dsn",
        "a string",
        "the database, as a URL or a Perl DBI string, or a reference to it as for `url`",
        required=True,
    ),
    Key("db_username", "username", "a string", "who logs in, or a reference; before a user in `db_dsn`"),
    Key("db_password", "password", "a string", "the password, or a reference; before one in `db_dsn`"),
    Key("sql", "sql", "a string", "the statement, with a `?` for each value", required=True),
    Key(
        "bind_list",
        "bind_list",
        "an array of strings",
        "the names of the fields that stand for the `?`, in their order; `id` and `event_unique_id` too",
    ),
)

DESTINATIONS = {
    t.name: t
    for t in (
        DestinationType(
            "http_post",
            "posts each event to a URL",
            (
                Key(
                    "url",
                    "url",
                    "a string",
                    "`http://…` or `https://…`; or `@file:/PATH` or `@env:NAME`, which lead to it",
                    required=True,
                ),
            ),
        ),
        DestinationType("drop_from_queue", "removes the event"),
        DestinationType("leave_in_queue", "keeps the event in the queue"),
        DestinationType("custom_sql", "runs a statement for each event, in the database that `db_dsn` names", _SQL),
        DestinationType("mysql", "as custom_sql, in MySQL or MariaDB", _SQL),
        DestinationType("postgresql", "as custom_sql, in PostgreSQL", _SQL),
        DestinationType("mssql", "as custom_sql, in SQL Server; needs mailvane[mssql]", _SQL),
        DestinationType("sqlite", "as custom_sql, in SQLite", _SQL),
    )
}

ANY_DESTINATION = Keys(
    '"destination"',
    (TYPE, *{key.name: replace(key, required=False) for kind in DESTINATIONS.values() for key in kind.keys}.values()),
)
"""What a destination may have whose type is not known."""


def keys_of(kind: DestinationType) -> Keys:
    return Keys(f'a destination of type "{kind.name}"', (TYPE, *kind.keys))


def home_of(name: str) -> str | None:
    """In which object a key belongs that was found elsewhere."""
    places = (FILE, RULE, MATCHES, LOGFILE, ANY_DESTINATION)
    return next((keys.name for keys in places if keys.get(name)), None)
