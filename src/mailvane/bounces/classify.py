"""What a failure is: hard, soft or other, and its code.

The order: the text rules over what the remote server said, the enhanced status in those words, the report's own
Status field, the text rules over the report's explanation, the reply code. What the server said is Diagnostic-Code,
or what a letter quotes of it. Text goes first because servers' codes lie: of the failures with a Status of 5.x.x in
our collection a quarter is hard. The status inside Diagnostic-Code goes before the field Status, because Exim writes
5.0.0 there whatever happened.

Rules and tables are in ``rules.toml``. A phrase is plain text, ``*`` in it stands for up to 60 characters; there are
no regular expressions, so that no text can make a rule slow.
"""

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import cast

from mailvane.bounces.facts import BounceType, Verdict
from mailvane.bounces.mime import TEXT_AT_MOST
from mailvane.bounces.status import enhanced_status, quoted_reply, reply_code

GAP_AT_MOST = 60
_SENTENCE_AT_MOST = 200


@dataclass(frozen=True, slots=True)
class Rule:
    """One text rule: what it makes of a text that holds one of its phrases."""

    name: str
    bounce_type: BounceType
    bounce_code: int
    phrases: tuple[tuple[str, ...], ...]
    """Each phrase is its pieces, between which other text may stand."""
    unless: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything in ``rules.toml``."""

    text: tuple[Rule, ...]
    status: dict[str, tuple[BounceType, int]]
    reply: dict[str, tuple[BounceType, int]]


def classify(diagnostic: str, status: str, words: str) -> Verdict:
    """Judge one recipient's failure.

    *diagnostic* is what the remote server said (Diagnostic-Code), *status* the report's Status field, *words* the
    report's explanation for people; any of them may be empty.
    """
    rules = load_rules()
    explained = _explain(words)
    said = diagnostic if diagnostic.strip() else explained.quoted
    verdict = _by_text(rules, readable(said))
    if verdict:
        return _weigh(verdict, said, status)
    coded = _first_by_status(rules, said, status)
    if coded and coded.bounce_code not in _SAY_LITTLE:
        return coded
    if explained.by_text:
        return _weigh(explained.by_text, said, status)
    return coded or explained.by_status or _first_by_reply(rules, said) or explained.by_reply or _UNDETERMINED


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a report's words say, by each of the ways to judge them."""

    quoted: str
    by_text: Verdict | None
    by_status: Verdict | None
    by_reply: Verdict | None


@lru_cache(maxsize=4)
def _explain(words: str) -> _Explained:
    """Kept, because a report of a thousand recipients explains itself once for all of them."""
    rules = load_rules()
    return _Explained(
        quoted_reply(words),
        _by_text(rules, readable(words)),
        _first_by_status(rules, words),
        _first_by_reply(rules, words),
    )


_SAY_LITTLE = frozenset({0, 20, 40})
"""Codes that a status gives for want of better: then the explanation is read first."""

_UNDETERMINED = Verdict("o", 0, "undetermined", "")


def _first_by_status(rules: Rules, *texts: str) -> Verdict | None:
    for text in texts:
        code = enhanced_status(text)
        verdict = _by_table(rules.status, code) if code else None
        if verdict:
            return verdict
    return None


def _first_by_reply(rules: Rules, *texts: str) -> Verdict | None:
    for text in texts:
        code = reply_code(text)
        if code:
            verdict = rules.reply.get(code) or rules.reply.get(code[0])
            if verdict:
                return Verdict(*verdict, f"reply {code}", code)
    return None


def _weigh(verdict: Verdict, diagnostic: str, status: str) -> Verdict:
    """A hard verdict over a reply that says "try again" (4xx) is soft: the server itself is not sure yet."""
    if verdict.bounce_type != "h":
        return verdict
    code = enhanced_status(diagnostic) or reply_code(diagnostic) or enhanced_status(status)
    # 4.1.x is about the address itself: servers say it for years of an address that is gone (Postfix: 450 4.1.1).
    if code and code.startswith("4") and not code.startswith("4.1."):
        return Verdict("s", 20, f"{verdict.rule}, but {code}", verdict.sentence)
    return verdict


