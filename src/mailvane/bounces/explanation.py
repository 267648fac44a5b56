"""Which part of a report's explanation speaks of which recipient."""

from mailvane.bounces.addresses import address_in


class Explanation:
    """The words of a report for people, in paragraphs by recipient.

    A paragraph begins with ``<user@example.com>: host … said``, with the address and a colon, or with the address
    alone on its line, and ends where that of another address begins.
    """

    def __init__(self, words: str) -> None:
        self.words = words
        self._paragraphs: dict[str, str] = {}
        lines = words.split("\n")
        current, start = "", 0
        for number, line in enumerate(lines):
            address = _opening_address(line)
            if address is None or address == current:
                continue
            self._keep(current, lines[start:number])
            current, start = address, number
        self._keep(current, lines[start:])

    def _keep(self, address: str, lines: list[str]) -> None:
        if address and address not in self._paragraphs:
            self._paragraphs[address] = "\n".join(lines)

    def about(self, addresses: tuple[str, ...]) -> str:
        """What is said of the first of *addresses* that has a paragraph where others have one too; else everything."""
        if len(self._paragraphs) < 2:
            return self.words
        for address in addresses:
            if address.casefold() in self._paragraphs:
                return self._paragraphs[address.casefold()]
        return self.words


def _opening_address(line: str) -> str | None:
    first, _, rest = line.strip()[:2_000].partition(" ")
    if "@" not in first or (rest and not first.endswith(":") and not first.startswith("<")):
        return None
    address = address_in(first.rstrip(":").strip('"'))
    return address.casefold() if address else None
