"""Adding events: one group commit after the other on one session, each in one round trip.

A commit carries a token of its own. When the connection breaks while one is under way it is sent again with the same
token: the database takes the ordering lock, which the lost one held, and then knows whether it is in. Should the lost
one be still on its way and come second, it finds the other's token and adds nothing.

What people record inside their own transactions waits in the table `inbox`; whoever commits a group moves it
afterwards, through its own door and switches (`Judge`).
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from mailvane.errors import EventRejected, QueueUnavailable
from mailvane.events.codecs import StoredForm
from mailvane.queue.postgresql.connection import SQL, Connection
from mailvane.queue.postgresql.errors import Disconnected, Unfit
from mailvane.queue.postgresql.line import Line
from mailvane.queue.writer import Answer, Group

Judge = Callable[[bytes], "StoredForm | EventRejected | None"]
"""What becomes of an event that was handed in as JSON: its stored form, None where its type is off, or why it is not
let in (returned or raised). QueueUnavailable leaves it for later."""

PATIENCE = 8.0
"""Seconds for which a group waits for a server that is away: it restarts in less."""
INBOX_EVENTS = 500
END = "\x1f"
"""Ends a value among those of a column: it stands in none of them, see the statement."""

_known = msgspec.json.Decoder(dict[str, tuple[int, int]]).decode

log = logging.getLogger("mailvane.queue")


class Appender:
    """Appends groups, and moves what is in the inbox. Not for two callers at a time."""

    def __init__(self, line: Line, judge: Judge | None = None, moved: Callable[[int, int], None] | None = None) -> None:
        """`moved` is called with the first id that was given to what was moved, and how many there are."""
        self._line = line
        self._judge = judge
        self._moved = moved
        self.inbox_waits = True
        """Whether somebody may have left something in the inbox."""
        self.fresh_from = 0
        """Ids from this one on were given by the last `append`; those below by an earlier one with the same token."""

    async def append(self, groups: Sequence[Group], patience: float = PATIENCE) -> list[Answer]:
        """Adds groups of events, each with its token ("" for none), in one transaction; answers with their ids.

        A token that came with another number of events before is refused, and nothing of that group added. Raises
        QueueUnavailable; whether anything is in is unknown then.
        """
        with_tokens = any(token for _, token in groups)
        if with_tokens:
            events, tokens, places = _laid_out(groups)
        else:
            events, tokens, places = [form for forms, _ in groups for form in forms], [], []
        try:
            first, known = await self._commit(events, tokens, [], patience)
            self.fresh_from = first
        except Unfit as e:
            if len(groups) == 1:
                return [e]
            return [(await self.append([group], patience))[0] for group in groups]
        if with_tokens:
            return list(_answers(groups, places, first, known))
        ids = iter(range(first, first + len(events)))
        return [list(islice(ids, len(forms))) for forms, _ in groups]

    async def _commit(
        self, events: Sequence[StoredForm], tokens: list[str], inboxes: list[int], patience: float
    ) -> tuple[int, dict[str, tuple[int, int]]]:
        if not events:
            return 0, {}
        types = _column([e.event_type for e in events])
        classes = _column([e.mail_class for e in events])
        lengths = _column([str(e.valued) for e in events])
        bodies = _column([e.body for e in events])
        extras = _column([e.extra for e in events])
        commit = secrets.token_hex(12)
        sent = False

        async def work(connection: Connection) -> tuple[int, dict[str, tuple[int, int]]]:
            nonlocal sent
            sent = True
            row = await connection.fetchrow(
                SQL["append"], commit, len(events), types, classes, lengths, bodies, extras, tokens, inboxes
            )
            assert row is not None
            self.inbox_waits |= bool(row[3])
            return row[0] or 0, _known(row[2]) if row[2] else {}

        try:
            return await self._line.run(work, patience)
        except Disconnected as e:
            raise Disconnected(f"{e}; whether it was recorded is unknown") if sent else e from e

    async def move_inbox(self) -> int:
        """Moves what is in the inbox, some of it at a time; how many events were looked at. Raises QueueUnavailable."""
        if self._judge is None or not self.inbox_waits:
            return 0
        found = await self._line.run(lambda connection: connection.fetch(SQL["inbox"], INBOX_EVENTS))
        self.inbox_waits = len(found) == INBOX_EVENTS
        wanted: list[tuple[int, StoredForm]] = []
        unwanted: list[int] = []
        rejected: list[tuple[int, str]] = []
        for row in found:
            inbox_id, event = int(row[0]), str(row[1])
            try:
                verdict = self._judge(event.encode())
            except EventRejected as e:
                verdict = e
            except QueueUnavailable as e:  # whether its type is on is not known now
                log.warning("an event in the inbox waits: %s", e)
                continue
            if isinstance(verdict, StoredForm):
                wanted.append((inbox_id, verdict))
            elif verdict is None:
                unwanted.append(inbox_id)
            else:
                rejected.append((inbox_id, str(verdict)))
        rejected += await self._move(wanted)
        if rejected:
            log.warning("%d events in the inbox were not let in: see its column rejected", len(rejected))
            ids, reasons = [i for i, _ in rejected], [reason for _, reason in rejected]
            await self._line.run(lambda connection: connection.execute(SQL["reject"], ids, reasons))
        if unwanted:
            await self._line.run(lambda connection: connection.execute(SQL["leave_out"], unwanted))
        return len(wanted) + len(unwanted) + len(rejected)

    async def _move(self, wanted: Sequence[tuple[int, StoredForm]]) -> list[tuple[int, str]]:
        """Those that cannot be stored; they hold nobody up."""
        try:
            first, _ = await self._commit([form for _, form in wanted], [], [i for i, _ in wanted], 0.0)
        except Unfit as e:
            if len(wanted) == 1:
                return [(wanted[0][0], str(e))]
            return [refused for one in wanted for refused in await self._move([one])]
        if first and self._moved is not None:
            self._moved(first, len(wanted))
        return []


def _column(values: list[str]) -> str:
    """The values of a column as the statement takes them apart: each ended by U+001F, the empty ones too. Raises Unfit.

    Whatever came past the door is refused here before it could be cut in two.
    """
    if END in "".join(values):
        raise Unfit("the queue cannot store it: it has a U+001F that is not escaped")
    values.append("")
    return END.join(values)


def _laid_out(groups: Sequence[Group]) -> tuple[list[StoredForm], list[str], list[int]]:
    """The events of all groups in a row, the token of each event, and where each group begins."""
    events: list[StoredForm] = []
    tokens: list[str] = []
    places: list[int] = []
    seen: set[str] = set()
    for forms, token in groups:
        places.append(len(events))
        if token and token in seen:
            continue  # asked again before the first time was through: both in this commit
        seen.add(token)
        events += forms
        tokens += [token] * len(forms)
    return events, tokens, places


def _answers(groups: Sequence[Group], places: Sequence[int], first: int, known: dict[str, tuple[int, int]]):
    """Ids by group: of tokens that were in before the ids of then; what came after such a group moves up."""
    passed, seen = 0, set[str]()
    own: dict[str, tuple[int, int]] = {}
    for (events, token), place in zip(groups, places, strict=True):
        if token in known:
            if token not in seen:
                seen.add(token)
                passed += len(events)
            begin, n = known[token]
        elif token and token in own:
            begin, n = own[token]
        else:
            begin, n = first + place - passed, len(events)
            if token:
                own[token] = begin, n
        if n != len(events):
            yield QueueUnavailable(
                f"this token came with {n} events before, now with {len(events)}: nothing was recorded"
            )
        else:
            yield list(range(begin, begin + n))
