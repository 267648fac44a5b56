"""A lane: one destination, what waits for it in memory, and how much may be on its way.

A lane takes rows while it has room, one that is new, one that is old, and sends as many at a time as its limit allows.
Its circuit may stop it: then it *stands*: it holds no rows, and what it gave back is looked for again when a probe may
go. What it cannot take it only remembers as stretches of ids (`backlog`), so that a dead destination costs no memory.
"""

import logging
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Protocol

from mailvane.clock import Chance, Clock
from mailvane.destinations.contract import Destination, Done, Failure, Outcome, Outgoing, Target
from mailvane.processor.batches import BATCHES_AT_ONCE, Batches
from mailvane.processor.circuit import Circuit, Health, State
from mailvane.processor.concurrency import Limit
from mailvane.processor.held import HELD_BYTES, HELD_EVENTS, Held, sizes_of
from mailvane.processor.ranges import Ranges
from mailvane.processor.schedule import next_delay, parse_retry_after
from mailvane.processor.settle import Settler
from mailvane.processor.states import DestinationState, state_of_destination
from mailvane.processor.window import Window
from mailvane.queue.contract import Failed, Row

WINDOW = 512
"""Rows that a lane has waiting in memory at most."""
WINDOW_OF_BATCHES = 3
"""So many batches of rows wait for a destination that takes batches: the next is full when one has ended."""
DEFERRED_LIMIT = 10_000
"""Events of one destination that failed and wait, beyond which it takes nothing new."""
ERROR_LENGTH = 500

_failure_of = attrgetter("failure")

log = logging.getLogger("mailvane.processor")


class Counts(Protocol):
    """What a lane tells of each attempt."""

    def delivered(self, seconds: Sequence[float]) -> None: ...

    def failed(self, failure: Failure) -> None: ...


