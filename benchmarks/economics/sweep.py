"""The rate that a replica sustains within the latency objectives, from an open-loop sweep (formula 2).

Interpolated between measured rates, never beyond them: a sweep whose fastest rate still keeps the objectives gives a
lower bound and says so.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import ModelError
from benchmarks.load.plan import Slo
from benchmarks.load.summary import percentile


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One run of the sweep: arrivals per second, and p95 latencies in seconds counted from the scheduled arrival;
    between tokens, of each request's mean."""

    queries_per_s: float
    ttft_p95_s: float
    e2e_p95_s: float
    itl_p95_s: float = 0.0


def sweep_point(
    queries_per_s: float,
    ttfts_s: Iterable[float | None],
    e2es_s: Iterable[float | None],
    itls_s: Iterable[float | None] = (0.0,),
) -> SweepPoint:
    """A run from its requests. A request that failed has None and counts as infinitely late."""
    return SweepPoint(queries_per_s, _p95(ttfts_s), _p95(e2es_s), _p95(itls_s))


def _p95(values: Iterable[float | None]) -> float:
    ordered = sorted(math.inf if value is None else value for value in values)
    if not ordered:
        raise ModelError("a sweep point needs requests")
    found = percentile(ordered, 0.95)
    # Towards infinity there is no way in between; the lower neighbour is then the percentile itself.
    return ordered[int(0.95 * (len(ordered) - 1))] if math.isnan(found) else found


@dataclass(frozen=True, slots=True)
class SloRate:
    """Queries per second within the objectives. `open_ended`: the fastest rate tried still kept them.

    `low` and `high` bound it (percentiles 2.5 and 97.5 of resampled runs); both None with one run per rate.
    """

    queries_per_s: float
    open_ended: bool
    low: float | None = None
    high: float | None = None


def slo_rate(points: Sequence[SweepPoint], slo: Slo, draws: int = 1000, seed: int = 0) -> SloRate:
    """The knee of a sweep. Several runs at a rate are averaged, and resampled for the bounds.

    ModelError when even the slowest rate misses the objectives: slower ones must be measured.
    """
    if not slo:
        raise ModelError("name a latency objective: without one every rate is acceptable")
    runs: dict[float, list[SweepPoint]] = {}
    for point in sorted(points, key=lambda point: point.queries_per_s):
        runs.setdefault(point.queries_per_s, []).append(point)
    if len(runs) < 2:
        raise ModelError("a sweep needs at least two rates")
    found = _knee({rate: _load(group, slo) for rate, group in runs.items()})
    if found is None:
        raise ModelError(f"the slowest rate tried, {min(runs):g}/s, already misses the objectives; measure slower ones")
    rate, open_ended = found
    if max(map(len, runs.values())) < 2:
        return SloRate(rate, open_ended)
    random = np.random.default_rng(seed)
    drawn = [_redraw(runs, slo, random) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return SloRate(rate, open_ended, float(low), float(high))


def _redraw(runs: dict[float, list[SweepPoint]], slo: Slo, random: np.random.Generator) -> float:
    chosen = {
        rate: _load([group[index] for index in random.integers(len(group), size=len(group))], slo)
        for rate, group in runs.items()
    }
    found = _knee(chosen)
    return found[0] if found else 0.0


def _load(group: Sequence[SweepPoint], slo: Slo) -> float:
    """How much of the tighter objective the runs at one rate use up; above 1 it is missed."""
    used = [
        max(
            point.ttft_p95_s / slo.ttft_s if slo.ttft_s is not None else 0.0,
            point.e2e_p95_s / slo.e2e_s if slo.e2e_s is not None else 0.0,
            point.itl_p95_s / slo.itl_s if slo.itl_s is not None else 0.0,
        )
        for point in group
    ]
    return sum(used) / len(used)


def _knee(used: dict[float, float]) -> tuple[float, bool] | None:
    """Where the running maximum of what is used up crosses 1, by rate in ascending order."""
    before: tuple[float, float] | None = None
    for rate, share in used.items():
        worst = max(share, before[1]) if before else share  # latency does not fall as the rate grows
        if worst > 1:
            if before is None:
                return None
            slack = (1 - before[1]) / (worst - before[1]) if math.isfinite(worst) else 0.0
            return before[0] + (rate - before[0]) * slack, False
        before = (rate, worst)
    return None if before is None else (before[0], True)
