"""The `?` of a statement: found where the database would see them, and written as each database has them. No I/O.

A `?` in a string, a quoted name, a comment or a dollar quote is none. PostgreSQL has operators with a `?` (JSON): there
`??` stands for one `?` that is no placeholder, as in Java's driver.
After the lexical rules of MySQL 8, MariaDB 11, PostgreSQL 18, SQLite 3.5x and Transact-SQL.
"""

import re
from dataclasses import dataclass

from mailvane.destinations.contract import Database


class BadStatement(ValueError):
    """A statement that cannot be run. `at` is the character at which it goes wrong, from 0."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(f"{text} (at character {at + 1})")
        self.at = at


@dataclass(frozen=True)
class Statement:
    """A statement cut at its placeholders: there is one between each two of `parts`."""

    database: Database
    parts: tuple[str, ...]

    @property
    def placeholders(self) -> int:
        return len(self.parts) - 1

    def numbered(self) -> str:
        """With $1, $2 …, as PostgreSQL has them."""
        return self.parts[0] + "".join(f"${n}{part}" for n, part in enumerate(self.parts[1:], 1))

    def marked(self) -> str:
        """With `?`, as MySQL and SQLite have them."""
        return "?".join(self.parts)

    def formatted(self) -> str:
        """With %s, and every other % doubled, as python-tds has them."""
        return "%s".join(part.replace("%", "%%") for part in self.parts)


@dataclass(frozen=True)
class RowShape:
    """An INSERT of one row, `VALUES (…)`, that can be made one of many: what is before, the row, what is behind."""

    before: str
    row: str
    behind: str

    def of(self, rows: int) -> str:
        """The statement for so many rows."""
        return self.before + ", ".join([self.row] * rows) + self.behind


_COMMENT_TO_THE_END = r"--[^\n]*"
_BLOCK = r"/\*.*?\*/"
_PLAIN_STRING = r"'(?:[^']|'')*'"
_PLAIN_NAME = r'"(?:[^"]|"")*"'
_TICKS = r"`(?:[^`]|``)*`"
_BRACKETS = r"\[(?:[^\]]|\]\])*\]"
_QUOTED = {
    Database.MYSQL: (
        r"'(?:[^'\\]|''|\\.)*'",
        r'"(?:[^"\\]|""|\\.)*"',
        _TICKS,
        r"--(?=[\s\x00]|$)[^\n]*",  # without a blank behind, it is a minus before a minus
        r"#[^\n]*",
        r"/\*(?!M?!).*?\*/",  # what stands in /*! … */ is run
    ),
    Database.POSTGRESQL: (
        r"(?<![A-Za-z0-9_$\x80-\U0010ffff])[eE]'(?:[^'\\]|''|\\.)*'",
        _PLAIN_STRING,
        _PLAIN_NAME,
        r"(?<![A-Za-z0-9_$\x80-\U0010ffff])\$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$.*?\$(?P=tag)\$",
        _COMMENT_TO_THE_END,
    ),
    Database.SQLITE: (_PLAIN_STRING, _PLAIN_NAME, _TICKS, _BRACKETS, _COMMENT_TO_THE_END, _BLOCK),
    Database.MSSQL: (_PLAIN_STRING, _PLAIN_NAME, _BRACKETS, _COMMENT_TO_THE_END),
}
"""What is taken whole."""
_NESTING = frozenset({Database.POSTGRESQL, Database.MSSQL})
"""Where a comment may stand in a comment."""
_TOKENS = {database: re.compile("|".join(quoted), re.DOTALL) for database, quoted in _QUOTED.items()}
_OPENING = {
    Database.MYSQL: re.compile(r"['\"`]|/\*(?!M?!)"),
    Database.POSTGRESQL: re.compile(r"['\"]|(?<![A-Za-z0-9_$\x80-\U0010ffff])\$(?:[A-Za-z_]\w*)?\$"),
    Database.SQLITE: re.compile(r"['\"`\[]|/\*"),
    Database.MSSQL: re.compile(r"['\"\[]"),
}
"""How what is taken whole begins: where no end was found."""


@dataclass(frozen=True)
class _Token:
    """A piece of a statement: `quoted` (strings, names, comments), or a word, or one other character."""

    text: str
    at: int
    quoted: bool = False

    @property
    def comment(self) -> bool:
        return self.quoted and self.text.startswith(("--", "/*", "#"))

    @property
    def placeholder(self) -> bool:
        return not self.quoted and self.text == "?"


_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*|\s+|[0-9]+")


def _tokens(sql: str, database: Database) -> list[_Token]:
    """Raises BadStatement where something is opened and never closed."""
    found: list[_Token] = []
    at = 0
    while at < len(sql):
        if database in _NESTING and sql.startswith("/*", at):
            end = _end_of_comment(sql, at)
            found.append(_Token(sql[at:end], at, quoted=True))
        elif match := _TOKENS[database].match(sql, at):
            end = match.end()
            found.append(_Token(match[0], at, quoted=True))
        elif match := _OPENING[database].match(sql, at):
            raise BadStatement(f"what begins with {match[0]} here has no end", at)
        elif database is Database.POSTGRESQL and sql.startswith("??", at):
            end = at + 2
            found.append(_Token("?", at, quoted=True))
        else:
            match = _WORD.match(sql, at)
            end = match.end() if match else at + 1
            found.append(_Token(sql[at:end], at))
        at = end
    return found


def _end_of_comment(sql: str, at: int) -> int:
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    raise BadStatement("what begins with /* here has no end", at)


def parse_statement(sql: str, database: Database) -> Statement:
    """Finds the placeholders. Raises BadStatement."""
    tokens = _tokens(sql, database)
    parts = [""]
    ended: int | None = None
    for number, token in enumerate(tokens):
        if token.text == "\x00" or (token.quoted and "\x00" in token.text):
            raise BadStatement("a NUL character is in it", token.at)
        if ended is not None and not token.comment and not token.text.isspace():
            raise BadStatement("it has one statement behind another; wanted is one alone", token.at)
        if token.placeholder:
            behind = tokens[number + 1] if number + 1 < len(tokens) else None
            if behind is not None and not behind.quoted and behind.text.isdigit():
                raise BadStatement("placeholders have no numbers: a ? for each name in bind_list", token.at)
            parts.append("")
        elif token.text == ";" and not token.quoted:
            ended = token.at
        elif ended is None:
            parts[-1] += token.text
    if not any(not t.comment and not t.text.isspace() and t.text != ";" for t in tokens):
        raise BadStatement("it is empty", 0)
    return Statement(database, tuple(parts))


def row_shape(statement: Statement) -> RowShape | None:
    """The shape of `INSERT … VALUES (…) …`, if the statement is one, all its placeholders are in the one row, and many
    rows at once mean the same as one after the other."""
    tokens = _tokens(statement.marked(), statement.database)
    if sum(token.placeholder for token in tokens) != statement.placeholders:  # an operator with a ? is among them
        return None
    words = [t.text.upper() for t in tokens if not t.comment and not t.text.isspace()]
    if not words or words[0] not in {"INSERT", "REPLACE"} or {"SELECT", "RETURNING", "WITH"} & set(words):
        return None
    depth, start = 0, -1
    for number, token in enumerate(tokens):
        if token.quoted or token.text.isspace():
            continue
        if token.text.upper() in {"VALUES", "VALUE"} and not depth:
            start = number + 1
            break
        depth += {"(": 1, ")": -1}.get(token.text, 0)
    if start < 0:
        return None
    while start < len(tokens) and (tokens[start].comment or tokens[start].text.isspace()):
        start += 1
    end = _closing(tokens, start)
    if end is None or any(t.placeholder for t in (*tokens[:start], *tokens[end:])):
        return None
    behind = [t.text for t in tokens[end:] if not t.comment and not t.text.isspace()]
    if behind and behind[0].upper() not in {"ON", "AS"}:  # a second row, for one
        return None
    if behind and statement.database is Database.POSTGRESQL and "UPDATE" in {text.upper() for text in behind}:
        return None  # one command may not change a row twice
    before, row, rest = ("".join(t.text for t in some) for some in (tokens[:start], tokens[start:end], tokens[end:]))
    return RowShape(before, row, rest)


def _closing(tokens: list[_Token], start: int) -> int | None:
    """Behind the bracket that closes the one at `start`."""
    depth = 0
    for number in range(start, len(tokens)):
        token = tokens[number]
        if token.quoted:
            continue
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if not depth:
            return number + 1 if token.text == ")" else None
    return None