class Lane:
    """The way to one destination.

    `leads_here` says whether the plan in force leads an event to this lane; `hungry` is called when there is room
    again, `changed` when the reader should look at the lane in any case. `share` and `share_of_bytes` are what it may
    have in hand, so that one that never answers does not take what the others need.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        destination: Destination,
        held: Held,
        settler: Settler,
        clock: Clock,
        chance: Chance,
        counts: Counts,
        leads_here: Callable[["Lane", Row], bool],
        hungry: Callable[["Lane"], None],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.target = target
        self.circuit = Circuit()
        self.limit = Limit()
        self.backlog = Ranges()
        self.dense = True
        """Whether most of the rows looked through lately were for this lane: then they are read with their bodies."""
        self.deferred = 0
        self.last_error = ""
        self.share = HELD_EVENTS
        self.share_of_bytes = HELD_BYTES
        self.window = Window(held, clock)
        self.in_flight: dict[int, Row] = {}
        self._destination = destination
        self._held = held
        self._settler = settler
        self._clock = clock
        self._chance = chance
        self._counts = counts
        self._leads_here: Callable[[Row], bool] = lambda row: leads_here(self, row)
        self._hungry = hungry
        self._changed = changed
        self._stopped = False
        self._allowed = 0
        self._batches: Batches | None = None
        self._most = WINDOW
        if destination.batch_limit > 1:
            self._most = max(WINDOW, WINDOW_OF_BATCHES * destination.batch_limit)
            self.limit = Limit(BATCHES_AT_ONCE, BATCHES_AT_ONCE)
            self._batches = Batches(destination.batch_limit, self.window, self.limit, self._send, self._done)
        self._told: Done = self._done
        """Made once: by it the destination knows what may be told together."""
        self._allow()

    def _allow(self) -> None:
        self._allowed = self.limit.connections
        self._destination.allow(self._allowed)

    # What the reader asks.

    @property
    def waiting(self) -> int:
        """How many rows wait in memory."""
        return self.window.waiting

    @property
    def open(self) -> bool:
        """Whether events flow here: else the lane stands, and takes a probe at most."""
        return self.circuit.closed and not self._stopped and not self._settler.trouble

    @property
    def takes_new(self) -> bool:
        """Whether it takes events that have not failed yet: with too many that did, it works those off first."""
        return self.open and self.deferred < DEFERRED_LIMIT

    @property
    def wants_probe(self) -> bool:
        """Whether one event is wanted to find out if the destination is back."""
        return (
            not (self._stopped or self._settler.trouble or self.in_flight or self.waiting)
            and self.circuit.wait(self._clock.monotonic()) == 0.0
        )

    def probe_in(self) -> float | None:
        """Seconds until a probe may go; None when none is expected."""
        return None if self._stopped or self.in_flight else self.circuit.wait(self._clock.monotonic())

    def room(self) -> int:
        """How many rows the lane would take now. Beside a window that is half full, none: a few at a time are dear."""
        if not self.open:
            return int(self.wants_probe)
        window = min(self._most, max(16, self.share // 4))
        waiting = self.waiting
        if waiting * 2 > window or self.window.size * 2 > self.share_of_bytes:
            return 0
        return min(window, self.share - len(self.in_flight)) - waiting

    # What the reader gives.

    def offer_fresh(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Takes events that were just recorded, as far as there is room; answers those that it has not taken."""
        room = self._most - self.window.fresh
        return [*self._offer(rows[:room], fresh=True), *rows[room:]]

    def offer_old(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Takes events that were read from the queue, as far as there is room; answers those that it has not taken."""
        return self._offer(rows, fresh=False)

    def _offer(self, rows: Sequence[Row], fresh: bool) -> Sequence[Row]:
        sizes = sizes_of(rows)
        size = sum(sizes.values())
        room = min(self.share - self.window.waiting - len(self.in_flight), self._held.room(size))
        if len(rows) <= room and self.window.size + size <= self.share_of_bytes and self.takes_new:
            self.window.take(rows, sizes, fresh)
            return ()
        return [row for row in rows if not self._take(row, fresh)]

    def _take(self, row: Row, fresh: bool) -> bool:
        if not (self.open if row.attempts else self.takes_new) and not self.wants_probe:
            return False
        in_hand = self.window.waiting + len(self.in_flight)
        sizes = sizes_of((row,))
        if self._held.full or (
            in_hand > 0 and (in_hand >= self.share or self.window.size + sizes[row.id] > self.share_of_bytes)
        ):
            return False
        self.window.take((row,), sizes, fresh)
        return True

    def give_back(self) -> None:
        """Gives back what waits in memory: it will be read again."""
        for row in self.window.empty():
            self._keep_place(row)

    def _keep_place(self, row: Row) -> None:
        if not row.attempts:  # else the time at which it is due brings it back
            self.backlog.add(row.id - 1, row.id)

    # Sending.

    def pump(self) -> None:
        """Sends as much as may be on its way."""
        if not self.open:
            self._probe()
            return
        if self._batches is not None:
            self._batches.send()
            if self.window.stale:
                self._changed()
            return
        if (room := self.limit.value - len(self.in_flight)) > 0:
            if rows := self.window.next(room):
                self._send(rows, self._told)
            if self.window.stale:
                self._changed()

    def _probe(self) -> None:
        if self._stopped or self._settler.trouble or self.in_flight or not self.waiting:
            return
        now = self._clock.monotonic()
        if self.circuit.wait(now) != 0.0:
            return
        if rows := self.window.next(1):
            self.circuit.probe(rows[0].id, now)
            self._send(rows, self._told)
        else:
            self._changed()  # it waited for so long that it is looked up again

    def _send(self, rows: Sequence[Row], told: Done) -> None:
        self.in_flight.update({row.id: row for row in rows})
        self._destination.send(
            [Outgoing(row.id, row.attempts + 1, row.body, row.extra, row.valued) for row in rows], told
        )

    def _done(self, sent: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        outstanding = len(self.in_flight)
        if self.circuit.calm and not any(map(_failure_of, outcomes)):
            delivered = self._all_delivered(sent)
            seconds = [outcome.seconds for outcome in outcomes]
        else:
            delivered, seconds = self._judged(sent, outcomes)
        if delivered:
            self.window.ended(delivered)
            self._settler.delivered(delivered)
            self._counts.delivered(seconds)
            # How many batches go at a time is not found out.
            changed = self._batches is None and self.limit.answered(seconds, outstanding)
            if changed and self.limit.connections > self._allowed:
                # Fewer at a time leaves connections idle, and idle ones end by themselves.
                self._allow()
        self.pump()
        if self.window.waiting * 2 <= self._most:
            self._hungry(self)

    def _all_delivered(self, sent: Sequence[Outgoing]) -> list[int]:
        ids = [event.id for event in sent]
        for event_id in ids:
            del self.in_flight[event_id]
        if self.deferred:
            self.deferred = max(0, self.deferred - sum([event.attempt > 1 for event in sent]))
        return ids

    def _judged(self, sent: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> tuple[list[int], list[float]]:
        """What was delivered, and how long it took; of the rest care is taken here."""
        in_flight, circuit = self.in_flight, self.circuit
        calm = circuit.calm
        delivered: list[int] = []
        seconds: list[float] = []
        told: tuple[Failure, str] | None = None
        for event, outcome in zip(sent, outcomes, strict=True):
            row = in_flight.pop(event.id)
            if outcome.failure is not None:
                alike = 1
                if self._batches is not None:  # many that failed alike are told once
                    alike = len(sent) if told != (outcome.failure, outcome.text) else 0
                    told = outcome.failure, outcome.text
                self._failed(row, outcome, outcome.failure, alike)
                calm = circuit.calm
                continue
            delivered.append(row.id)
            seconds.append(outcome.seconds)
            if row.attempts and self.deferred > 0:
                self.deferred -= 1
            if not calm and (health := circuit.succeeded(row.id, 0.0)) is not None:
                self._health(health)
        return delivered, seconds

    def _failed(self, row: Row, outcome: Outcome, failure: Failure, alike: int = 1) -> None:
        """An attempt failed. `alike`: how many in its batch may have failed as this one; 0: told already."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        self.window.ended((row.id,))
        if failure is Failure.CLOSED:  # says nothing: the event is where it was
            self._held.give_back(row.id)
            self._keep_place(row)
            self._health(self.circuit.failed(row.id, failure, now))
            return
        attempt = row.attempts + 1
        told = parse_retry_after(outcome.retry_after, wall) if outcome.retry_after else None
        delay = 0.0
        if self._leads_here(row):
            delay = next_delay(failure, attempt, outcome.retry_after, wall, self._chance)
            self.deferred += attempt == 1
        error = f"{failure}: {outcome.text}"[:ERROR_LENGTH]
        self.last_error = error
        due = int((wall + delay) * 1000)
        self._settler.failed(Failed(row.id, attempt, due, error, outcome.status, outcome.seconds))
        self._counts.failed(failure)
        if alike:
            which = f"event {row.id}" if alike == 1 else f"event {row.id} and up to {alike - 1} more"
            log.warning("%s not delivered, attempt %d, %s: %s; next in %.0f s", which, attempt, self.name, error, delay)
        if self._batches is None and self.limit.failed(failure):
            self._allow()
        self._health(self.circuit.failed(row.id, failure, now, told))

    # Changes of health.

    def _health(self, health: Health | None) -> None:
        if health is None:
            return
        self.give_back()
        match health.state:
            case State.OPEN:
                log.warning("%s: circuit open, next probe in %.0f s", self.name, health.until - self._clock.monotonic())
            case State.GONE:
                log.error(
                    "%s: 410, the endpoint is gone: paused, nothing is dropped (`mailvane events resume`)", self.name
                )
            case State.PAUSED:
                log.warning("%s: paused", self.name)
            case State.CLOSED:
                log.warning("%s: circuit closed, delivery goes on", self.name)
                if self.limit.restart():
                    self._allow()
            case State.PROBING:
                pass
        self._changed()

    def pause(self) -> None:
        """A person stops the destination."""
        self._health(self.circuit.pause(self._clock.monotonic()))

    def resume(self) -> None:
        """A person starts it again, whatever stopped it."""
        self._health(self.circuit.resume(self._clock.monotonic()))

    def retry(self) -> None:
        """A person wants everything tried at once."""
        self._health(self.circuit.retry(self._clock.monotonic()))

    def configured(self) -> None:
        """The configuration changed, and still leads here."""
        self._health(self.circuit.configured(self._clock.monotonic()))

    def stop(self) -> None:
        """Sends nothing more; what is on its way ends as it ends."""
        self.give_back()
        self._stopped = True

    async def close(self) -> None:
        """Ends what is on its way, without an outcome."""
        await self._destination.close()

    @property
    def state(self) -> DestinationState:
        """What people see."""
        return state_of_destination(self.circuit.health.state, self.deferred)
