from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mailvane.destinations.contract import Failure
from mailvane.operations.metrics import METRICS, Metrics, Readings, Standing
from mailvane.operations.reference import filled


def read(metrics: Metrics, readings: Readings | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and the values of its labels in the order of their names, as Prometheus reads it."""
    text = metrics.exposition(readings or Readings()).decode()
    return {
        (sample.name, tuple(v for _, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_counted_is_told():
    metrics = Metrics()
    metrics.recorded(3)
    metrics.recorded(4)
    tally = metrics.tally("http_post https://example.com/")
    tally.delivered([0.003, 0.2])
    tally.delivered([99.0])
    tally.failed(Failure.TIMEOUT)
    tally.failed(Failure.TIMEOUT)
    tally.failed(Failure.GONE)

    told = read(metrics, Readings(dropped=1))
    name = "http_post https://example.com/"
    assert told["mailvane_recorded_total", ()] == 7
    assert told["mailvane_dropped_total", ()] == 1
    assert told["mailvane_delivered_total", (name,)] == 3
    assert told["mailvane_failed_total", ("timeout", name)] == 2
    assert told["mailvane_failed_total", ("gone", name)] == 1
    assert ("mailvane_failed_total", ("throttled", name)) not in told
    assert (metrics.delivered_total, metrics.failed_total) == (3, 3)


def test_the_histogram_cumulates():
    metrics = Metrics()
    tally = metrics.tally("a")
    for seconds in (0.0005, 0.001, 0.0011, 30.0, 31.0):
        tally.delivered([seconds])
    told = read(metrics, Readings(dropped=1))
    assert told["mailvane_delivery_seconds_bucket", ("a", "0.001")] == 2, "a bound belongs to its bucket"
    assert told["mailvane_delivery_seconds_bucket", ("a", "0.0025")] == 3
    assert told["mailvane_delivery_seconds_bucket", ("a", "30.0")] == 4
    assert told["mailvane_delivery_seconds_bucket", ("a", "+Inf")] == 5
    assert told["mailvane_delivery_seconds_count", ("a",)] == 5
    assert told["mailvane_delivery_seconds_sum", ("a",)] == pytest.approx(61.0026)


@pytest.mark.parametrize("seconds", [[0.002] * 4, [0.002, 0.002, 0.2, 0.002]])
def test_each_event_of_a_batch_counts(seconds: list[float]):
    metrics = Metrics()
    metrics.tally("a").delivered(seconds)
    told = read(metrics, Readings(dropped=1))
    assert told["mailvane_delivery_seconds_bucket", ("a", "0.0025")] == seconds.count(0.002)
    assert told["mailvane_delivery_seconds_count", ("a",)] == told["mailvane_delivered_total", ("a",)] == 4
    assert told["mailvane_delivery_seconds_sum", ("a",)] == pytest.approx(sum(seconds))


def test_how_things_stand_is_told():
    standings = {"a": Standing(circuit_open=True), "b": Standing(paused=True)}
    told = read(Metrics(), Readings(10, 7.5, 2, 3, True, standings))
    assert told["mailvane_waiting", ()] == 10
    assert told["mailvane_oldest_seconds", ()] == 7.5
    assert told["mailvane_in_flight", ()] == 2
    assert told["mailvane_deferred", ()] == 3
    assert told["mailvane_config_stale", ()] == 1
    assert told["mailvane_circuit_open", ("a",)] == 1
    assert told["mailvane_circuit_open", ("b",)] == 0
    assert told["mailvane_paused", ("b",)] == 1


def test_every_metric_is_told_with_its_help():
    metrics = Metrics()
    metrics.tally("a").failed(Failure.DNS)
    text = metrics.exposition(Readings(destinations={"a": Standing()})).decode()
    for name, declared in METRICS.items():
        assert f"# HELP {name} {declared.help}\n# TYPE {name} {declared.kind}\n" in text
    ours = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE mailvane_")}
    assert ours == set(METRICS)


def test_the_page_on_metrics_has_every_one_as_it_is_declared():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert filled(page) == page, "run: python -m mailvane.operations.reference docs/metrics.md"
    assert all(f"| `{name}` |" in page for name in METRICS)


def test_labels_are_those_that_are_declared():
    metrics = Metrics()
    metrics.mail("bounce")
    metrics.tally("a").failed(Failure.DNS)
    text = metrics.exposition(Readings(destinations={"a": Standing()})).decode()
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        if name in METRICS:
            labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
            assert labels == {frozenset(METRICS[name].labels)}, name


def test_a_fresh_process_tells_noughts_and_its_own_memory():
    told = read(Metrics())
    assert told["mailvane_recorded_total", ()] == 0
    assert told["mailvane_oldest_seconds", ()] == 0
    assert told["process_resident_memory_bytes", ()] > 1_000_000


def test_a_strange_name_cannot_break_the_exposition():
    metrics = Metrics()
    name = 'http_post https://example.com/"\\\nmailvane_recorded_total 9'
    metrics.tally(name).delivered([1])
    told = read(metrics, Readings(dropped=1))
    assert told["mailvane_delivered_total", (name,)] == 1
    assert told["mailvane_recorded_total", ()] == 0


def test_the_same_name_has_the_same_tally():
    metrics = Metrics()
    assert metrics.tally("a") is metrics.tally("a")
    assert metrics.tally("a") is not metrics.tally("b")