def _by_text(rules: Rules, text: str) -> Verdict | None:
    if not text.strip():
        return None
    for rule in rules.text:
        place = _first_phrase(text, rule.phrases)
        if place is not None and _first_phrase(text, rule.unless) is None:
            start, end = place
            sentence = text[max(0, start - 60) : min(len(text), max(end + 60, start + 60))].strip()
            return Verdict(rule.bounce_type, rule.bounce_code, rule.name, sentence[:_SENTENCE_AT_MOST])
    return None


def _by_table(table: dict[str, tuple[BounceType, int]], code: str) -> Verdict | None:
    """By the whole status, else with its detail left out (``5.7``), else by its class."""
    for key in (code, code.rpartition(".")[0], code[0]):
        if key in table:
            return Verdict(*table[key], f"status {key}", code)
    return None


def readable(text: str) -> str:
    """*text* as the rules see it: lower case, white space single, addresses gone, at most ``TEXT_AT_MOST`` long.

    Addresses go because whoever chose them must not choose the verdict.
    """
    words: list[str] = []
    for word in text[:TEXT_AT_MOST].lower().split():
        words.append(_without_address(word) if "@" in word else word)
    return f" {' '.join(words)} "


def _without_address(word: str) -> str:
    start = end = word.index("@")
    while start > 0 and word[start - 1] not in "<>()[]\"':;,=":
        start -= 1
    end = word.rindex("@")
    while end < len(word) and word[end] not in "<>()[]\"':;,":
        end += 1
    return f"{word[:start]}@{word[end:]}"


def _first_phrase(text: str, phrases: tuple[tuple[str, ...], ...]) -> tuple[int, int] | None:
    for phrase in phrases:
        place = _find(text, phrase)
        if place is not None:
            return place
    return None


def _find(text: str, pieces: tuple[str, ...]) -> tuple[int, int] | None:
    """Where *pieces* stand in *text* in their order, each at most ``GAP_AT_MOST`` after the one before."""
    first, *others = pieces
    start = text.find(first)
    while start >= 0:
        end = start + len(first)
        for piece in others:
            at = text.find(piece, end, end + GAP_AT_MOST + len(piece))
            if at < 0:
                break
            end = at + len(piece)
        else:
            return start, end
        start = text.find(first, start + 1)
    return None


@cache
def load_rules() -> Rules:
    """The rules that come with the package. Raises ``ValueError`` if the file is not what it should be."""
    text = resources.files("mailvane.bounces").joinpath("rules.toml").read_text("utf-8")
    return parse_rules(text)


def parse_rules(text: str) -> Rules:
    """Rules from the text of a ``rules.toml``. Raises ``ValueError`` naming the rule that is wrong."""
    data = cast(dict[str, object], tomllib.loads(text))
    rules: list[Rule] = []
    for entry in cast(list[dict[str, object]], data.get("rule", [])):
        name = str(entry.get("name", ""))
        phrases = _phrases(name, entry.get("phrases"))
        if not name or not phrases:
            raise ValueError(f"rule {name or len(rules) + 1}: a rule needs a name and phrases")
        kind, code = _verdict(f"rule {name}", entry)
        rules.append(Rule(name, kind, code, phrases, _phrases(name, entry.get("unless", []))))
    return Rules(tuple(rules), _table(data, "status"), _table(data, "reply"))


def _phrases(rule: str, value: object) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list):
        raise ValueError(f"rule {rule}: phrases and unless are arrays of strings")
    phrases: list[tuple[str, ...]] = []
    for phrase in cast(list[object], value):
        if not isinstance(phrase, str) or phrase != phrase.lower() or "  " in phrase:
            raise ValueError(f"rule {rule}: {phrase!r} must be a string in lower case with single spaces")
        pieces = tuple(piece.strip() if "*" in phrase else piece for piece in phrase.split("*"))
        if not all(pieces):
            raise ValueError(f"rule {rule}: {phrase!r} begins or ends with *, or has two in a row")
        phrases.append(pieces)
    return tuple(phrases)


def _verdict(where: str, entry: dict[str, object]) -> tuple[BounceType, int]:
    kind, code = entry.get("type"), entry.get("code")
    if kind not in ("h", "s", "o") or not isinstance(code, int):
        raise ValueError(f'{where}: type must be "h", "s" or "o" and code a number')
    return kind, code


def _table(data: dict[str, object], name: str) -> dict[str, tuple[BounceType, int]]:
    table = cast(dict[str, dict[str, object]], data.get(name, {}))
    return {key: _verdict(f"{name} {key}", entry) for key, entry in table.items()}
