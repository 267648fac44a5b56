"""Reads `event_processor.json`: from its bytes to a Plan, or to every mistake in it, in order of place.

What the file may hold is declared in `legacy_keys`, how single values are judged stands in `legacy_values`. A mistake
in one value never keeps another from being judged.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mailvane.configuration import legacy_values as values
from mailvane.configuration.legacy_keys import (
    ANY_DESTINATION,
    FILE,
    LOGFILE,
    MATCHES,
    RULE,
    Key,
    Keys,
    home_of,
    keys_of,
)
from mailvane.configuration.mistakes import Broken, Mistake, nearest, quoted
from mailvane.configuration.positions import Array, Member, Node, Object, parse
from mailvane.configuration.route_names import named
from mailvane.configuration.secrets import Resolve, SecretMissing, is_reference, reference_path, resolve_secret
from mailvane.configuration.text import Place, decode, readable
from mailvane.destinations.contract import Database, HttpPost, LogFile, SqlStatement
from mailvane.destinations.dsn import database_of
from mailvane.destinations.placeholders import BadStatement, parse_statement
from mailvane.destinations.sql_driver import missing_driver
from mailvane.processor.plan import Drop, Leave, Match, Plan, Target

T = TypeVar("T")

MATCH_ALL = Match()


@dataclass(frozen=True)
class Legacy:
    """What a file says: a plan, or mistakes. `secret_files` are those that its references lead to."""

    text: str
    plan: Plan | None
    mistakes: tuple[Mistake, ...]
    secret_files: tuple[Path, ...] = ()


def read_legacy(data: bytes, resolve: Resolve | None = resolve_secret) -> Legacy:
    """Judges a whole file. With `resolve` None references are taken as they are: what they lead to is judged later."""
    try:
        text = decode(data)
        document = parse(text)
    except Broken as broken:
        return Legacy(readable(data), None, (broken.mistake,))
    reading = _Reading(resolve)
    plan = reading.file(document.root)
    mistakes = tuple(sorted({*document.mistakes, *reading.mistakes}))
    return Legacy(text, None if mistakes else plan, mistakes, tuple(reading.secret_files))


class _Reading:
    """One reading of one file; gathers mistakes. What could not be read is None."""

    def __init__(self, resolve: Resolve | None) -> None:
        self.mistakes: list[Mistake] = []
        self.secret_files: list[Path] = []
        self._resolve = resolve

    def file(self, root: Node) -> Plan | None:
        if not isinstance(root, Object):
            self._wrong(root.place, f"found {values.found(root)}, wanted an object: {{ … }}")
            return None
        members = self._members(root, FILE)
        # What stands at the top holds for every HTTP endpoint; "url" is filled in below.
        post = HttpPost(url="", json=False)
        rules: list[tuple[Key, Member]] = []
        logfile: LogFile | None = None
        for key, member in members:
            if key.kind == "mode":
                self._read(values.mode, key, member.value)
            elif key.kind == "boolean":
                post = replace(post, json=self._read(values.boolean, key, member.value) is True)
            elif key.kind == "count":
                post = replace(post, keep_alive=self._read(values.count, key, member.value))
            elif key.kind == "header":
                post = replace(post, user_agent=self._read(self._user_agent, key, member.value) or "")
            elif key.kind == "rules":
                rules.append((key, member))
            elif key.kind == "logfile":
                logfile = self._logfile(key, member.value)
        if not {key.name for key, _ in members} & {"event_destinations", "logfile"}:
            self._wrong(root.place, 'neither "event_destinations" nor "logfile" is here; one of them must be')
        # Read last, when all that holds for the endpoints is known.
        plans = [self._plan(key, member.value, post) for key, member in rules]
        if plans:
            return None if plans[0] is None else replace(plans[0], logfile=logfile)
        # Alone it is a destination like any other.
        return None if logfile is None else Plan(named([(MATCH_ALL, logfile)]))

    def _logfile(self, key: Key, value: Node) -> LogFile | None:
        if not isinstance(value, Object):
            self._wrong(value.place, str(values.not_wanted(key, value)))
            return None
        logfile: LogFile | None = LogFile("")
        for of, member in self._members(value, LOGFILE):
            read = {"filename": self._filename, "rotate_bytes": values.rotate_bytes, "keep": values.keep}
            if (found := self._read(read.get(of.kind, values.boolean), of, member.value)) is None:
                logfile = None
            elif logfile is not None:
                logfile = replace(logfile, **{of.name: found})
        return logfile if logfile and logfile.filename else None

    def _filename(self, key: Key, node: Node) -> str:
        filename = values.filename(key, node)
        self._follow(key, filename, values.judge_filename)
        return filename

    def _plan(self, key: Key, node: Node, post: HttpPost) -> Plan | None:
        if not isinstance(node, Array):
            self._wrong(node.place, str(values.not_wanted(key, node)))
            return None
        if not node.items:
            self._wrong(node.place, f'"{key.name}" is an empty array; at least one destination must be in it')
        whole: list[tuple[Match, Target]] = []
        all_at: Place | None = None
        for item in node.items:
            if all_at is not None:
                where = f"line {all_at.line}, column {all_at.column}"
                self._wrong(
                    item.place, f"never reached: the destination at {where} takes every event; put this one before it"
                )
            if not isinstance(item, Object):
                self._wrong(
                    item.place, f'found {values.found(item)}, wanted an object with "matches" and "destination"'
                )
                continue
            match, target = self._rule(item, post)
            if match == MATCH_ALL:
                all_at = all_at or item.place
            elif match is not None and item is node.items[-1] and all_at is None:
                place = next(m.value.place for m in item.members if m.key == "matches")
                self._wrong(place, 'the last destination must match all: {"all": true}')
            if match is not None and target is not None:
                whole.append((match, target))
        return Plan(named(whole))

    def _rule(self, item: Object, post: HttpPost) -> tuple[Match | None, Target | None]:
        match: Match | None = None
        target: Target | None = None
        for key, member in self._members(item, RULE):
            value = member.value
            if not isinstance(value, Object):
                self._wrong(value.place, str(values.not_wanted(key, value)))
            elif key.kind == "matches":
                match = self._matches(value)
            else:
                target = self._destination(value, post)
        return match, target

    def _matches(self, value: Object) -> Match | None:
        before = len(self.mistakes)
        members = self._members(value, MATCHES)
        takes_all = any(key.kind == "all" for key, _ in members)
        match = MATCH_ALL
        for key, member in members:
            if key.kind == "all":
                self._read(values.everything, key, member.value)
                continue
            if takes_all:
                self._wrong(member.place, f'"all" stands alone; take out "{key.name}", or "all"')
            names = self._names(key, member.value)
            match = replace(match, event_types=names) if key.kind == "types" else replace(match, mail_classes=names)
        if not value.members:
            self._wrong(value.place, '"matches" is empty; wanted is "all": true, or "event_type" or "mail_class"')
        return match if len(self.mistakes) == before else None

    def _names(self, key: Key, node: Node) -> frozenset[str]:
        if not isinstance(node, Array):
            only = self._read(lambda k, n: values.name(k, n, within=False), key, node)
            return frozenset() if only is None else frozenset({only})
        if not node.items:
            self._wrong(node.place, f'"{key.name}" is an empty array, which matches nothing; name at least one')
        read = [self._read(lambda k, n: values.name(k, n, within=True), key, item) for item in node.items]
        return frozenset(name for name in read if name is not None)

    def _destination(self, value: Object, post: HttpPost) -> Target | None:
        types = [m.value for m in value.members if m.key == "type"]
        kinds = [self._read(values.destination_type, ANY_DESTINATION.keys[0], node) for node in types]
        kind = kinds[0] if kinds else None
        if kind is not None and kind.later:
            self._wrong(types[0].place, f'destinations of type "{kind.name}" are not there yet')
            return None
        url: str | None = None
        members = self._members(value, keys_of(kind) if kind else ANY_DESTINATION)
        for key, member in members:
            if key.kind == "url":
                url = self._read(self._url, key, member.value)
        if kind is None:
            return None
        if any(key.name == "sql" for key in kind.keys):
            return self._sql(kind.name, types[0].place, members)
        if kind.name == "http_post":
            return None if url is None else replace(post, url=url)
        return Drop() if kind.name == "drop_from_queue" else Leave()

    def _sql(self, kind: str, place: Place, members: list[tuple[Key, Member]]) -> SqlStatement | None:
        """A statement; `place` is that of its type."""
        named = next((database for database in Database if database == kind), None)
        read = {"dsn": self._dsn, "username": self._secret, "password": self._secret, "sql": values.text}
        given: dict[str, str] = {}
        places: dict[str, Place] = {}
        bind: list[str] = []
        before = len(self.mistakes)
        for key, member in members:
            if key.kind == "bind_list":
                bind = self._bind_list(key, member.value)
            elif key.kind in read and (found := self._read(read[key.kind], key, member.value)) is not None:
                given[key.kind] = found
            places[key.kind] = member.value.place
        dsn, sql = given.get("dsn"), given.get("sql")
        database = named or database_of(dsn or "")
        if dsn and database is None:
            self._wrong(place, f'with "db_dsn" by reference name the database by the type: {", ".join(Database)}')
        elif dsn and not is_reference(dsn) and database is not (found_in := database_of(dsn)):
            self._wrong(places["dsn"], f'"db_dsn" leads to {found_in}, and the type is "{kind}"')
        elif database is not None and (why := missing_driver(database)):
            self._wrong(place, why)
        if dsn is None or sql is None or database is None:
            return None
        self._placeholders(sql, database, len(bind), places)
        user, password = given.get("username", ""), given.get("password", "")
        if len(self.mistakes) > before:
            return None
        return SqlStatement(database, dsn, sql, tuple(bind), user, password)

    def _placeholders(self, sql: str, database: Database, bound: int, places: dict[str, Place]) -> None:
        try:
            wanted = parse_statement(sql, database).placeholders
        except BadStatement as error:
            self._wrong(places["sql"], f'"sql": {error}')
            return
        if wanted != bound:
            what = f'"sql" has {wanted} placeholder{"s" * (wanted != 1)} (?) and "bind_list" {bound} name'
            self._wrong(places.get("bind_list", places["sql"]), f"{what}{'s' * (bound != 1)}; each needs the other")

    def _bind_list(self, key: Key, node: Node) -> list[str]:
        if not isinstance(node, Array):
            self._wrong(node.place, str(values.not_wanted(key, node)))
            return []
        # What could not be read counts all the same: the number of names is judged too.
        return [self._read(values.field, key, item) or "" for item in node.items]

    def _dsn(self, key: Key, node: Node) -> str:
        dsn = values.dsn(key, node)
        self._follow(key, dsn, values.judge_dsn)
        return dsn

    def _secret(self, key: Key, node: Node) -> str:
        secret = values.secret(key, node)
        self._follow(key, secret, lambda key, value: None)
        return secret

    def _url(self, key: Key, node: Node) -> str:
        url = values.url(key, node)
        self._follow(key, url, values.judge_url)
        return url

    def _user_agent(self, key: Key, node: Node) -> str:
        user_agent = values.user_agent(key, node)
        self._follow(key, user_agent, values.judge_user_agent)
        return user_agent

    def _follow(self, key: Key, value: str, judge: Callable[[Key, str], None]) -> None:
        """Judges what a value leads to if it is a reference. Raises Wrong."""
        if path := reference_path(value):
            self.secret_files.append(path)
        if not is_reference(value) or self._resolve is None:
            return
        try:
            judge(key, self._resolve(value))
        except SecretMissing as error:
            raise values.Wrong(str(error)) from None
        except values.Wrong as wrong:
            raise values.Wrong(f"what {quoted(value, 200)} leads to will not do: {wrong}") from None

    def _members(self, value: Object, keys: Keys) -> list[tuple[Key, Member]]:
        """The members whose keys are known; the others, and what is missing or not there yet, are told."""
        known: list[tuple[Key, Member]] = []
        for member in value.members:
            key = keys.get(member.key)
            if key is None:
                self._wrong(member.place, f"{quoted(member.key)} is no key of {keys.name}; {_hint(member.key, keys)}")
                continue
            known.append((key, member))
            if key.kind == "later" and keys is FILE:
                self._wrong(member.place, f'"{key.name}" is not there yet')
        for key in keys.keys:
            if key.required and all(key is not other for other, _ in known):
                self._wrong(value.place, f'{keys.name} lacks "{key.name}": {key.wanted}')
        return known

    def _read(self, read: Callable[[Key, Node], T], key: Key, node: Node) -> T | None:
        try:
            return read(key, node)
        except values.Wrong as wrong:
            self._wrong(node.place, str(wrong))
            return None

    def _wrong(self, place: Place, message: str) -> None:
        self.mistakes.append(Mistake(*place, message))


def _hint(name: str, keys: Keys) -> str:
    home = home_of(name)
    places = (FILE, RULE, MATCHES, LOGFILE)
    elsewhere = home in {keys.name for keys in places} or keys in places
    return f"it belongs into {home}" if home and home != keys.name and elsewhere else nearest(name, keys.names())
