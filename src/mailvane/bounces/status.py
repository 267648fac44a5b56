"""Status codes in text: RFC 3463 enhanced codes, and the reply codes of RFC 5321."""

import re

_ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_REPLY = re.compile(r"(?<![\d.])([245])([0-5])(\d)(?=[ \-]|$)(?!-\d\d)")


# Where a letter quotes a server: a failure's reply code, with a mark of the beginning of a word before it.
_QUOTED = re.compile(r"(?:(?<=[\s:\"'(>])|\A)[45][0-5]\d(?:[ \-]|: )(?=[^\d\s]|#?[45]\.\d|\d{3}[ \-])")
_QUOTED_AT_MOST = 600
_BEFORE_AT_MOST = 200


def enhanced_status(text: str) -> str | None:
    """The enhanced status in *text* that says most: the first with a detail other than 0, else the first."""
    first: str | None = None
    for match in _ENHANCED.finditer(text):
        if match[2] != "0" and match[3] != "0":
            return match[0]
        first = first or match[0]
    return first


def reply_code(text: str) -> str | None:
    """The SMTP reply code at the head of *text*, or after a word like ``said:``; None if there is none."""
    match = _REPLY.search(text[:2_000])
    return match[0] if match else None


def quoted_reply(words: str) -> str:
    """What a server said, where the *words* of a letter quote it; an empty string where they do not."""
    match = _QUOTED.search(words)
    if match is None:
        return ""
    # What stands before it tells at which command it was said: "SMTP error … after MAIL FROM:<…>: host …: 550".
    start = max(words.rfind("\n\n", 0, match.start()) + 1, match.start() - _BEFORE_AT_MOST)
    end = words.find("\n\n", match.end())
    return words[start : min(end if end >= 0 else len(words), match.start() + _QUOTED_AT_MOST)]
