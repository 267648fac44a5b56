"""The reference tables of docs/configuration.md, made from the declared keys and directives.

`python -m mailvane.configuration.reference docs/configuration.md` writes them anew; a test holds the page to them.
"""

from collections.abc import Iterable

from mailvane import pages
from mailvane.configuration.directives import DIRECTIVES
from mailvane.configuration.legacy_keys import DESTINATIONS, FILE, LOGFILE, MATCHES, RULE, TYPE, DestinationType, Key


def filled(page: str) -> str:
    """The page with every section `<!-- made: NAME -->` … `<!-- end -->` as the declarations have it."""
    tables = {"directives": directives(), "keys": keys(), "destinations": destinations()}
    return pages.filled(page, tables)


def directives() -> str:
    rows = [
        (f"`{d.name} {d.usage.replace('|', chr(92) + '|')}`", "not there yet" if d.later else d.default, d.about)
        for d in DIRECTIVES.values()
    ]
    return pages.table(("directive", "default", "meaning"), rows)


def keys() -> str:
    parts = (
        ("At the top", FILE.keys),
        ("An event destination", RULE.keys),
        ("`matches`", MATCHES.keys),
        ("`logfile`", LOGFILE.keys),
    )
    return "\n".join(f"{title}:\n\n{_keys(of)}" for title, of in parts)


def destinations() -> str:
    rows = [
        (
            f"`{d.name}`",
            "" if d.later else _keys_in_a_cell(d),
            f"{d.about}; not there yet" if d.later else d.about,
        )
        for d in DESTINATIONS.values()
    ]
    return f"{_keys((TYPE,))}\n{pages.table(('type', 'keys', 'what it does'), rows)}"


def _keys_in_a_cell(kind: DestinationType) -> str:
    first = next(other for other in DESTINATIONS.values() if other.keys == kind.keys)
    if first is not kind and kind.keys:
        return f"those of `{first.name}`"
    return ", ".join(f"`{k.name}`: {k.about}" for k in kind.keys)


def _keys(of: Iterable[Key]) -> str:
    rows = [(f"`{k.name}`" + (" (must be there)" if k.required else ""), k.wanted, k.about) for k in of]
    return pages.table(("key", "value", "meaning"), rows)


if __name__ == "__main__":
    pages.rewrite(filled)
