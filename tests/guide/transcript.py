"""The page of a session: what was said, typed and printed. And whether a page tells of the session that was typed."""

from collections.abc import Iterator, Sequence

from guide.shell import Said, Typed

PAGE = "docs/guide-transcript.md"
SHOWN = 300
"""Characters of a page around a difference."""
HEAD = """# The guide, typed

GreenArrow's step by step guide to event notifications, typed word for word on a machine that has mailvane. What stands
behind `#` was typed, `^D` ends what was typed into a program, the rest was printed.
[`tests/guide`](../tests/guide/test_guide.py) types all of it at each `make test`, and fails if this page tells another
story; the page of its own run is then in `build/guide-transcript.md`.
"""


def page(session: Sequence[Typed | Said], of: str) -> str:
    """The page; `of` tells which run it was, and on what."""
    return "".join(text for text, _ in _pieces(session, of))


def other_story(text: str, session: Sequence[Typed | Said]) -> str:
    """Where a page tells of another session, "" if of this one: what is another at each run may be anything."""
    at, anything = 0, False
    for piece, varies in _pieces(session, "any"):
        if varies or not piece:
            anything = anything or varies
            continue
        found = text.find(piece, at) if anything else at
        if found < 0 or not text.startswith(piece, found):
            before, there = text[max(0, at - SHOWN) : at], text[at : at + SHOWN]
            return f"{before}\n--- here the page has\n{there}\n--- this run\n{piece}"
        at, anything = found + len(piece), False
    return "" if at == len(text) or anything else f"--- the page goes on\n{text[at : at + SHOWN]}"


def _pieces(session: Sequence[Typed | Said], of: str) -> Iterator[tuple[str, bool]]:
    """The page's text, and of each piece whether it varies."""
    yield f"{HEAD}\n", False
    yield of, True
    yield "\n", False
    for number, step in enumerate(session):
        if isinstance(step, Said):
            yield f"\n{step.words}\n", False
            continue
        first = number == 0 or isinstance(session[number - 1], Said)
        last = number + 1 == len(session) or isinstance(session[number + 1], Said)
        yield "\n```text\n" if first else "", False
        end = "^D\n" if step.given else ""
        yield f"# {step.line}\n{step.given}{end}", False
        yield _ended(step.printed), step.varies
        yield f"(exit status {step.status})\n" if step.status else "", False
        yield "```\n" if last else "", False


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
