"""What the process counts, and how Prometheus reads it.

Two sorts of figures: what happens is counted here, by plain additions on the hot path; how things stand (waiting, in
flight, ...) is read when somebody asks. `METRICS` names and describes both; the exposition is made from it.

A destination goes by its name in the plan, which has its secrets masked.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from mailvane.destinations.contract import Failure
from mailvane.operations.status import Status
from mailvane.processor.states import DestinationState

if TYPE_CHECKING:
    from prometheus_client import Metric

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's buckets, seconds; an attempt ends after 30 at the latest."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Declared(NamedTuple):
    """What a metric is, by Prometheus's names for it."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Declared] = {
    "mailvane_recorded_total": Declared("counter", "Events recorded since this process started"),
    "mailvane_delivered_total": Declared("counter", "Events that the destination took", ("destination",)),
    "mailvane_dropped_total": Declared(
        "counter", "Events removed because the configuration drops them, since the queue was made"
    ),
    "mailvane_failed_total": Declared("counter", "Attempts that failed, by class of failure", ("destination", "class")),
    "mailvane_mail_total": Declared(
        "counter", "Mails taken from Maildirs since this process started, by what they were", ("kind",)
    ),
    "mailvane_delivery_seconds": Declared("histogram", "How long attempts took that delivered", ("destination",)),
    "mailvane_waiting": Declared("gauge", "Events in the queue: waiting, in flight, deferred and left"),
    "mailvane_oldest_seconds": Declared("gauge", "Age of the oldest event in the queue, 0 for an empty one"),
    "mailvane_in_flight": Declared("gauge", "Events whose attempt has begun and whose outcome is not on disk yet"),
    "mailvane_deferred": Declared("gauge", "Events that failed and wait for another try"),
    "mailvane_circuit_open": Declared(
        "gauge", "1: the destination failed too often and is only probed", ("destination",)
    ),
    "mailvane_paused": Declared(
        "gauge", "1: the destination is paused, by a person or because it answered 410", ("destination",)
    ),
    "mailvane_config_stale": Declared(
        "gauge", "1: the configuration file cannot be used, and the last good one is in force"
    ),
}
"""Every metric that is ours. docs/metrics.md is made of it."""


class Tally:
    """What happened at one destination."""

    __slots__ = ("buckets", "delivered_total", "failed_total", "seconds_total")

    def __init__(self) -> None:
        self.delivered_total = 0
        self.failed_total = dict.fromkeys(Failure, 0)
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds_total = 0.0

    def delivered(self, seconds: Sequence[float]) -> None:
        """Events were delivered, each by an attempt that took so many seconds."""
        self.delivered_total += len(seconds)
        self.seconds_total += sum(seconds)
        buckets = self.buckets
        if seconds.count(seconds[0]) == len(seconds):  # a batch, or one alone
            buckets[bisect_left(BOUNDS, seconds[0])] += len(seconds)
            return
        for taken in seconds:
            buckets[bisect_left(BOUNDS, taken)] += 1

    def failed(self, failure: Failure) -> None:
        """An attempt failed."""
        self.failed_total[failure] += 1


@dataclass(frozen=True)
class Standing:
    """How a destination stands at the moment."""

    circuit_open: bool = False
    paused: bool = False


@dataclass(frozen=True)
class Readings:
    """How things stand at the moment. `oldest_seconds` is None for an empty queue."""

    waiting: int = 0
    oldest_seconds: float | None = None
    in_flight: int = 0
    deferred: int = 0
    config_stale: bool = False
    destinations: Mapping[str, Standing] = field(default_factory=dict[str, Standing])
    dropped: int = 0


def readings_of(report: Status) -> Readings:
    """How things stand by the status report."""
    legacy = report.destinations[0]
    return Readings(
        waiting=report.queue.events,
        oldest_seconds=report.queue.oldest_seconds,
        in_flight=report.queue.in_flight or 0,
        deferred=legacy.retries,
        dropped=report.books.dropped,
        config_stale=report.config.state != "current",
        destinations={
            r.destination: Standing(r.state == DestinationState.CIRCUIT_OPEN, r.state == DestinationState.PAUSED)
            for r in legacy.routes
        },
    )


class Metrics:
    """The process's counters. For one thread: the event loop's."""

    def __init__(self) -> None:
        self.recorded_total = 0
        self.tallies: dict[str, Tally] = {}
        self.mails: Counter[str] = Counter()

    def mail(self, kind: str) -> None:
        """A mail was taken from a Maildir: its kind, or SET_ASIDE."""
        self.mails[kind] += 1

    def recorded(self, events: int) -> None:
        """So many events were recorded."""
        self.recorded_total += events

    def tally(self, destination: str) -> Tally:
        """The counters of a destination, to be kept by its lane; the same ones for the same name."""
        found = self.tallies.get(destination)
        if found is None:
            found = self.tallies[destination] = Tally()
        return found

    @property
    def delivered_total(self) -> int:
        return sum(t.delivered_total for t in self.tallies.values())

    @property
    def failed_total(self) -> int:
        return sum(sum(t.failed_total.values()) for t in self.tallies.values())

    def exposition(self, readings: Readings) -> bytes:
        """All of it in Prometheus's text format (`CONTENT_TYPE`), the process's own memory and CPU time included."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self, readings))
        ProcessCollector(registry=registry)
        return generate_latest(registry)


class _Collector:
    """What prometheus_client asks for metrics."""

    def __init__(self, metrics: Metrics, readings: Readings) -> None:
        self._metrics = metrics
        self._readings = readings

    def describe(self) -> Iterable["Metric"]:
        return ()

    def collect(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        metrics, readings = self._metrics, self._readings

        def counter(name: str) -> CounterMetricFamily:
            return CounterMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)

        def gauge(name: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)

        recorded = counter("mailvane_recorded_total")
        recorded.add_metric((), metrics.recorded_total)
        dropped = counter("mailvane_dropped_total")
        dropped.add_metric((), readings.dropped)
        mails = counter("mailvane_mail_total")
        for kind, count in metrics.mails.items():
            mails.add_metric((kind,), count)
        delivered = counter("mailvane_delivered_total")
        failed = counter("mailvane_failed_total")
        took = METRICS["mailvane_delivery_seconds"]
        seconds = HistogramMetricFamily("mailvane_delivery_seconds", took.help, labels=took.labels)
        for name, tally in metrics.tallies.items():
            delivered.add_metric((name,), tally.delivered_total)
            for failure, count in tally.failed_total.items():
                if count:
                    failed.add_metric((name, failure.value), count)
            seconds.add_metric((name,), list(_cumulated(tally.buckets)), sum_value=tally.seconds_total)
        yield from (recorded, dropped, mails, delivered, failed, seconds)

        for name, value in (
            ("mailvane_waiting", readings.waiting),
            ("mailvane_oldest_seconds", readings.oldest_seconds or 0),
            ("mailvane_in_flight", readings.in_flight),
            ("mailvane_deferred", readings.deferred),
            ("mailvane_config_stale", readings.config_stale),
        ):
            family = gauge(name)
            family.add_metric((), value)
            yield family
        circuit, paused = gauge("mailvane_circuit_open"), gauge("mailvane_paused")
        for name, standing in readings.destinations.items():
            circuit.add_metric((name,), standing.circuit_open)
            paused.add_metric((name,), standing.paused)
        yield from (circuit, paused)


def _cumulated(buckets: list[int]) -> Iterator[tuple[str, float]]:
    so_far = 0
    for bound, count in zip((*(str(b) for b in BOUNDS), "+Inf"), buckets, strict=True):
        so_far += count
        yield bound, so_far
