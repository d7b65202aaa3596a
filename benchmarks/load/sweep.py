"""The search for the knee: the highest arrival rate whose p95 latencies keep the objectives.

Rates rise by a factor until one misses, then the gap between the last that kept them and the first that missed is
halved. Every run is kept: the rate itself is computed from all of them (`measurements.sweep_points`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.errors import PlanError
from benchmarks.load.plan import Slo
from benchmarks.load.summary import Summary

_FEWEST = 40  # requests of a run; of fewer, the p95 is little more than the slowest one


@dataclass(frozen=True)
class Search:
    """From `first` requests per second, times `factor` until the objectives are missed or `most_runs` are made; then
    `halvings` between."""

    first: float
    factor: float = 2.0
    halvings: int = 3
    most_runs: int = 12

    def __post_init__(self) -> None:
        if self.first <= 0 or self.factor <= 1 or self.halvings < 0 or self.most_runs < 2:
            raise PlanError("a sweep starts above zero, rises by a factor above 1, and makes at least two runs")


def long_enough(rate: float, seconds: float) -> float:
    """Seconds that a run at this rate takes at least, so that its p95 means something."""
    return max(seconds, _FEWEST / rate)


def keeps(summary: Summary) -> bool:
    """Whether 95 % of all requests of a run kept every objective by its p95; one that failed kept none."""
    slo, asked = summary.header.slo, summary.requests
    late = asked - summary.outcomes.get("answered", 0)
    if late > 0.05 * asked:
        return False
    pairs = ((slo.ttft_s, summary.ttft), (slo.itl_s, summary.inter_token), (slo.e2e_s, summary.e2e))
    return all(bound is None or (found is not None and found.p95 <= bound) for bound, found in pairs)


def to_the_knee(search: Search, slo: Slo, run: Callable[[float], Summary]) -> list[Summary]:
    """Runs rates until the knee is between two close ones, and returns every run. PlanError without objectives, or if
    the first rate misses them already."""
    if not slo:
        raise PlanError("a sweep needs objectives: give --slo-ttft, --slo-itl or --slo-e2e")
    done: list[Summary] = []

    def kept(rate: float) -> bool:
        done.append(run(rate))
        return keeps(done[-1])

    rate = search.first
    while not kept(rate):
        if len(done) == search.most_runs:
            return done
        rate /= search.factor
    good = rate
    bad = min((each.header.rate or 0.0 for each in done if not keeps(each)), default=None)
    while bad is None and len(done) < search.most_runs:
        if kept(good * search.factor):
            good *= search.factor
        else:
            bad = good * search.factor
    for _ in range(search.halvings if bad is not None else 0):
        middle = (good + (bad or good)) / 2
        if kept(middle):
            good = middle
        else:
            bad = middle
    return done
