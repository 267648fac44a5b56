"""Moving a queue, between the stores in every direction, with a kill at any moment."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw
import psycopg
import pytest

from mailvane.errors import MailvaneError, QueueOwned, QueueUnavailable
from mailvane.events.catalogue import Event
from mailvane.events.clean import parse
from mailvane.events.codecs import StoredForm, stored_form
from mailvane.queue import sqlite_moving
from mailvane.queue.ballast import Ballast
from mailvane.queue.contract import Books, Failed, Filter, Listed, OwnedQueue, Settlement
from mailvane.queue.local import SQLiteQueue
from mailvane.queue.moving import Came, Estate, Going, Moved, Source, Take, Target, move
from mailvane.queue.postgresql import moving as postgresql_moving
from mailvane.queue.postgresql import own_postgresql, store_in_postgresql
from mailvane.queue.postgresql.moving import PostgreSQLEnd, postgresql_end
from mailvane.queue.salvage import salvage
from mailvane.queue.sqlite_moving import SQLiteEnd
from mailvane.queue.studio import states_in

T = TypeVar("T")

SMALL_PAGE = 4
DELIVERED = 5
"""Delivered events that `filled` keeps."""
DIRECTIONS = [
    ("sqlite", "postgresql"), ("postgresql", "sqlite"), ("sqlite", "sqlite"), ("postgresql", "postgresql"),
]  # fmt: skip


def judge(event: bytes) -> StoredForm:
    return stored_form(parse(event))


def event(number: int) -> Event:
    return Event(event_type="bounce_all", event_time=number, email=f"üser{number}@example.com", listid="a1")


@dataclass(frozen=True)
class Place:
    """A queue that may be there: of which kind, and where."""

    kind: str
    where: str

    @contextlib.asynccontextmanager
    async def end(self) -> AsyncIterator[SQLiteEnd | PostgreSQLEnd]:
        if self.kind == "postgresql":
            async with postgresql_end(self.where, "mailvane queue move", judge) as end:
                yield end
            return
        end = SQLiteEnd(self.where, self.where + ".ballast")
        try:
            yield end
        finally:
            await end.close()

    @contextlib.asynccontextmanager
    async def owned(self) -> AsyncIterator[OwnedQueue]:
        if self.kind == "postgresql":
            queue: OwnedQueue = await own_postgresql(self.where, "a test")
        else:
            queue = SQLiteQueue(self.where, Ballast(self.where + ".ballast"), asyncio.get_running_loop())
        try:
            yield queue
        finally:
            await queue.close()


@dataclass(frozen=True)
class Seen:
    """What a queue has, and what an id that it gives next lies above."""

    rows: list[Listed]
    books: Books
    epoch: str
    paused: str | None
    last_id: int
    delivered: list[Listed]
    studio: dict[str, bool]


async def seen(queue: OwnedQueue) -> Seen:
    rows = await queue.select(Filter(), 0, 1_000)
    kept = await queue.select_delivered(Filter(), 0, 1_000)
    studio = states_in(await queue.studio_rows())
    return Seen(rows, await queue.books(), queue.epoch, await queue.kept("paused"), await queue.last_id(), kept, studio)


async def filled(place: Place, count: int = 35) -> Seen:
    """A queue of some age: events delivered, dropped, deleted; some failed, one of them often; the last one is gone.

    DELIVERED of them are kept, one that failed before.
    """
    async with place.owned() as queue:
        ids = await queue.append([stored_form(event(n)) for n in range(count + 8)])
        for attempt in range(1, 13):
            failed = [
                Failed(i, attempt, 2**40 + attempt, f"é {attempt}", 503, 0.25) for i in ids[10 : 10 + 13 - attempt]
            ]
            await queue.settle(Settlement(failed=failed), queue.term)
        queue.keep_delivered = 2**40
        await queue.settle(Settlement(failed=[Failed(ids[2], 1, 2**40, "é", 503, 0.25)]), queue.term)
        await queue.settle(Settlement(ids[:4], ids[4:6]), queue.term)
        await queue.settle(Settlement([ids[-1]]), queue.term)
        await queue.delete(Filter(ids=(ids[6],)))
        await queue.keep("paused", '["__legacy__"]')
        await queue.switch_studio({"scomp": True, "studio_unsub": True})
        found = await seen(queue)
    assert len(found.rows) == count and found.books == Books(count + 8, 5, 2, 1)
    assert len(found.delivered) == DELIVERED and [row.attempts for row in found.delivered] == [0, 0, 1, 0, 0]
    return found


@pytest.fixture
def place(tmp_path: Path, postgresql_url: str) -> Callable[[str, str], Place]:
    """Gives a queue that is not there yet, of a kind and with a name."""

    def make(kind: str, name: str) -> Place:
        if kind == "postgresql":
            return Place(kind, f"{postgresql_url}?schema={name}")
        (tmp_path / name).mkdir()
        return Place(kind, str(tmp_path / name / "queue.db"))

    return make


async def moved(source: Place, target: Place) -> int:
    """How many of those that wait."""
    async with source.end() as one, target.end() as other:
        return (await move(one, other, lambda _: lambda _: None)).waiting


async def recorded_by_a_program(place: Place) -> str:
    """Why it is not."""
    group = [stored_form(event(99))]
    if place.kind == "postgresql":
        store = store_in_postgresql(place.where, "a program")
        try:
            answers = await asyncio.to_thread(store.append, [(group, "")])
        except QueueUnavailable as e:
            return str(e)
        finally:
            await asyncio.to_thread(store.close)
        return str(answers[0])
    writer = sqlite_moving.SQLiteWriter(place.where)
    try:
        return str(writer.append([(group, "")]))
    except QueueUnavailable as e:
        return str(e)
    finally:
        writer.close()


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
def test_everything_arrives_as_it_was_and_ids_go_on(place: Callable[[str, str], Place], here: str, there: str) -> None:
    source, target = place(here, "one"), place(there, "two")

    async def main() -> None:
        before = await filled(source)
        told: list[int] = []
        async with source.end() as one, target.end() as other:
            n = await move(one, other, lambda total: told.append(total) or told.append)
        assert n == Moved(35, DELIVERED) and told == [40, 35, DELIVERED]
        async with target.owned() as queue:
            assert await seen(queue) == before
            (new,) = await queue.append([stored_form(event(0))])
            assert new > before.last_id
            books = await queue.books()
            assert (books.recorded, books.waiting) == (before.books.recorded + 1, 36)
            assert await queue.due((0, 0), 2**50, 100)

    asyncio.run(main())


def test_an_error_that_was_kept_with_what_postgresql_does_not_store_is_moved(
    place: Callable[[str, str], Place],
) -> None:
    """An earlier mailvane wrote it into the file as the endpoint said it."""
    source, target = place("sqlite", "one"), place("postgresql", "two")

    async def main() -> None:
        before = await filled(source)
        failed, delivered = before.rows[10].id, before.delivered[2].id
        db = apsw.Connection(source.where)
        for table in ("deferred", "delivered"):
            db.execute(
                f"UPDATE {table} SET error = 'a' || char(0) || 'b', history = ? WHERE id IN (?, ?)",
                (r'[[1,1,0.5,500,"a\u0000b"]]', failed, delivered),
            )
        db.close()
        await moved(source, target)
        async with target.owned() as queue:
            rows = await queue.select(Filter(ids=(failed,)), 0, 1)
            rows += await queue.select_delivered(Filter(ids=(delivered,)), 0, 1)
            assert [(row.error, row.history[0].error) for row in rows] == [("a\ufffdb", "a\ufffdb")] * 2

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_empty_queue_that_has_given_ids_is_moved_too(place: Callable[[str, str], Place], kind: str) -> None:
    """The receivers have seen its ids; a queue that never gave any has none to go on from."""
    source, target = place(kind, "one"), place("postgresql" if kind == "sqlite" else "sqlite", "two")
    fresh, other = place(kind, "three"), place("postgresql" if kind == "sqlite" else "sqlite", "four")

    async def main() -> None:
        async with source.owned() as queue:
            ids = await queue.append([stored_form(event(n)) for n in range(5)])
            await queue.settle(Settlement(ids), queue.term)
            epoch = queue.epoch
        assert await moved(source, target) == 0
        async with target.owned() as queue:
            assert queue.epoch == epoch
            assert await queue.append([stored_form(event(9))]) > ids[-1:]
        async with fresh.owned() as queue:
            epoch = queue.epoch
        assert await moved(fresh, other) == 0
        async with other.owned() as queue:
            assert queue.epoch == epoch and await queue.append([stored_form(event(9))])

    asyncio.run(main())


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_that_was_moved_is_salvaged_as_what_it_is(
    place: Callable[[str, str], Place], tmp_path: Path, damaged: bool
) -> None:
    source, target = place("sqlite", "one"), place("postgresql", "two")

    async def main() -> None:
        await filled(source)
        await moved(source, target)

    asyncio.run(main())
    if damaged:
        db = apsw.Connection(source.where)
        db.execute("UPDATE kept SET value = 'x' || value WHERE name = 'moved_to'")
        db.close()
    done = salvage(source.where, str(tmp_path / "new.db"))
    assert done.events == 0
    (told,) = done.wrong
    assert f"{source.where} was moved to {'another queue' if damaged else 'postgresql://'}" in told
    assert "password" not in told


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nobody_records_or_delivers_in_a_queue_that_was_moved(place: Callable[[str, str], Place], kind: str) -> None:
    source, target = place(kind, "one"), place("sqlite", "two")

    async def main() -> None:
        await filled(source)
        await moved(source, target)
        why = await recorded_by_a_program(source)
        assert "was moved to sqlite:/" in why and "`queue` in mailvane.conf" in why
        with pytest.raises(QueueUnavailable, match="was moved to sqlite:/"):
            async with source.owned():
                pass
        async with source.end() as end:
            books = (await end.estate()).books
        assert books == Books(8, 5, 2, 1) and books.waiting == 0

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_target_that_has_held_events_is_refused_and_nothing_changed(
    place: Callable[[str, str], Place], kind: str
) -> None:
    source, target, third = place("sqlite", "one"), place(kind, "two"), place(kind, "three")

    async def main() -> None:
        before = await filled(source)
        async with target.owned() as queue:
            ids = await queue.append([stored_form(event(1))])
            await queue.settle(Settlement(ids), queue.term)
        with pytest.raises(QueueUnavailable, match="has held events"):
            await moved(source, target)
        async with source.owned() as queue:
            assert await seen(queue) == before
        await moved(source, third)
        with pytest.raises(QueueUnavailable, match=f"was moved to .*{third.where[-20:].partition('?')[2]}"):
            await moved(source, target)
        assert await moved(source, third) == 0, "the same one again does no harm"

    asyncio.run(main())


def test_a_queue_that_somebody_delivers_from_is_refused(place: Callable[[str, str], Place]) -> None:
    source, target = place("postgresql", "one"), place("sqlite", "two")
    postgresql_moving.OWNER_ENDS, usual = 0.0, postgresql_moving.OWNER_ENDS

    async def main() -> None:
        await filled(source)
        async with source.owned():
            with pytest.raises(QueueOwned, match="belongs to a test on"):
                await moved(source, target)

    try:
        asyncio.run(main())
    finally:
        postgresql_moving.OWNER_ENDS = usual


def test_what_people_recorded_in_transactions_comes_along_and_later_ones_are_told(
    place: Callable[[str, str], Place], postgresql_url: str
) -> None:
    source, target = place("postgresql", "one"), place("sqlite", "two")
    record = """SELECT one.mailvane_record('{"event_type": "scomp", "email": "%s@example.com"}'::jsonb)"""

    async def main() -> None:
        await filled(source)
        async with await psycopg.AsyncConnection.connect(postgresql_url, autocommit=True) as person:
            for name in "abc":
                await person.execute((record % name).encode())
            assert await moved(source, target) == 38
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="was moved to sqlite:"):
                await person.execute((record % "late").encode())
        async with target.owned() as queue:
            assert await queue.count(Filter(event_types=("scomp",))) == 3

    asyncio.run(main())


def test_what_somebody_deletes_between_two_pages_is_waited_for_and_not_moved(
    place: Callable[[str, str], Place], postgresql_url: str
) -> None:
    source, target = place("postgresql", "one"), place("sqlite", "two")

    async def main() -> None:
        before = await filled(source)
        with psycopg.connect(postgresql_url, application_name="psql of mine") as person:

            def begins(total: int) -> Callable[[int], None]:
                person.execute("DELETE FROM one.events WHERE id = %s", [before.rows[20].id])
                return lambda more: None

            with pytest.raises(QueueUnavailable, match=r"psql of mine"):
                async with source.end() as one, target.end() as other:
                    await move(one, other, begins)
            person.commit()
        assert await moved(source, target) == 34
        async with target.owned() as queue:
            assert before.rows[20].id not in [row.id for row in await queue.select(Filter(), 0, 100)]
            assert await queue.books() == Books(42, 5, 2, 1), "it was deleted where it was"
        async with source.end() as one:
            assert (await one.estate()).books == Books(9, 5, 2, 2)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_taken_a_second_time_is_added_once(place: Callable[[str, str], Place], kind: str) -> None:
    source, target = place("sqlite", "one"), place(kind, "two")

    async def main() -> None:
        before = await filled(source)
        async with source.end() as one, target.end() as other:

            async def twice(rows: Sequence[Listed]) -> None:
                await other.take(rows)
                await other.take(rows)

            async def delivered_twice(rows: Sequence[Listed]) -> None:
                await other.take_delivered(rows)
                await other.take_delivered(rows)

            await other.begin(Came("x"), await one.estate())
            assert await one.hand_over(twice) == 35
            assert await one.hand_over_delivered(delivered_twice) == DELIVERED
        async with target.owned() as queue:
            assert await seen(queue) == before

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_delivered_event_that_was_replayed_before_the_move_went_on_is_not_kept_as_well(
    place: Callable[[str, str], Place], kind: str
) -> None:
    """It was cut short where the target has them already, and the source still has."""
    source, target = place("sqlite", "one"), place(kind, "two")

    async def main() -> None:
        before = await filled(source)
        replayed = before.delivered[2].id
        async with source.end() as one, target.end() as other:
            take = other.take_delivered

            async def cut_short(rows: Sequence[Listed]) -> None:
                await take(rows)
                raise QueueUnavailable("cut short")

            other.take_delivered = cut_short
            with pytest.raises(QueueUnavailable, match="cut short"):
                await move(one, other, lambda _: lambda _: None)
        async with target.owned() as queue:
            assert await queue.replay([replayed]) == [replayed]
        assert await moved(source, target) == 0
        async with target.owned() as queue:
            kept = [row.id for row in await queue.select_delivered(Filter(), 0, 100)]
            assert kept == [row.id for row in before.delivered if row.id != replayed]
            assert await queue.count(Filter(ids=(replayed,))) == 1
            assert (await queue.books()).waiting == 36
        assert await left_in_source(source) == (0, 0, 0)

    asyncio.run(main())


def test_a_delete_that_somebody_left_open_is_waited_for_and_named(
    place: Callable[[str, str], Place], postgresql_url: str
) -> None:
    """What they delete must not be moved: nobody could tell any more that it is to go."""
    source, target = place("postgresql", "one"), place("sqlite", "two")

    async def main() -> None:
        before = await filled(source)
        gone = before.rows[0].id
        async with await psycopg.AsyncConnection.connect(postgresql_url, application_name="psql of mine") as person:
            await person.execute("DELETE FROM one.events WHERE id = %s", [gone])
            with pytest.raises(QueueUnavailable, match=r"transactions are open there: psql of mine \(backend \d+\)"):
                await moved(source, target)
            await person.commit()
        assert await moved(source, target) == 34
        async with target.owned() as queue:
            assert [row.id for row in await queue.select(Filter(), 0, 100)] == [row.id for row in before.rows[1:]]
            assert (await queue.books()).deleted == 2

    asyncio.run(main())


# Kills


class Killing:
    """Kills this process at the point of that number. There is one before and one after each thing that is done."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0

    def point(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def around(self, act: Awaitable[T]) -> T:
        self.point()
        done = await act
        self.point()
        return done


@dataclass
class KillingSource:
    of: Source
    kill: Killing
    shown: str

    async def going(self) -> Going | None:
        return await self.of.going()

    async def close_for(self, going: Going) -> None:
        await self.kill.around(self.of.close_for(going))

    async def estate(self) -> Estate:
        return await self.of.estate()

    async def hand_over(self, take: Take) -> int:
        return await self.kill.around(self.of.hand_over(take))

    async def hand_over_delivered(self, take: Take) -> int:
        return await self.kill.around(self.of.hand_over_delivered(take))


@dataclass
class KillingTarget:
    of: Target
    kill: Killing
    shown: str

    async def came(self) -> Came | None:
        return await self.of.came()

    async def unused(self) -> bool:
        return await self.of.unused()

    async def begin(self, came: Came, estate: Estate) -> None:
        await self.kill.around(self.of.begin(came, estate))

    async def take(self, rows: Sequence[Listed]) -> None:
        """The point after it lies before the source removes them."""
        await self.kill.around(self.of.take(rows))

    async def take_delivered(self, rows: Sequence[Listed]) -> None:
        await self.kill.around(self.of.take_delivered(rows))


def killed(source: Place, target: Place, at: int) -> bool:
    """Moves in a process of its own, in small pages; whether it was killed on the way."""
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), "it ended with an error"
        return status != 0

    async def main() -> None:
        kill = Killing(at)
        async with source.end() as one, target.end() as other:
            ends = KillingSource(one, kill, one.shown), KillingTarget(other, kill, other.shown)
            await move(*ends, lambda _: lambda _: None)

    try:
        sqlite_moving.PAGE = postgresql_moving.PAGE = SMALL_PAGE
        asyncio.run(main())
        os._exit(0)
    finally:
        os._exit(1)


