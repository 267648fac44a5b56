"""How many attempts a destination gets at a time, found out by how it answers.

Throughput is attempts at a time over the time that each takes. Up to what an endpoint can do, more at a time means more
a second and each takes as long as before: that time, the *best*, is the way there and back and the work itself. Beyond
it, more at a time only wait in line at the customer's, and each takes longer. So the limit grows while the median of a
round of answers stays near the best, and shrinks when it is well above it:

    median, over the best      below 1.25      1.25 to 1.6      above 1.6
    the limit                  grows           stays            shrinks to where 1.25 is expected

Some refinements, each for a reason:

- After each change the answers to what was already under way are not looked at: they tell of the old limit.
- The limit grows only if it was in use; else the latency says nothing about it.
- Our own machine adds some time that has nothing to do with the endpoint: half a millisecond above the best does not
  stop the growth, and four do not shrink it, whatever the ratio. (With two for the growth an endpoint beside us got 170
  at a time, which cost a sixth of what we can deliver by TLS, and brought nothing.)
- If fewer at a time did not make it any quicker, twice in a row, then the time is not spent waiting in line behind our
  own attempts (the way became longer, or others keep the endpoint busy): the median becomes the best. Twice, because
  the round before the first may have seen a line that was still growing.
- The best may have been measured when there was a line already, as the first one is at an endpoint that can do little.
  So after each ten seconds of full use there is one round at half the limit, whose median becomes the best, be it lower
  or higher.
- An endpoint that says it is too much (429, 503), or answers no more (timeouts), gets half, once for all attempts that
  were under way. From the half on the limit grows by a sixteenth a round instead of a quarter.

There is no clock in here: how long a round took follows from Little's law, answers times median over the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailvane.destinations.contract import Failure

START = 16
CEILING = 256
GROW_BELOW = 1.25
SHRINK_ABOVE = 1.6
GROW_GRACE = 0.0005
"""Seconds above the best up to which the limit grows, whatever the ratio."""
SHRINK_GRACE = 0.004
"""Seconds above the best up to which it does not shrink."""
NO_QUICKER = 0.9
"""The share of its former median above which a smaller limit has changed nothing."""
IN_VAIN = 2
"""Times in a row that a smaller limit must have changed nothing before the median counts as the best."""
SMALLEST_ROUND = 16
"""Answers that a round has at least; at a limit above, it has as many as the limit."""
MEASURE_EVERY = 10.0
"""Seconds of full use between rounds at half the limit."""
OVERLOADED = frozenset({Failure.THROTTLED, Failure.TIMEOUT})
"""Failures that halve the limit."""


class Phase(StrEnum):
    STEADY = "steady"
    SHRUNK = "shrunk"
    """The last round made the limit smaller; this one shows whether that helped."""
    MEASURING = "measuring"
    """This round runs at half the limit."""


@dataclass(frozen=True)
class Standing:
    """What the limit goes by. Times are seconds.

    `limit`: attempts at a time; `best`: the best median, 0 for not known yet; `gently`: from here on the limit grows in
    small steps; `before`: the median before it was made smaller; `vain`: how often in a row that was in vain; `used`:
    how long it has been in full use since the best was measured.
    """

    limit: int
    best: float = 0.0
    gently: int = CEILING
    phase: Phase = Phase.STEADY
    before: float = 0.0
    vain: int = 0
    used: float = 0.0


def judge(now: Standing, median: float, answers: int, full: bool, ceiling: int) -> Standing:
    """The standing after a round of so many answers. `full`: the limit was in use for most of it."""
    if now.phase is Phase.MEASURING:
        return Standing(min(now.limit * 2, ceiling), median, now.gently)
    best = min(now.best, median) if now.best else median
    vain = now.vain + 1 if now.phase is Phase.SHRUNK and median > now.before * NO_QUICKER else 0
    if vain == IN_VAIN:
        best = median
    if not full:
        return Standing(now.limit, best, now.gently, used=now.used)
    used = now.used + answers * median / now.limit
    if median > max(best * SHRINK_ABOVE, best + SHRINK_GRACE):
        share = max(0.5, best * GROW_BELOW / median)
        smaller = max(1, int(now.limit * share))
        return Standing(smaller, best, now.gently, Phase.SHRUNK, median, vain, used)
    if used >= MEASURE_EVERY and now.limit > 1:
        return Standing(now.limit // 2, best, now.gently, Phase.MEASURING)
    if median < max(best * GROW_BELOW, best + GROW_GRACE):
        larger = now.limit + max(1, now.limit // (16 if now.limit >= now.gently else 4))
        return Standing(min(larger, ceiling), best, now.gently, used=used)
    return Standing(now.limit, best, now.gently, used=used)


class Limit:
    """The adaptive limit of one destination. `value` is how many attempts may be outstanding now.

    `connections` is how many connections are worth keeping: as `value`, but it does not follow the short rounds at half
    the limit, so that connections are not closed only to be opened again.
    """

    __slots__ = ("_answers", "_full", "_round", "_skip", "ceiling", "connections", "standing", "value")

    def __init__(self, ceiling: int = CEILING, start: int = START) -> None:
        self.ceiling = ceiling
        self._take(Standing(min(start, ceiling), gently=ceiling))
        self._skip = 0

    def answered(self, seconds: Sequence[float], outstanding: int) -> bool:
        """Attempts ended well, each after so many seconds; `outstanding` is how many there were, these included.

        Answers whether `value` has changed.
        """
        changed = False
        while seconds:
            skipped = min(self._skip, len(seconds))
            self._skip -= skipped
            counted = seconds[skipped : skipped + self._round - len(self._answers)]
            seconds = seconds[skipped + len(counted) :]
            self._answers += counted
            if outstanding >= self.value:
                self._full += len(counted)
            if len(self._answers) >= self._round:
                changed |= self._judge()
        return changed

    def failed(self, failure: Failure) -> bool:
        """An attempt failed. Answers whether `value` has changed."""
        if self._skip:
            self._skip -= 1
            return False
        if failure not in OVERLOADED:
            return False
        former = self.value
        half = max(1, former // 2)
        self._take(Standing(half, self.standing.best, gently=half))
        self._skip = former - 1
        return half != former

    def restart(self) -> bool:
        """The destination is back after its circuit was open: it gets the first few again, not the whole flood at once.

        Answers whether `value` has changed.
        """
        former = self.value
        self._take(Standing(min(former, START), self.standing.best, self.standing.gently))
        return self.value != former

    def _judge(self) -> bool:
        answers, former = self._answers, self.value
        answers.sort()
        self._take(
            judge(
                self.standing,
                answers[len(answers) // 2],
                len(answers),
                self._full * 2 >= len(answers),
                self.ceiling,
            )
        )
        changed = self.value != former
        if changed:
            self._skip = former
        return changed

    def _take(self, standing: Standing) -> None:
        self.standing = standing
        self.value = standing.limit
        self.connections = standing.limit * 2 if standing.phase is Phase.MEASURING else standing.limit
        self._round = max(standing.limit, SMALLEST_ROUND)
        self._answers: list[float] = []
        self._full = 0
