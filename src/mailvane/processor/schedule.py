"""When an event that failed is tried again.

Each class of failure has a floor: the shortest time after which trying again makes sense. The wait is the floor after
the first failure and doubles with each further one, up to an hour. Where the endpoint names a time itself
(`Retry-After`, RFC 9110 section 10.2.3), its word replaces the doubling: the wait is what it names, but not below the
floor and not above a day. On top comes chance, up to half the wait, so that what failed together does not come back
together.

`FLOORS` is the table; docs/retries.md shows it. All times here are seconds; `now` and due times are wall clock.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from mailvane.clock import Chance
from mailvane.destinations.contract import Failure

FLOORS: Mapping[Failure, float] = {
    Failure.TIMEOUT: 5,
    Failure.CONNECT: 5,
    Failure.DNS: 5,
    Failure.TLS: 5,
    Failure.PROTOCOL: 5,
    Failure.RESET: 5,
    Failure.SERVER: 5,
    Failure.BUSY: 5,
    Failure.NOT_OK: 5,
    Failure.UNWRITABLE: 5,
    Failure.THROTTLED: 30,
    Failure.REDIRECT: 60,
    Failure.REFUSED: 60,
    Failure.EVENT: 60,
    Failure.ADDRESS: 60,
    Failure.GONE: 60,
    Failure.CLOSED: 0,
}
"""Class of failure: seconds that an event waits at least."""
TOLD_FLOOR = 5.0
"""What stands for the floor of `throttled` when the endpoint named a time: its 30 s are for those that name none."""
CAP = 3_600.0
"""Where doubling ends."""
RETRY_AFTER_CAP = 86_400.0
"""The longest `Retry-After` that is obeyed."""
JITTER = 0.5
"""The share of the wait that chance may add."""
FARTHEST = RETRY_AFTER_CAP * (1 + JITTER)
"""No event is ever told to wait longer than this."""


def next_delay(failure: Failure, attempts: int, retry_after: str, now: float, chance: Chance) -> float:
    """How long an event waits that has failed `attempts` times by now (this one counted, so from 1).

    `retry_after` is the raw header, "" if there was none; a value that means nothing counts as none.
    """
    floor = FLOORS[failure]
    told = parse_retry_after(retry_after, now) if retry_after else None
    if told is not None:
        wait = max(min(floor, TOLD_FLOOR) if failure is Failure.THROTTLED else floor, told)
    else:
        # 2**30 is past any cap; a count that grew for months must not overflow.
        wait = min(CAP, floor * 2.0 ** min(max(attempts, 1) - 1, 30))
    return wait * (1 + JITTER * chance.random())


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    # The three forms of RFC 9110 section 5.6.7: IMF-fixdate, RFC 850, asctime. All are read, whatever is obsolete.
    re.compile(rf"[a-z]{{3}}, (?P<day>[0-9]{{2}}) (?P<month>[a-z]{{3}}) (?P<year>[0-9]{{4}}) {_TIME} gmt"),
    re.compile(rf"[a-z]{{6,9}}, (?P<day>[0-9]{{2}})-(?P<month>[a-z]{{3}})-(?P<year>[0-9]{{2}}) {_TIME} gmt"),
    re.compile(rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_SECONDS = re.compile(r"[0-9]+")


def parse_retry_after(value: str, now: float) -> float | None:
    """The seconds that a `Retry-After` header means, from 0 to `RETRY_AFTER_CAP`; None where it means nothing.

    Nothing means: neither a whole number nor a date, a moment that has passed, two headers joined into one.
    """
    value = value.strip(" \t").lower()
    if _SECONDS.fullmatch(value):
        # Twelve digits are past the cap; int() of thousands of them is slow, and refused by Python in the end.
        return RETRY_AFTER_CAP if len(value) > 12 else min(float(value), RETRY_AFTER_CAP)
    for form in _DATES:
        if (match := form.fullmatch(value)) is not None:
            moment = _moment(match, now)
            return None if moment is None or moment < now else min(moment - now, RETRY_AFTER_CAP)
    return None


def _moment(match: re.Match[str], now: float) -> float | None:
    year = int(match["year"])
    if len(match["year"]) == 2:
        # A date that seems more than 50 years ahead is meant in the past (RFC 9110 section 5.6.7).
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    try:
        return datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(int(match["second"]), 59),  # 60 is a leap second
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None