async def delivered_by(place: Place) -> list[int]:
    """What a process that delivers would now, all of it; nothing if it is not let in."""
    with contextlib.suppress(MailvaneError):
        async with place.owned() as queue:
            ids = [row.id for row in await queue.select(Filter(), 0, 1_000)]
            await queue.settle(Settlement(ids), queue.term)
            return ids
    return []


@pytest.mark.parametrize("delivering", [False, True], ids=["nothing", "somebody delivers"])
@pytest.mark.parametrize(("here", "there"), DIRECTIONS[:2])
def test_a_move_that_is_killed_goes_on_and_nothing_is_lost_or_doubled(
    place: Callable[[str, str], Place], here: str, there: str, delivering: bool
) -> None:
    """At every point, and in the worst case with somebody who begins to deliver from both before it goes on."""
    at = 0
    while True:
        at += 1
        source, target = place(here, f"from{at}"), place(there, f"to{at}")
        before = asyncio.run(filled(source, 16))
        wanted = [row.id for row in before.rows]
        if not killed(source, target, at):
            break
        delivered: list[int] = []
        if delivering:
            delivered += asyncio.run(delivered_by(source)) + asyncio.run(delivered_by(target))
        if delivered == wanted:  # nothing was begun yet: there is nothing to go on with
            continue
        assert not killed(source, target, 0)
        after = asyncio.run(left_in(target))
        assert sorted(delivered + [row.id for row in after.rows]) == wanted, f"killed at {at}"
        rows = [row for row in before.rows if row.id not in delivered]
        assert after.rows == rows and after.epoch == before.epoch and after.last_id == before.last_id
        assert after.books == Books(24, 5 + len(delivered), 2, 1), f"killed at {at}"
        assert after.delivered == before.delivered, f"killed at {at}"
        assert asyncio.run(left_in_source(source)) == (0, 0, 0)
    assert at > 26, "there are points between the pages"


async def left_in(place: Place) -> Seen:
    async with place.owned() as queue:
        return await seen(queue)


async def left_in_source(place: Place) -> tuple[int, int, int]:
    async with place.end() as end:
        waiting = (await end.estate()).books.waiting
        return waiting, await end.hand_over(_nothing), await end.hand_over_delivered(_nothing)


async def _nothing(rows: Sequence[Listed]) -> None:
    pass
