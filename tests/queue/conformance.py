"""What every store must do that stands behind `mailvane.queue.contract`: one suite, run once for each.

A store's own tests inherit `Conformance` and give it `make_store`; nothing here knows what it is made of.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mailvane.errors import OwnershipLost
from mailvane.events.catalogue import Event
from mailvane.events.codecs import StoredForm, legacy_values, stored_form
from mailvane.queue.contract import (
    APPEND_LIMIT,
    ATTEMPT_ERROR,
    Attempt,
    Books,
    Failed,
    Filter,
    Listed,
    OwnedQueue,
    Settlement,
)
from mailvane.queue.studio import COLUMNS, states_in

T = TypeVar("T")
EVERYTHING = Filter()
NOW = 1_790_000_000_000
"""A wall clock, milliseconds."""


class StoreUnderTest(Protocol):
    """A queue of its own for each test, and what happens to it from outside."""

    queue: OwnedQueue

    def run(self, work: Coroutine[Any, Any, T]) -> T: ...

    def reopen(self) -> None:
        """Closes the queue and opens it again, as another owner."""
        ...

    def by_hand(self, sql: str) -> list[tuple[object, ...]]:
        """What a person types, on a connection of their own."""
        ...

    def close(self) -> None: ...


def event(number: int = 1, event_type: str = "bounce_all", **fields: Any) -> StoredForm:
    given = {
        "event_type": event_type,
        "event_time": 1_790_000_000 + number,
        "email": f"user{number}@example.com",
        "listid": "a1",
        **fields,
    }
    return stored_form(Event(**given), "mail1")


def events(count: int, first: int = 1) -> list[StoredForm]:
    return [event(first + n) for n in range(count)]


def failed(event_id: int, attempts: int = 1, due: int = NOW, error: str = "http_5xx: 503") -> Failed:
    return Failed(event_id, attempts, due, error)


class Conformance:
    """Tests by what is asked of a store."""

    examples = 500
    """At most so many runs of the state machine: a store behind a server takes longer for each."""

    @pytest.fixture
    def store(self, make_store: Callable[[], StoreUnderTest]) -> Any:
        store = make_store()
        yield store
        store.close()

    @pytest.fixture
    def queue(self, store: StoreUnderTest) -> OwnedQueue:
        return store.queue

    # Appending

    def test_append_answers_ascending_ids_in_the_order_given(self, store: StoreUnderTest) -> None:
        first = store.run(store.queue.append(events(3)))
        second = store.run(store.queue.append(events(2)))
        assert first + second == sorted(set(first + second))
        rows = store.run(store.queue.read(0, 10))
        assert [row.id for row in rows] == first + second
        assert [legacy_values(r.id, r.body)["email"] for r in rows][:3] == [f"user{n}@example.com" for n in (1, 2, 3)]

    def test_as_many_as_one_append_may_have(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(APPEND_LIMIT)))
        assert len(set(ids)) == APPEND_LIMIT
        assert store.run(store.queue.books()).waiting == APPEND_LIMIT

    def test_nothing_to_append_is_no_error(self, store: StoreUnderTest) -> None:
        assert store.run(store.queue.append([])) == []
        assert store.run(store.queue.books()) == Books(0, 0, 0, 0)

    def test_the_stored_form_comes_back_as_it_went_in(self, store: StoreUnderTest) -> None:
        form = event(1, mail_class="News", email="Ünï@exämple.com", bounce_text="a'b\"c\\ 😀", synchronous=True)
        (event_id,) = store.run(store.queue.append([form]))
        (row,) = store.run(store.queue.fetch([event_id]))
        assert (row.event_type, row.mail_class, row.valued, row.body, row.extra, row.attempts) == (
            form.event_type, "news", form.valued, form.body, form.extra, 0,
        )  # fmt: skip

    def test_an_event_of_the_largest_size_is_kept_whole(self, store: StoreUnderTest) -> None:
        text = "ü" * (64 * 1024)
        form = event(1, "bounce_all", bounce_text=text, list_name=text, user_agent=text)
        (event_id,) = store.run(store.queue.append([form]))
        assert store.run(store.queue.fetch([event_id]))[0].body == form.body

    def test_an_id_is_never_used_twice_also_after_deletes_and_a_reopen(self, store: StoreUnderTest) -> None:
        seen: list[int] = []
        for remove in (True, False):
            ids = store.run(store.queue.append(events(5)))
            assert not seen or min(ids) > max(seen)
            seen += ids
            if remove:
                store.run(store.queue.settle(Settlement(delivered=ids), store.queue.term))
            else:
                store.run(store.queue.delete(Filter()))
            store.reopen()
            assert store.run(store.queue.last_id()) >= max(seen)
        (one,) = store.run(store.queue.append(events(1)))
        assert one > max(seen)

    # Tokens

    def test_the_same_token_adds_nothing_and_answers_the_same_ids(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(3), "t-1"))
        others = store.run(store.queue.append(events(2)))
        assert store.run(store.queue.append(events(3), "t-1")) == ids
        assert store.run(store.queue.append(events(3), "t-2")) != ids
        assert store.run(store.queue.books()).recorded == len(ids) + len(others) + 3

    def test_a_token_holds_over_a_reopen_and_after_its_events_are_gone(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(2), "t-1"))
        store.run(store.queue.settle(Settlement(delivered=ids), store.queue.term))
        store.reopen()
        assert store.run(store.queue.append(events(2), "t-1")) == ids
        assert store.run(store.queue.books()).waiting == 0

    def test_the_same_token_twice_at_the_same_moment(self, store: StoreUnderTest) -> None:
        """A producer that lost its connection asks again while its first request still waits for the disk."""

        async def both() -> list[list[int]]:
            queue = store.queue
            return list(
                await asyncio.gather(
                    queue.append(events(1)), queue.append(events(2), "t-1"), queue.append(events(1)),
                    queue.append(events(2), "t-1"), queue.append(events(1)),
                )
            )  # fmt: skip

        for _ in range(5):
            store.run(store.queue.delete(Filter()))
            alone, first, other, again, last = store.run(both())
            assert first == again
            assert len({*alone, *first, *other, *last}) == 5

    # Settling

    def test_settling_removes_what_was_delivered_or_dropped_and_counts(self, store: StoreUnderTest) -> None:
        a, b, c, d = store.run(store.queue.append(events(4)))
        done = store.run(store.queue.settle(Settlement([a, c], [b]), store.queue.term))
        assert (done.delivered, done.dropped) == (2, 1)
        assert [row.id for row in store.run(store.queue.read(0, 10))] == [d]
        assert store.run(store.queue.books()) == Books(4, 2, 1, 0)

    def test_settling_twice_changes_nothing(self, store: StoreUnderTest) -> None:
        a, b, c = store.run(store.queue.append(events(3)))
        what = Settlement([a], [b], [failed(c)])
        store.run(store.queue.settle(what, store.queue.term))
        again = store.run(store.queue.settle(what, store.queue.term))
        assert (again.delivered, again.dropped) == (0, 0)
        assert store.run(store.queue.books()) == Books(3, 1, 1, 0)
        assert [(p.id, p.attempts) for p in store.run(store.queue.due((0, 0), NOW, 10))] == [(c, 1)]

    def test_a_settled_id_stays_settled_over_a_reopen(self, store: StoreUnderTest) -> None:
        a, b = store.run(store.queue.append(events(2)))
        store.run(store.queue.settle(Settlement([a], [], [failed(b, 3, NOW, "timeout")]), store.queue.term))
        store.reopen()
        assert store.run(store.queue.read(0, 10)) == []
        (row,) = store.run(store.queue.fetch([a, b]))
        assert (row.id, row.attempts) == (b, 3)

    def test_failures_are_remembered_with_their_first_and_last(self, store: StoreUnderTest) -> None:
        (a,) = store.run(store.queue.append(events(1)))
        store.run(store.queue.settle(Settlement(failed=[failed(a, 1, NOW, "timeout")]), store.queue.term))
        (one,) = store.run(store.queue.select(Filter(), 0, 10))
        store.run(store.queue.settle(Settlement(failed=[failed(a, 2, NOW + 5, 'it\'s "odd"\\ ü')]), store.queue.term))
        (two,) = store.run(store.queue.select(Filter(), 0, 10))
        assert (one.attempts, one.due, one.error) == (1, NOW, "timeout")
        assert (two.attempts, two.due, two.error) == (2, NOW + 5, 'it\'s "odd"\\ ü')
        assert two.first_failed == one.first_failed > 0
        assert two.last_failed >= one.last_failed

    def test_what_failed_and_then_arrived_leaves_nothing_behind(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(12)))
        store.run(store.queue.settle(Settlement(failed=[failed(i) for i in ids]), store.queue.term))
        store.run(store.queue.settle(Settlement(delivered=ids), store.queue.term))
        assert store.run(store.queue.next_due()) is None
        assert store.run(store.queue.census()) == []

    def test_an_older_term_is_refused_whole(self, store: StoreUnderTest) -> None:
        a, b, c = store.run(store.queue.append(events(3)))
        old = store.queue.term
        store.reopen()
        assert store.queue.term > old
        with pytest.raises(OwnershipLost):
            store.run(store.queue.settle(Settlement([a], [b], [failed(c)]), old))
        assert [row.id for row in store.run(store.queue.read(0, 10))] == [a, b, c]
        assert store.run(store.queue.books()) == Books(3, 0, 0, 0)

    def test_a_range_removes_only_ids_that_are_named(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(400)))
        spared = {ids[0], ids[57], ids[58], ids[200], ids[399]}
        store.run(store.queue.settle(Settlement(failed=[failed(i) for i in sorted(spared)]), store.queue.term))
        wanted = [i for i in ids if i not in spared]
        done = store.run(store.queue.settle(Settlement(delivered=wanted[::-1]), store.queue.term))
        assert done.delivered == len(wanted)
        assert {row.id for row in store.run(store.queue.fetch(ids))} == spared
        assert {p.id for p in store.run(store.queue.due((0, 0), NOW, 10))} == spared

    def test_a_settlement_of_many_thousand(self, store: StoreUnderTest) -> None:
        ids = [i for n in range(6) for i in store.run(store.queue.append(events(APPEND_LIMIT, n * APPEND_LIMIT)))]
        what = Settlement(ids[:3000], ids[3000:4000], [failed(i) for i in ids[4000:]])
        done = store.run(store.queue.settle(what, store.queue.term))
        assert (done.delivered, done.dropped) == (3000, 1000)
        assert sum(n for _, _, n in store.run(store.queue.census())) == 2000

    # Rows deleted by hand

    def test_a_row_deleted_by_hand_in_flight_settles_as_nothing(self, store: StoreUnderTest) -> None:
        a, b, c = store.run(store.queue.append(events(3)))
        store.by_hand(f"DELETE FROM events WHERE id IN ({a}, {b}, {c})")
        done = store.run(store.queue.settle(Settlement([a], [b], [failed(c)]), store.queue.term))
        assert (done.delivered, done.dropped) == (0, 0)
        assert store.run(store.queue.books()) == Books(3, 0, 0, 3)
        assert store.run(store.queue.next_due()) is None
        assert store.run(store.queue.read(0, 10)) == []

    def test_the_deferred_of_a_row_deleted_by_hand_goes_with_it(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(3)))
        store.run(store.queue.settle(Settlement(failed=[failed(i) for i in ids]), store.queue.term))
        store.by_hand(f"DELETE FROM events WHERE id = {ids[1]}")
        assert [p.id for p in store.run(store.queue.due((0, 0), NOW, 10))] == [ids[0], ids[2]]
        assert store.by_hand("SELECT id FROM deferred ORDER BY id") == [(ids[0],), (ids[2],)]

    def test_a_deferred_without_its_event_is_no_hindrance(self, store: StoreUnderTest) -> None:
        """Somebody deletes from the table itself."""
        a, b = store.run(store.queue.append(events(2)))
        store.run(store.queue.settle(Settlement(failed=[failed(a), failed(b)]), store.queue.term))
        store.by_hand(f"DELETE FROM queue WHERE id = {a}")
        assert [p.id for p in store.run(store.queue.due((0, 0), NOW, 10))] == [b]
        assert store.run(store.queue.census()) == [("bounce_all", "a1", 1)]
        store.run(store.queue.settle(Settlement(delivered=[a, b]), store.queue.term))
        store.run(store.queue.upkeep())
        assert store.run(store.queue.next_due()) is None

    def test_still_there_and_fetch_leave_out_what_was_deleted(self, store: StoreUnderTest) -> None:
        a, b, c = store.run(store.queue.append(events(3)))
        store.by_hand(f"DELETE FROM events WHERE id = {b}")
        assert set(store.run(store.queue.still_there([a, b, c, c + 1000]))) == {a, c}
        assert [row.id for row in store.run(store.queue.fetch([c, b, a]))] == [c, a]

    # Reading

    def test_a_page_begins_above_its_place_and_has_its_bound(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(10)))
        assert [r.id for r in store.run(store.queue.read(ids[3], 4))] == ids[4:8]
        assert [p.id for p in store.run(store.queue.scan(ids[3], 4))] == ids[4:8]
        assert store.run(store.queue.read(ids[-1], 4)) == []

    def test_reading_leaves_out_what_is_deferred_and_due_has_it(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(6)))
        late = [ids[1], ids[4]]
        store.run(store.queue.settle(Settlement(failed=[failed(i) for i in late]), store.queue.term))
        rest = [i for i in ids if i not in late]
        assert [r.id for r in store.run(store.queue.read(0, 10))] == rest
        assert [p.id for p in store.run(store.queue.scan(0, 10))] == rest
        assert [p.id for p in store.run(store.queue.due((0, 0), NOW, 10))] == late

    def test_a_scan_knows_what_routing_needs(self, store: StoreUnderTest) -> None:
        (a,) = store.run(store.queue.append([event(1, "scomp", mail_class="NEWS")]))
        (place,) = store.run(store.queue.scan(0, 10))
        assert (place.id, place.event_type, place.mail_class) == (a, "scomp", "news")

    def test_due_comes_in_the_order_of_time_and_goes_on_from_a_place(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(6)))
        dues = [NOW + 3, NOW + 1, NOW + 1, NOW + 2, NOW + 9, NOW + 1]
        what = [failed(i, 1, due) for i, due in zip(ids, dues, strict=True)]
        store.run(store.queue.settle(Settlement(failed=what), store.queue.term))
        assert store.run(store.queue.next_due()) == NOW + 1
        order = [ids[1], ids[2], ids[5], ids[3], ids[0]]
        seen: list[int] = []
        after = (0, 0)
        while page := store.run(store.queue.due(after, NOW + 5, 2)):
            seen += [p.id for p in page]
            after = (page[-1].due, page[-1].id)
        assert seen == order

    def test_the_census_tells_kinds_apart(self, store: StoreUnderTest) -> None:
        forms = [event(1), event(2, "scomp"), event(3, mail_class="b2"), event(4)]
        ids = store.run(store.queue.append(forms))
        store.run(store.queue.settle(Settlement(failed=[failed(i) for i in ids]), store.queue.term))
        assert sorted(store.run(store.queue.census())) == [
            ("bounce_all", "a1", 2), ("bounce_all", "b2", 1), ("scomp", "a1", 1),
        ]  # fmt: skip

    def test_the_oldest_is_known_without_looking_at_all(self, store: StoreUnderTest) -> None:
        assert store.run(store.queue.oldest()) is None
        ids = store.run(store.queue.append(events(2)))
        oldest = store.run(store.queue.oldest())
        assert oldest is not None and oldest > 1_600_000_000_000
        store.run(store.queue.settle(Settlement(delivered=ids), store.queue.term))
        assert store.run(store.queue.oldest()) is None

    # What people ask

    def test_select_matches_every_condition_and_goes_on_by_id(self, store: StoreUnderTest) -> None:
        forms = [
            event(1), event(2, "scomp"), event(3, listid="B2"), event(4, email="Other@Example.org"), event(5, "scomp"),
        ]  # fmt: skip
        ids = store.run(store.queue.append(forms))
        store.run(store.queue.settle(Settlement(failed=[failed(ids[4])]), store.queue.term))
        table: list[tuple[Filter, list[int]]] = [
            (Filter(), ids),
            (Filter(ids=(ids[1], ids[3])), [ids[1], ids[3]]),
            (Filter(event_types=("scomp", "engine_open")), [ids[1], ids[4]]),
            (Filter(event_types=("scomp",), deferred=False), [ids[1]]),
            (Filter(deferred=True), [ids[4]]),
            (Filter(listid="b2"), []),  # listids are lowercased at the door; these forms did not come through it
            (Filter(email="other@example.org"), [ids[3]]),
            (Filter(email="*@example.org"), [ids[3]]),
            (Filter(email="user*"), [ids[0], ids[1], ids[2], ids[4]]),
            (Filter(since=1_790_000_002, until=1_790_000_004), [ids[1], ids[2]]),
            (Filter(email="nobody@example.com"), []),
        ]
        for which, wanted in table:
            assert [row.id for row in store.run(store.queue.select(which, 0, 100))] == wanted, which
            assert store.run(store.queue.count(which)) == len(wanted), which
        assert [row.id for row in store.run(store.queue.select(Filter(), ids[1], 2))] == ids[2:4]

    @pytest.mark.parametrize(
        "email",
        ["a_b@example.com", "100%@example.com", "back\\slash@example.com", "o'brien@example.com", 'a"b@example.com',
         "'); DROP TABLE queue; --", "*", "[a-c]@example.com", "ümläut@example.com"],
    )  # fmt: skip
    def test_an_address_is_taken_literally(self, store: StoreUnderTest, email: str) -> None:
        twins = ["aXb@example.com", "100x@example.com", "backslash@example.com", "obrien@example.com", "ab@example.com"]
        ids = store.run(store.queue.append([event(1, email=e) for e in [email, *twins]]))
        wanted = ids if email == "*" else ids[:1]
        assert [r.id for r in store.run(store.queue.select(Filter(email=email), 0, 100))] == wanted
        assert store.run(store.queue.count(Filter(email=email))) == len(wanted)
        assert store.run(store.queue.delete(Filter(email=email))) == len(wanted)
        assert store.run(store.queue.count(Filter())) == len(ids) - len(wanted)

    def test_delete_takes_what_matches_and_is_counted_as_deleted(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append([event(n, "scomp" if n % 2 else "bounce_all") for n in range(2500 // 3)]))
        some = store.run(store.queue.append(events(APPEND_LIMIT)))
        store.run(store.queue.settle(Settlement(failed=[failed(i) for i in ids[:4]]), store.queue.term))
        deleted = store.run(store.queue.delete(Filter(event_types=("bounce_all",))))
        assert deleted == len(some) + (len(ids) + 1) // 2
        assert store.run(store.queue.books()) == Books(len(ids) + len(some), 0, 0, deleted)
        assert store.run(store.queue.census()) == [("scomp", "a1", 2)]

    def test_retry_makes_due_what_matches_and_says_how_many(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append([event(1), event(2, "scomp"), event(3), event(4)]))
        later = [failed(i, 1, NOW + 3_600_000) for i in ids[:3]]
        store.run(store.queue.settle(Settlement(failed=later), store.queue.term))
        assert store.run(store.queue.retry(Filter(event_types=("scomp",)), NOW)) == 1
        assert [p.id for p in store.run(store.queue.due((0, 0), NOW, 10))] == [ids[1]]
        assert store.run(store.queue.retry(Filter(), NOW)) == 2
        assert store.run(store.queue.retry(Filter(), NOW)) == 0
        assert {p.id for p in store.run(store.queue.due((0, 0), NOW, 10))} == set(ids[:3])

    # Failed attempts

    def test_the_first_and_the_last_nine_attempts_are_remembered(self, store: StoreUnderTest) -> None:
        (a,) = store.run(store.queue.append(events(1)))
        for n in range(1, 26):
            attempt = Failed(a, n, NOW + n, f"http_5xx: {n}", 500 + n, n / 4)
            store.run(store.queue.settle(Settlement(failed=[attempt]), store.queue.term))
        (row,) = store.run(store.queue.select(Filter(), 0, 10))
        assert [attempt.number for attempt in row.history] == [1, *range(17, 26)]
        first, last = row.history[0], row.history[-1]
        assert (first.status, first.seconds, first.error) == (501, 0.25, "http_5xx: 1")
        assert (last.status, last.seconds, last.error) == (525, 6.25, "http_5xx: 25")
        assert row.first_failed == first.at <= last.at == row.last_failed

    def test_an_attempt_that_is_settled_again_is_remembered_once(self, store: StoreUnderTest) -> None:
        """After a crash numbers may come again, too: what was remembered first stays."""
        (a,) = store.run(store.queue.append(events(1)))
        for n, error in ((1, "one"), (1, "one"), (2, "two"), (2, "two again"), (3, "three")):
            store.run(store.queue.settle(Settlement(failed=[failed(a, n, error=error)]), store.queue.term))
        (row,) = store.run(store.queue.select(Filter(), 0, 10))
        assert [(attempt.number, attempt.error) for attempt in row.history] == [(1, "one"), (2, "two"), (3, "three")]

    def test_a_long_error_is_whole_where_it_is_the_last_and_cut_in_the_history(self, store: StoreUnderTest) -> None:
        (a,) = store.run(store.queue.append(events(1)))
        error = "ü" * (ATTEMPT_ERROR * 3)
        store.run(store.queue.settle(Settlement(failed=[failed(a, error=error)]), store.queue.term))
        (row,) = store.run(store.queue.select(Filter(), 0, 10))
        assert (row.error, row.history[0].error) == (error, "ü" * ATTEMPT_ERROR)

    def test_an_error_may_have_any_bytes(self, store: StoreUnderTest) -> None:
        """An endpoint says what it likes, and a path's name may be no UTF-8: no batch is kept from being settled."""
        a, b = store.run(store.queue.append(events(2)))
        what = Settlement([b], failed=[failed(a, error="NUL \x00, ESC \x1b, \x7f, \ufffd, \ud800, /tmp/\udcff.log")])
        assert store.run(store.queue.settle(what, store.queue.term)).delivered == 1
        (row,) = store.run(store.queue.select(Filter(), 0, 10))
        assert row.attempts == 1
        assert row.error == row.history[0].error == "NUL \ufffd, ESC \x1b, \x7f, \ufffd, \ufffd, /tmp/\ufffd.log"

    # Studio's switches

    def test_studios_switches_are_a_row_that_is_there_from_the_beginning(self, store: StoreUnderTest) -> None:
        off = dict.fromkeys(COLUMNS, False)
        assert states_in(store.run(store.queue.studio_rows())) == off
        store.run(store.queue.switch_studio({"scomp": True, "studio_open": True}))
        store.run(store.queue.switch_studio({"studio_open": False, "studio_unsub": True}))
        assert states_in(store.run(store.queue.studio_rows())) == {**off, "scomp": True, "studio_unsub": True}
        store.reopen()
        assert states_in(store.run(store.queue.studio_rows())) == {**off, "scomp": True, "studio_unsub": True}

    def test_the_row_is_made_again_where_somebody_took_it_away(self, store: StoreUnderTest) -> None:
        store.by_hand("DELETE FROM s_system_configs")
        assert store.run(store.queue.studio_rows()) == "[]"
        store.run(store.queue.switch_studio({"scomp": True}))
        assert states_in(store.run(store.queue.studio_rows())) == {**dict.fromkeys(COLUMNS, False), "scomp": True}

    # Delivered events that are kept

    def delivered_and_kept(self, store: StoreUnderTest, count: int) -> list[int]:
        store.queue.keep_delivered = 3_600_000
        ids = store.run(store.queue.append(events(count)))
        late = Failed(ids[0], 1, NOW, "timeout", 0, 30.0)
        store.run(store.queue.settle(Settlement(failed=[late]), store.queue.term))
        assert store.run(store.queue.settle(Settlement(ids), store.queue.term)).delivered == count
        return ids

    def kept_by(self, store: StoreUnderTest, which: Filter = EVERYTHING) -> list[Listed]:
        rows = store.run(store.queue.select_delivered(which, 0, 100))
        assert store.run(store.queue.count_delivered(which)) == len(rows)
        return rows

    def test_delivered_events_are_kept_with_their_attempts(self, store: StoreUnderTest) -> None:
        ids = self.delivered_and_kept(store, 3)
        assert store.run(store.queue.count(Filter())) == 0
        assert store.run(store.queue.books()) == Books(3, 3, 0, 0)
        rows = self.kept_by(store)
        assert [row.id for row in rows] == ids
        assert rows[0].history == (Attempt(1, rows[0].last_failed, 30.0, 0, "timeout"),)
        assert (rows[0].attempts, rows[0].due, rows[0].error) == (1, 0, "timeout")
        assert (rows[1].attempts, rows[1].history) == (0, ())
        assert all(row.delivered >= row.recorded > 0 for row in rows)
        assert legacy_values(ids[1], rows[1].body)["email"] == "user2@example.com"

    def test_nothing_is_kept_that_was_dropped_or_deleted_or_not_asked_for(self, store: StoreUnderTest) -> None:
        a, b, c, d = store.run(store.queue.append(events(4)))
        store.run(store.queue.settle(Settlement([a]), store.queue.term))
        store.queue.keep_delivered = 3_600_000
        store.run(store.queue.settle(Settlement(dropped=[b]), store.queue.term))
        store.by_hand(f"DELETE FROM events WHERE id = {c}")
        store.run(store.queue.settle(Settlement([c]), store.queue.term))
        assert self.kept_by(store) == []
        store.run(store.queue.settle(Settlement([d]), store.queue.term))
        assert [row.id for row in self.kept_by(store)] == [d]

    def test_kept_events_are_found_by_filter(self, store: StoreUnderTest) -> None:
        ids = self.delivered_and_kept(store, 4)
        now = self.kept_by(store)[0].delivered // 1000
        table: list[tuple[Filter, list[int]]] = [
            (Filter(ids=(ids[2],)), [ids[2]]),
            (Filter(email="user4@*"), [ids[3]]),
            (Filter(event_types=("scomp",)), []),
            (Filter(since=1_790_000_002, until=1_790_000_004), [ids[1], ids[2]]),
            (Filter(deferred=True), []),
            (Filter(deferred=False), []),
            (Filter(delivered_since=now - 60, delivered_until=now + 60), ids),
            (Filter(delivered_since=now + 60), []),
            (Filter(delivered_until=now - 60), []),
        ]
        for which, wanted in table:
            assert [row.id for row in self.kept_by(store, which)] == wanted, which
        assert [row.id for row in store.run(store.queue.select_delivered(Filter(), ids[0], 2))] == ids[1:3]
        store.run(store.queue.append(events(1)))
        assert store.run(store.queue.count(Filter(delivered_since=0))) == 0

    def test_kept_events_survive_a_reopen_and_are_forgotten_in_time(self, store: StoreUnderTest) -> None:
        ids = self.delivered_and_kept(store, 3)
        store.reopen()
        store.queue.keep_delivered = 3_600_000
        store.run(store.queue.upkeep())
        assert [row.id for row in self.kept_by(store)] == ids
        store.queue.keep_delivered = 0

        async def forgotten() -> None:
            await store.queue.upkeep()
            while await store.queue.count_delivered(Filter()):
                await asyncio.sleep(0.01)
                await store.queue.upkeep()  # one that comes while the one before still forgets leaves it to the next

        store.run(asyncio.wait_for(forgotten(), 60))

    def test_deleting_means_no_kept_events(self, store: StoreUnderTest) -> None:
        ids = self.delivered_and_kept(store, 2)
        assert store.run(store.queue.delete(Filter())) == 0
        assert [row.id for row in self.kept_by(store)] == ids

    def test_a_replayed_event_waits_again_with_its_id_and_body(self, store: StoreUnderTest) -> None:
        ids = self.delivered_and_kept(store, 3)
        (later,) = store.run(store.queue.append(events(1)))
        before = self.kept_by(store)[0]
        assert (
            store.run(store.queue.oldest()) is not None
        )  # of the later one: what a store remembers of it is void then
        assert store.run(store.queue.replay([ids[0], ids[2]])) == [ids[0], ids[2]]
        rows = store.run(store.queue.read(0, 10))
        assert [row.id for row in rows] == [ids[0], ids[2], later]
        assert (rows[0].body, rows[0].extra, rows[0].attempts) == (before.body, before.extra, 0)
        assert [row.id for row in self.kept_by(store)] == [ids[1]]
        assert store.run(store.queue.books()) == Books(6, 3, 0, 0, 2)
        assert store.run(store.queue.oldest()) == before.recorded
        assert store.run(store.queue.last_id()) >= later
        store.run(store.queue.settle(Settlement([ids[0]]), store.queue.term))
        assert [row.id for row in self.kept_by(store)] == ids[:2]

    def test_replaying_twice_changes_nothing(self, store: StoreUnderTest) -> None:
        ids = self.delivered_and_kept(store, 2)
        (waits,) = store.run(store.queue.append(events(1)))
        assert store.run(store.queue.replay([*ids, waits, 10**9])) == ids
        assert store.run(store.queue.replay([*ids, waits, 10**9])) == []
        assert store.run(store.queue.books()) == Books(5, 2, 0, 0, 2)
        assert store.run(store.queue.count(Filter())) == 3

    # What must survive

    def test_kept_values_survive_and_are_replaced(self, store: StoreUnderTest) -> None:
        assert store.run(store.queue.kept("switches")) is None
        store.run(store.queue.keep("switches", "{}"))
        store.run(store.queue.keep("switches", '{"ü": "\'"}'))
        store.reopen()
        assert store.run(store.queue.kept("switches")) == '{"ü": "\'"}'

    def test_the_epoch_is_stable_and_each_queue_has_its_own(
        self, store: StoreUnderTest, make_store: Callable[[], StoreUnderTest]
    ) -> None:
        epoch = store.queue.epoch
        assert epoch.isalnum() and len(epoch) <= 16
        store.reopen()
        assert store.queue.epoch == epoch
        other = make_store()
        assert other.queue.epoch != epoch
        other.close()

    def test_books_and_deferred_survive_a_reopen(self, store: StoreUnderTest) -> None:
        ids = store.run(store.queue.append(events(5)))
        store.run(store.queue.settle(Settlement(ids[:1], ids[1:2], [failed(ids[2])]), store.queue.term))
        store.by_hand(f"DELETE FROM events WHERE id = {ids[3]}")
        store.reopen()
        assert store.run(store.queue.books()) == Books(5, 1, 1, 1)
        assert [p.id for p in store.run(store.queue.due((0, 0), NOW, 10))] == [ids[2]]

    # The books

    def test_the_books_balance_whatever_happens(self, make_store: Callable[[], StoreUnderTest]) -> None:
        class Machine(RuleBasedStateMachine):
            """Recorded = delivered + dropped + deleted + waiting, and waiting is what a count finds."""

            def __init__(self) -> None:
                super().__init__()
                self.store = make_store()
                self.there: set[int] = set()
                self.deferred: set[int] = set()
                self.tokens: dict[str, list[int]] = {}
                self.ever: list[int] = []

            def some(self, data: st.DataObject, of: Sequence[int]) -> list[int]:
                """Ids that are there, were once, or never."""
                return data.draw(st.lists(st.sampled_from([*of, 10**9]), max_size=12, unique=True))

            @initialize()
            def begin(self) -> None:
                self.record(3)

            @rule(count=st.integers(0, 12))
            def record(self, count: int) -> None:
                ids = self.store.run(self.store.queue.append(events(count)))
                assert not self.ever or not ids or ids[0] > self.ever[-1]
                self.ever += ids
                self.there |= set(ids)

            @rule(token=st.sampled_from(["a", "b"]))
            def record_with_a_token(self, token: str) -> None:
                ids = self.store.run(self.store.queue.append(events(2), token))
                if token in self.tokens:
                    assert ids == self.tokens[token]
                    return
                self.tokens[token] = ids
                self.ever += ids
                self.there |= set(ids)

            @rule(data=st.data())
            def settle(self, data: st.DataObject) -> None:
                ids = self.some(data, self.ever)
                a, b = sorted(data.draw(st.tuples(st.integers(0, len(ids)), st.integers(0, len(ids)))))
                delivered, dropped, late = ids[:a], ids[a:b], ids[b:]
                what = Settlement(delivered, dropped, [failed(i) for i in late])
                done = self.store.run(self.store.queue.settle(what, self.store.queue.term))
                assert done.delivered == len(self.there & set(delivered))
                assert done.dropped == len(self.there & set(dropped))
                self.there -= {*delivered, *dropped}
                self.deferred = (self.deferred | set(late)) & self.there

            @rule(data=st.data(), directly=st.booleans())
            def delete(self, data: st.DataObject, directly: bool) -> None:
                ids = self.some(data, self.ever)
                if directly and ids:
                    self.store.by_hand(f"DELETE FROM events WHERE id IN ({','.join(map(str, ids))})")
                elif ids:
                    deleted = self.store.run(self.store.queue.delete(Filter(ids=tuple(ids))))
                    assert deleted == len(self.there & set(ids))
                self.there -= set(ids)
                self.deferred &= self.there

            @rule()
            def retry(self) -> None:
                self.store.run(self.store.queue.retry(Filter(), NOW - 1))
                assert {p.id for p in self.store.run(self.store.queue.due((0, 0), NOW, 1000))} == self.deferred

            @precondition(lambda self: self.ever)
            @rule()
            def reopen(self) -> None:
                self.store.reopen()

            @rule()
            def upkeep(self) -> None:
                self.store.run(self.store.queue.upkeep())

            @invariant()
            def balances(self) -> None:
                queue = self.store.queue
                books = self.store.run(queue.books())
                assert books.recorded == len(self.ever)
                assert books.waiting == len(self.there) == self.store.run(queue.count(Filter()))
                read = {row.id for row in self.store.run(queue.read(0, 10_000))}
                assert read == self.there - self.deferred

            def teardown(self) -> None:
                self.store.close()

        run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType]
            Machine,
            settings=settings(
                max_examples=min(self.examples, settings().max_examples), stateful_step_count=25, deadline=None
            ),
        )
