from pathlib import Path

import pytest

from measure import Figure, Work, compare, parse_wrk

WRK_PRINTED = """Running 3s test @ http://127.0.0.1:8099/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   373.07us  112.94us   5.01ms   91.83%
  Latency Distribution
     50%  351.00us
     75%  399.00us
     90%  455.00us
     99%    1.25ms
  512345 requests in 3.00s, 42.51MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec: 170781.65
Transfer/sec:     14.17MB
"""


def test_reads_what_wrk_prints() -> None:
    result = parse_wrk(WRK_PRINTED)
    assert (result.rate, result.failures) == (170781.65, 7)
    assert (result.p50, result.p99) == pytest.approx((0.351, 1.25))  # milliseconds


def test_each_round_is_divided_by_the_references_around_it(tmp_path: Path) -> None:
    references = iter([100.0, 200.0, 400.0])
    comparison = compare(Work(tmp_path, rounds=2), measure=lambda: 60.0, reference=lambda: next(references))
    assert comparison.ratios == pytest.approx((0.4, 0.2))


@pytest.mark.parametrize(
    ("better", "value", "verdict"),
    [("more", 0.34, "falls short"), ("more", 0.35, "reached"), ("less", 0.36, "falls short"), ("less", 0.2, "reached")],
)
def test_says_what_is_reached(better: str, value: float, verdict: str) -> None:
    figure = Figure("f", "a figure", "", (value,), must=0.35, better=better)  # pyright: ignore[reportArgumentType]
    assert figure.verdict == verdict
