"""The blocks of code on a page of Markdown, fenced or indented."""

import re
from typing import NamedTuple

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)\s*(\w*)")


class Block(NamedTuple):
    """`line` is that of its first line of text, `language` "" where the page says none."""

    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line: by this tests/docs/pages.py names it."""
        return self.text.lstrip("\n").partition("\n")[0].strip()


def blocks(page: str) -> list[Block]:
    lines = page.splitlines()
    found: list[Block] = []
    number = 0
    while number < len(lines):
        if fence := _FENCE.match(lines[number]):
            end = number + 1
            while end < len(lines) and not lines[end].strip().startswith(fence[1]):
                end += 1
            found.append(Block(number + 2, fence[2], "\n".join(lines[number + 1 : end]) + "\n"))
            number = end + 1
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            text = "\n".join(line[4:] for line in lines[number:end]).rstrip() + "\n"
            found.append(Block(number + 1, "", text))
            number = end
        else:
            number += 1
    return found
