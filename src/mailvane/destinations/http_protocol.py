"""An answer's bytes in, a verdict out: HTTP/1.1 as a client needs it (RFC 9112), without a socket or a clock.

What is promised: any bytes in any pieces give a verdict, never an exception; memory is bounded; nothing is decoded; an
answer whose framing is not beyond doubt counts by its status, but its connection is not used again (what one side takes
for the end of a body, the other may take for the middle).
"""

import re

import msgspec

from mailvane.destinations.contract import Failure
from mailvane.destinations.http_chunks import Chunks
from mailvane.destinations.http_head import Broken, Head, Heads
from mailvane.destinations.texts import clean, place, shown

HEAD_LIMIT = 64 * 1024
INFORMATIONAL_LIMIT = 8
BODY_LIMIT = 64 * 1024
_BARE_LF = re.compile(rb"(?<!\r)\n")
# A word: what stands beside it is no letter (of UTF-8 either), digit or underscore.
_OK = re.compile(rb"(?<![\w\x80-\xff])ok(?![\w\x80-\xff])", re.IGNORECASE)
_OK_ENDED = re.compile(rb"(?<![\w\x80-\xff])ok[^\w\x80-\xff]", re.IGNORECASE)

_BY_STATUS = {408: Failure.BUSY, 410: Failure.GONE, 425: Failure.BUSY, 429: Failure.THROTTLED} | {
    502: Failure.BUSY,
    503: Failure.THROTTLED,
    504: Failure.BUSY,
}
_BY_HUNDRED = {2: None, 3: Failure.REDIRECT, 4: Failure.REFUSED, 5: Failure.SERVER}


def failure_of(status: int) -> Failure | None:
    """The class of a final status (200 to 599); None is success."""
    return _BY_STATUS.get(status) or _BY_HUNDRED[status // 100]


class Verdict(msgspec.Struct, frozen=True):
    """What an answer means. `reusable`: the connection may carry another request."""

    failure: Failure | None
    status: int
    text: str
    retry_after: str = ""
    reusable: bool = False


class AnswerReader:
    """Reads one answer, with the informational ones before it. `form`: success needs the word `ok` in the body."""

    def __init__(self, form: bool, heads: Heads) -> None:
        self._form = form
        self._heads = heads
        self._informational = 0
        self._head: Head | None = None
        self._gathered = b""
        self._searched = 0
        self._body = bytearray()
        self._chunks = Chunks(self._body, BODY_LIMIT)

    def feed(self, data: bytes) -> Verdict | None:
        """Takes the next bytes; the verdict as soon as it stands."""
        head = self._head
        while head is None:
            try:
                rest = self._gather(data)
            except Broken as broken:
                return Verdict(Failure.PROTOCOL, 0, clean(f"the answer is not HTTP/1.1: {broken}"))
            if rest is None:
                return None
            data, head = rest, self._head
        return self._read_body(head, data)

    def ended(self) -> Verdict:
        """The verdict when the other side has closed the connection in good order."""
        head = self._head
        if head is not None and head.length is None and not head.chunked:
            return self._verdict(head, whole=True)  # that is where the body ends
        return self.cut(Failure.RESET, "the connection was closed before the answer was whole")

    def cut(self, failure: Failure, why: str) -> Verdict:
        """The verdict when nothing more will come: the connection is lost, or the time is up."""
        if self._head is not None:
            return self._verdict(self._head, whole=False, failure=failure, why=why)
        if self._informational and failure is Failure.RESET:
            failure, why = Failure.PROTOCOL, "nothing but informational answers came"
        return Verdict(failure, 0, clean(why))

    def _gather(self, data: bytes) -> bytes | None:
        """Adds to the head; once it is whole, reads it and returns what follows it. Raises Broken."""
        gathered = self._gathered = self._gathered + data if self._gathered else data
        wrong = next((i for i, byte in enumerate(gathered[:7]) if byte != b"HTTP/1."[i]), None)
        if wrong is not None:
            raise Broken(f"it begins with {shown(gathered[: wrong + 1])}")
        end = gathered.find(b"\r\n\r\n", max(0, self._searched - 3)) + 4
        if _BARE_LF.search(gathered, max(0, self._searched - 1), min(end if end > 3 else len(gathered), HEAD_LIMIT)):
            raise Broken("a line of its head ends without CR")
        if (end if end > 3 else len(gathered)) > HEAD_LIMIT:
            raise Broken(f"its head is longer than {HEAD_LIMIT} bytes")
        if end <= 3:
            self._searched = len(gathered)
            return None
        self._gathered, self._searched = b"", 0
        head = self._heads.parse(gathered[:end])
        if head.status == 101:
            raise Broken("it changes to another protocol, which nobody asked for")
        if head.status >= 200:
            self._head = head
            return gathered[end:]
        self._informational += 1
        if self._informational > INFORMATIONAL_LIMIT:
            raise Broken(f"more than {INFORMATIONAL_LIMIT} informational answers")
        return gathered[end:] or None

    def _read_body(self, head: Head, data: bytes) -> Verdict | None:
        body = self._body
        if head.chunked:
            try:
                whole = self._chunks.feed(data)
            except Broken as broken:
                return self._verdict(head, whole=False, failure=Failure.PROTOCOL, why=str(broken))
            if whole:
                return self._verdict(head, whole=True, reusable=head.keep_alive and not self._chunks.excess)
            return self._verdict(head, whole=True) if self._chunks.full else None
        if head.length is not None:
            missing = head.length - len(body)
            body += data[: min(missing, BODY_LIMIT - len(body))]
            if len(body) == head.length:
                return self._verdict(head, whole=True, reusable=head.keep_alive and len(data) == missing)
        else:
            by_status = not self._form or failure_of(head.status) is not None
            if not head.honest and by_status:
                return self._verdict(head, whole=False)  # where its body ends, nobody can say
            body += data[: BODY_LIMIT - len(body)]
            if not head.honest and _OK_ENDED.search(body):
                return self._verdict(head, whole=False)
        return self._verdict(head, whole=True) if len(body) >= BODY_LIMIT else None

    def _verdict(
        self, head: Head, *, whole: bool, reusable: bool = False, failure: Failure | None = None, why: str = ""
    ) -> Verdict:
        body = bytes(self._body)
        verdict = failure_of(head.status)
        said = f"{head.status} {head.reason}".rstrip()
        if verdict is None and self._form:
            word = None if head.encoded else (_OK if whole else _OK_ENDED).search(body)
            if word is None:
                verdict = failure or Failure.NOT_OK
                said += f", but {why or 'the answer lacks the word ok'}"
        if verdict is None:
            return Verdict(None, head.status, said, reusable=reusable)
        if verdict is Failure.REDIRECT and head.location:
            said += f" to {place(head.location)}"
        if body:
            said += f": {shown(body, encoded=head.encoded)}"
        return Verdict(verdict, head.status, clean(said), head.retry_after, reusable)
