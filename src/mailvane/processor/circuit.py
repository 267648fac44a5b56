"""The circuit breaker of a destination: when to stop sending, and how to find out that sending makes sense again.

A destination that fails for every event would fail for the next one too: sending on costs both sides, and moves the
whole backlog into `deferred`. So after enough failures the circuit *opens* and the lane stands still. After a second
one event goes out alone, the *probe*; as long as probes fail the wait doubles, up to a minute; the first that succeeds
closes the circuit. Two more states send nothing at all until told so: *gone* (the endpoint answered 410) and *paused*
(a person said so).

What opens it:

- five different events failed with no success between them. Different, because one event that the endpoint cannot
  stomach must not stop the others, however often it is tried;
- more than half of the last hundred attempts failed, for endpoints that fail often but not always. Attempts that were
  not made yet count as good, so that this needs 51 failures;
- 429, 503 and their like with a `Retry-After`: the endpoint asks for a rest, so the whole lane rests until then.

Attempts that were under way when it opened come in late; they neither open nor close it. Only the outcome of the probe
does, and a late `Retry-After`, which lengthens the rest. An attempt that ended because the destination was closed by us
says nothing about the endpoint and never counts; a destination that refuses an event for what is in it works, so that
this counts as a success.

`TABLE` is the whole of it, `step` walks it, purely; `Circuit` adds the counting, and is cheap for a success on a
healthy endpoint. Times are seconds on the monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mailvane.destinations.contract import Failure

IN_A_ROW = 5
"""Different events that must fail in a row."""
WINDOW = 100
"""Attempts that the share of failures is taken of; more than half opens."""
LONGEST_WAIT = 60.0
"""Seconds between probes at most; the first comes after 1."""
RESTS = frozenset({Failure.THROTTLED, Failure.BUSY})
"""Failures whose `Retry-After` is meant for the whole lane."""

_MASK = (1 << WINDOW) - 1


class State(StrEnum):
    CLOSED = "closed"
    """Events flow."""
    OPEN = "open"
    """Nothing is sent until the time of the next probe."""
    PROBING = "probing"
    """One event is on its way, to find out."""
    GONE = "gone"
    """The endpoint said 410."""
    PAUSED = "paused"
    """A person stopped it."""


class Signal(StrEnum):
    FAILED_OFTEN = "failed too often"
    REST = "asked for a rest"
    PROBE_SENT = "probe sent"
    PROBE_SUCCEEDED = "probe succeeded"
    PROBE_FAILED = "probe failed"
    PROBE_LOST = "probe lost"
    """The probe ended without saying anything about the endpoint."""
    GONE = "answered 410"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    CONFIGURED = "configuration changed"


TABLE: Mapping[State, Mapping[Signal, State]] = {
    State.CLOSED: {
        Signal.FAILED_OFTEN: State.OPEN,
        Signal.REST: State.OPEN,
        Signal.GONE: State.GONE,
        Signal.PAUSE: State.PAUSED,
    },
    State.OPEN: {
        Signal.REST: State.OPEN,
        Signal.PROBE_SENT: State.PROBING,
        Signal.GONE: State.GONE,
        Signal.PAUSE: State.PAUSED,
        Signal.RESUME: State.CLOSED,
        Signal.RETRY: State.CLOSED,
    },
    State.PROBING: {
        Signal.PROBE_SUCCEEDED: State.CLOSED,
        Signal.PROBE_FAILED: State.OPEN,
        Signal.PROBE_LOST: State.OPEN,
        Signal.GONE: State.GONE,
        Signal.PAUSE: State.PAUSED,
        Signal.RESUME: State.CLOSED,
        Signal.RETRY: State.CLOSED,
    },
    State.GONE: {
        Signal.PAUSE: State.PAUSED,
        Signal.RESUME: State.CLOSED,
        Signal.RETRY: State.CLOSED,
        Signal.CONFIGURED: State.CLOSED,
    },
    State.PAUSED: {
        Signal.RESUME: State.CLOSED,
    },
}
"""State, signal: the next state. A signal that a state does not name changes nothing."""


@dataclass(frozen=True)
class Health:
    """A circuit as a value. `until`: when the next probe may go, while open; `probes`: how many failed so far."""

    state: State = State.CLOSED
    until: float = 0.0
    probes: int = 0


def wait_before(probes: int) -> float:
    """Seconds before the next probe when `probes` have failed: 1, 2, 4 … 60."""
    return min(LONGEST_WAIT, 2.0 ** min(probes, 10))


def step(health: Health, signal: Signal, now: float, rest: float = 0.0) -> Health:
    """The circuit after a signal. `rest` is how many seconds the endpoint asked for, if it did."""
    state = TABLE[health.state].get(signal)
    if state is None:
        return health
    if state is not State.OPEN:
        return Health(state, health.until, health.probes) if state is State.PROBING else Health(state)
    if signal is Signal.PROBE_LOST:
        return Health(State.OPEN, now, health.probes)
    probes = health.probes + 1 if signal is Signal.PROBE_FAILED else health.probes
    until = now + max(wait_before(probes), rest)
    # A late wish for a rest lengthens the one that holds, and never shortens it.
    return Health(State.OPEN, max(until, health.until) if health.state is State.OPEN else until, probes)


class Circuit:
    """The circuit of one destination. What changes it answers the new `Health`, or None when it stays as it was."""

    __slots__ = ("_in_a_row", "_probe", "_window", "closed", "health")

    def __init__(self) -> None:
        self.health = Health()
        self.closed = True
        """Whether events may flow."""
        self._in_a_row: set[int] = set()
        self._window = 0  # the last attempts, one bit each, 1 for failed, the youngest lowest
        self._probe: int | None = None

    def wait(self, now: float) -> float | None:
        """Seconds until a probe may go, 0.0 for now; None when none may (closed, one is under way, gone, paused)."""
        return max(0.0, self.health.until - now) if self.health.state is State.OPEN else None

    def probe(self, event: int, now: float) -> Health | None:
        """Says that this event goes out as the probe; to be called when `wait` is 0.0."""
        if (changed := self._signal(Signal.PROBE_SENT, now)) is not None:
            self._probe = event
        return changed

    @property
    def calm(self) -> bool:
        """Whether a success changes nothing, and need not be told."""
        return self.closed and not self._window

    def succeeded(self, event: int, now: float) -> Health | None:
        """An attempt ended well."""
        if self.closed:
            self._window = (self._window << 1) & _MASK
            self._in_a_row.clear()
            return None
        return self._signal(Signal.PROBE_SUCCEEDED, now) if event == self._probe else None

    def failed(self, event: int, failure: Failure, now: float, retry_after: float | None = None) -> Health | None:
        """An attempt failed; `retry_after` is what `schedule.parse_retry_after` made of the header."""
        rest = retry_after or 0.0 if failure in RESTS else 0.0
        if failure is Failure.CLOSED:
            return self._signal(Signal.PROBE_LOST, now) if event == self._probe else None
        if failure is Failure.EVENT:  # who refuses one event is there, and judges it
            return self.succeeded(event, now)
        if failure is Failure.GONE:
            return self._signal(Signal.GONE, now)
        if event == self._probe:
            return self._signal(Signal.PROBE_FAILED, now, rest)
        if rest:
            return self._signal(Signal.REST, now, rest)
        if not self.closed:
            return None
        self._in_a_row.add(event)
        self._window = ((self._window << 1) | 1) & _MASK
        if len(self._in_a_row) >= IN_A_ROW or self._window.bit_count() * 2 > WINDOW:
            return self._signal(Signal.FAILED_OFTEN, now)
        return None

    def pause(self, now: float) -> Health | None:
        """A person stops the destination; only `resume` starts it again."""
        return self._signal(Signal.PAUSE, now)

    def resume(self, now: float) -> Health | None:
        """A person starts it again, whatever stopped it."""
        return self._signal(Signal.RESUME, now)

    def retry(self, now: float) -> Health | None:
        """A person wants everything tried at once: closes the circuit, but not a pause that a person asked for."""
        return self._signal(Signal.RETRY, now)

    def configured(self, now: float) -> Health | None:
        """The configuration changed: a destination that was gone may be there again."""
        return self._signal(Signal.CONFIGURED, now)

    def _signal(self, signal: Signal, now: float, rest: float = 0.0) -> Health | None:
        before = self.health
        self.health = after = step(before, signal, now, rest)
        if after == before:
            return None
        self.closed = after.state is State.CLOSED
        if after.state is not State.PROBING:
            self._probe = None
        if self.closed:
            # What was counted belongs to the time before; it starts afresh.
            self._in_a_row.clear()
            self._window = 0
        return after
