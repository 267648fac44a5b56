"""The message of ours that came back, and the words that stand around it.

A report returns the message as ``message/rfc822``, its headers as ``text/rfc822-headers``, or, in older forms, as
text below the explanation.
"""

import re
from dataclasses import dataclass

from mailvane.bounces.headers import Headers, header_block, is_field_line, parse_headers
from mailvane.bounces.mime import TEXT_AT_MOST, Mail

_MESSAGES = frozenset({"message/rfc822", "message/global"})
_HEADERS_ONLY = frozenset(
    {"text/rfc822-headers", "text/rfc822-header", "message/global-headers", "message/rfc822-headers"}
)

# A line that begins a message quoted in text, or announces one. The first such line ends the explanation.
_FIRST_FIELD = re.compile(
    r"^(?:>? ?)(?:return-path|received|x-greenarrow-[a-z-]+|message-id|mime-version|x-mailer|dkim-signature)[ \t]*:"
    r"|^ {0,3}[-=_*]{2,60} ?(?:this is a|below this line is a|the header of the|the headers of the|the)? ?"
    r"(?:copy of|original message|returned message|unsent message|message header|header of|body of message)",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTED_BEFORE = re.compile(r"\A>? ?[A-Za-z][A-Za-z0-9-]{0,60}:\s")


@dataclass(frozen=True, slots=True)
class Returned:
    """The returned message's headers (empty if it was not returned) and the report's own words, capped."""

    headers: Headers
    words: str


def read_returned(mail: Mail) -> Returned:
    """Find the returned message and the explanation in *mail*."""
    headers = _attached_headers(mail)
    words = _own_words(mail)
    quoted = _FIRST_FIELD.search(words)
    if quoted:
        start = _first_quoted_line(words, quoted.start())
        if not headers:
            block = _after_announcement(words[start:]).partition("\n\n")[0]
            headers = parse_headers(block.encode("utf-8", "replace"))
        words = words[:start]
    return Returned(headers, words)


def _attached_headers(mail: Mail) -> Headers:
    for part in mail.own_parts()[1:]:
        if part.media_type in _MESSAGES:
            child = mail.child_of(part)
            if child is not None and child.headers:
                return child.headers
        elif part.media_type in _HEADERS_ONLY:
            content = part.content().lstrip(b"\n")
            if is_field_line(content[:512].partition(b"\n")[0]):
                return parse_headers(header_block(content)[0])
    return Headers()


def _own_words(mail: Mail) -> str:
    """The text parts up to the returned message; HTML only where there is no plain text."""
    plain: list[str] = []
    marked_up: list[str] = []
    length = 0
    for part in mail.own_parts():
        if part.container or length > TEXT_AT_MOST:
            if part.media_type in _MESSAGES:
                break
            continue
        if part.media_type in _MESSAGES or part.media_type in _HEADERS_ONLY:
            break
        if part.media_type in ("text/plain", "text/html"):
            text = part.text()
            length += len(text)
            (plain if part.media_type == "text/plain" else marked_up).append(text)
    words = "\n".join(plain)
    return (words if words.strip() else "\n".join(marked_up))[:TEXT_AT_MOST]


def _first_quoted_line(words: str, start: int) -> int:
    """Go up from *start* over lines that look like fields: Date and From may stand above Received."""
    for _ in range(40):
        above = words.rfind("\n", 0, max(start - 1, 0)) + 1
        if start == 0 or not _QUOTED_BEFORE.match(words[above : start - 1][:128]):
            return start
        start = above
    return start


def _after_announcement(text: str) -> str:
    """*text* from its first header field on, without marks of quotation."""
    if text[:1] in "-=_* ":
        text = text.partition("\n")[2].lstrip("\n")
    return text.replace("\n> ", "\n").removeprefix("> ")
