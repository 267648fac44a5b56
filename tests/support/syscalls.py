"""Reads what strace -f -y wrote: which calls came one after the other, over all threads."""

import re
from dataclasses import dataclass
from pathlib import Path

TRACED = "trace=%network,read,readv,write,writev,pwrite64,pwritev,fsync,fdatasync"
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@dataclass(frozen=True)
class Call:
    """A system call: `begun` and `ended` are places in the order of all calls, `told` is how strace shows it."""

    name: str
    told: str
    begun: int
    ended: int

    @property
    def failed(self) -> bool:
        return re.search(r"\) += -1 E", self.told) is not None


def calls(log: Path) -> list[Call]:
    """The calls in the order in which they ended."""
    found: list[Call] = []
    open_calls: dict[str, tuple[str, str, int]] = {}
    for place, line in enumerate(log.read_text(errors="replace").splitlines()):
        if begun := _BEGUN.match(line):
            thread, name, rest = begun.groups()
            if rest.endswith("<unfinished ...>"):
                open_calls[thread] = (name, rest.removesuffix("<unfinished ...>"), place)
            else:
                found.append(Call(name, rest, place, place))
        elif resumed := _RESUMED.match(line):
            thread, name, rest = resumed.groups()
            if thread in open_calls:
                _, told, since = open_calls.pop(thread)
                found.append(Call(name, told + rest, since, place))
    return found


BY_HTTP = ('"POST /v1/events', '"HTTP/1.1 202')
BY_PROGRAM = ('"record', '"recorded')
"""How a request begins where it is read, and an acknowledgement where it is written, as strace shows them."""


def acknowledged_before_on_disk(log: Path, words: tuple[str, str] = BY_HTTP) -> tuple[int, list[Call]]:
    """How many were acknowledged, and those without a sync of the log between its last write before and the answer.

    A write of the queue's write-ahead log is on disk when a sync of it has begun after the write had ended; the answer
    must begin after that sync has ended. Requests are to come one at a time.
    """
    all_calls = calls(log)
    answers = [c for c in all_calls if words[1] in c.told and c.name in {"write", "writev", "sendto", "sendmsg"}]
    requests = [c for c in all_calls if words[0] in c.told and c.name in {"read", "recvfrom", "recvmsg"}]
    writes = [c for c in all_calls if c.name in {"pwrite64", "pwritev", "write"} and "-wal>" in c.told]
    syncs = [c for c in all_calls if c.name in {"fsync", "fdatasync"} and "-wal>" in c.told and not c.failed]
    early: list[Call] = []
    for answer in answers:
        request = max((r.ended for r in requests if r.ended < answer.begun), default=None)
        written = [w.ended for w in writes if request is not None and request < w.begun < answer.begun]
        if not written or not any(s.begun > max(written) and s.ended < answer.begun for s in syncs):
            early.append(answer)
    return len(answers), early
