"""What a results file says: the rate within the objectives, the shape of the traffic, the service demand, comparisons.

Derived from raw timings and counters each time it is asked for. What the file cannot support is a Gap that says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.economics.demand_fit import DemandFit, ShapeRun, fit_demand
from benchmarks.economics.sweep import SloRate, SweepPoint, slo_rate, sweep_point
from benchmarks.economics.uncertainty import Bounds, bootstrap
from benchmarks.errors import ModelError
from benchmarks.experiments.freshness import Changes, changes
from benchmarks.experiments.results import Run
from benchmarks.load.plan import Slo
from benchmarks.load.record import RequestRow
from benchmarks.measurements import busy_s

# Fewer answers than this have no 95th percentile to speak of.
LEAST_ANSWERS = 5


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the results do not say, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Level:
    """One rate of a sweep, its repeats put together. Rates per second, times in seconds; infinite: most failed."""

    rate: float
    runs: int
    sent: int
    good_per_s: float
    ttft_p50_s: float
    ttft_p95_s: float
    e2e_p95_s: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """An open-loop sweep: its levels, and the rate within the objectives that follows."""

    step: str
    model: str
    levels: tuple[Level, ...]
    rate: SloRate | Gap


@dataclass(frozen=True, slots=True)
class Traffic:
    """Means over the answered requests of some runs, and the share of requests that were declined."""

    answered: int
    abstained: int
    prompt_tokens: float
    cached_prompt_tokens: float
    output_tokens: float

    @property
    def abstain_share(self) -> float:
        """Declined for lack of evidence, of all that ended well."""
        return self.abstained / (self.answered + self.abstained)


@dataclass(frozen=True, slots=True)
class Window:
    """One run by the gateway's meter: accelerator seconds, and what its answers cost on both bases, USD a query."""

    cell: str
    model: str
    answered: int
    busy_gpu_s: float
    billed_gpu_s: float
    allocation_usd: float
    usage_usd: float

    @property
    def utilisation(self) -> float:
        """Busy share of the billed time, 0 to 1."""
        return self.busy_gpu_s / self.billed_gpu_s


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it. `comparisons`: by step and variant."""

    sweep: Sweep | Gap
    traffic: Traffic | Gap
    demand: DemandFit | Gap
    shapes: tuple[ShapeRun, ...]
    windows: tuple[Window, ...]
    comparisons: Mapping[str, Mapping[str, "Variant"]]
    changes: Changes | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One side of a comparison, as medians with their intervals; busy seconds are per answered query."""

    model: str
    answered: int
    ttft_s: Bounds | None
    e2e_s: Bounds | None
    busy_gpu_s: float | None
    prompt_tokens: float
    cached_share: float


def findings(runs: Sequence[Run], objectives: Slo) -> Findings:
    """What the runs of one machine say."""
    swept = _first_step(runs, "sweep")
    grid = [run for run in runs if run.kind == "grid"]
    shapes = tuple(shape for run in grid if (shape := _shape(run)) is not None)
    return Findings(
        sweep=_sweep(swept, objectives),
        traffic=traffic(swept) or Gap("no sweep has answered requests"),
        demand=_demand(shapes),
        shapes=shapes,
        windows=tuple(window for run in runs if (window := _window(run)) is not None),
        comparisons=_comparisons(runs),
        changes=changes([run.result for run in runs if run.kind == "change"]),
    )


def _first_step(runs: Sequence[Run], kind: str) -> list[Run]:
    of_kind = [run for run in runs if run.kind == kind]
    return [run for run in of_kind if run.step == of_kind[0].step]


def _sweep(runs: Sequence[Run], objectives: Slo) -> Sweep | Gap:
    if not runs:
        return Gap("no sweep of rates was run")
    by_rate: dict[float, list[Run]] = {}
    for run in runs:
        by_rate.setdefault(run.rate, []).append(run)
    points = [_point(run) for run in runs if any(row.outcome != "abstained" for row in run.rows)]
    levels = tuple(_level(rate, by_rate[rate], objectives) for rate in sorted(by_rate))
    try:
        rate: SloRate | Gap = slo_rate(points, objectives)
    except ModelError as error:
        rate = Gap(str(error))
    return Sweep(runs[0].step, _model(runs[0]), levels, rate)


def answered(found: Findings) -> SloRate | Gap:
    """The rate within the objectives in answers: of the requests of a sweep some are declined without the engine."""
    if isinstance(found.sweep, Gap) or isinstance(found.sweep.rate, Gap):
        return found.sweep if isinstance(found.sweep, Gap) else found.sweep.rate
    share = 1.0 - found.traffic.abstain_share if isinstance(found.traffic, Traffic) else 1.0
    rate = found.sweep.rate
    low, high = (None if bound is None else bound * share for bound in (rate.low, rate.high))
    return replace(rate, queries_per_s=rate.queries_per_s * share, low=low, high=high)


def _point(run: Run) -> SweepPoint:
    """A declined request ran no model: it is neither fast nor late."""
    counted = [row for row in run.rows if row.outcome != "abstained"]
    return sweep_point(
        run.rate,
        [row.ttft_s if row.outcome == "answered" else None for row in counted],
        [row.e2e_s if row.outcome == "answered" else None for row in counted],
    )


def _level(rate: float, runs: Sequence[Run], objectives: Slo) -> Level:
    rows = [row for run in runs for row in run.rows if row.outcome != "abstained"]
    ttfts = sorted(row.ttft_s if row.outcome == "answered" and row.ttft_s is not None else np.inf for row in rows)
    e2es = sorted(row.e2e_s if row.outcome == "answered" else np.inf for row in rows)
    good = sum(row.outcome == "answered" and _within(row, objectives) for row in rows)
    return Level(
        rate=rate,
        runs=len(runs),
        sent=len(rows),
        good_per_s=good / sum(run.wall_s for run in runs),
        ttft_p50_s=_percentile(ttfts, 0.5),
        ttft_p95_s=_percentile(ttfts, 0.95),
        e2e_p95_s=_percentile(e2es, 0.95),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest of the values above, since nothing lies between a time and never."""
    return float(np.quantile(ordered, share, method="inverted_cdf")) if ordered else float("nan")


def _within(row: RequestRow, objectives: Slo) -> bool:
    pairs = ((row.ttft_s, objectives.ttft_s), (row.itl_s, objectives.itl_s), (row.e2e_s, objectives.e2e_s))
    return all(bound is None or (value is not None and value <= bound) for value, bound in pairs)


def traffic(runs: Sequence[Run]) -> Traffic | None:
    """Of some runs; None when nothing was answered."""
    rows = [row for run in runs for row in run.rows]
    answered = [row for row in rows if row.outcome == "answered"]
    counted = [row for row in answered if row.prompt_tokens is not None and row.completion_tokens is not None]
    if not counted:
        return None
    return Traffic(
        answered=len(answered),
        abstained=sum(row.outcome == "abstained" for row in rows),
        prompt_tokens=sum(row.prompt_tokens or 0 for row in counted) / len(counted),
        cached_prompt_tokens=sum(row.cached_tokens or 0 for row in counted) / len(counted),
        output_tokens=sum(row.completion_tokens or 0 for row in counted) / len(counted),
    )


def _busy_s(run: Run, state: str = "busy") -> float:
    return run.grew("breakeven_gpu_seconds_total", state=state)


def _model(run: Run) -> str:
    return ", ".join(run.result.header.models)


def _shape(run: Run) -> ShapeRun | None:
    seen = traffic([run])
    # Without a gateway's meter: the time in which a request was under way, which is the same seen from outside.
    busy = _busy_s(run) or busy_s([row for row in run.rows if row.outcome == "answered"])
    if seen is None or busy <= 0 or run.result.header.concurrency is None:
        return None
    computed = seen.prompt_tokens - seen.cached_prompt_tokens
    return ShapeRun(computed, seen.output_tokens, run.result.header.concurrency, busy / seen.answered)


def _demand(shapes: Sequence[ShapeRun]) -> DemandFit | Gap:
    if not shapes:
        return Gap("no grid of shapes was run")
    try:
        return fit_demand(shapes)
    except ModelError as error:
        return Gap(str(error))


def _window(run: Run) -> Window | None:
    """None without the gateway's meter, or without answers."""
    costs = [row.cost for row in run.rows if row.outcome == "answered" and row.cost is not None]
    busy, billed = _busy_s(run), _busy_s(run, "billed")
    if not costs or billed <= 0:
        return None
    return Window(
        cell=run.cell,
        model=_model(run),
        answered=len(costs),
        busy_gpu_s=min(busy, billed),
        billed_gpu_s=billed,
        allocation_usd=sum(float(cost["allocation_usd"]) for cost in costs) / len(costs),
        usage_usd=sum(float(cost["usage_usd"]) for cost in costs) / len(costs),
    )


def _comparisons(runs: Sequence[Run]) -> Mapping[str, Mapping[str, Variant]]:
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        if run.kind == "compare":
            groups.setdefault(run.step, {}).setdefault(run.variant, []).append(run)
    return {
        step: {name: variant for name, side in sides.items() if (variant := _variant(side)) is not None}
        for step, sides in groups.items()
    }


def _variant(runs: Sequence[Run]) -> Variant | None:
    seen = traffic(runs)
    if seen is None or seen.answered < LEAST_ANSWERS:
        return None
    answered = [row for run in runs for row in run.rows if row.outcome == "answered"]
    busy = sum(_busy_s(run) for run in runs)
    return Variant(
        model=_model(runs[0]),
        answered=seen.answered,
        ttft_s=_median([row.ttft_s for row in answered if row.ttft_s is not None]),
        e2e_s=_median([row.e2e_s for row in answered]),
        busy_gpu_s=busy / seen.answered if busy > 0 else None,
        prompt_tokens=seen.prompt_tokens,
        cached_share=min(1.0, seen.cached_prompt_tokens / seen.prompt_tokens) if seen.prompt_tokens else 0.0,
    )


def _median(values: Sequence[float]) -> Bounds | None:
    return bootstrap(values, lambda sample: float(np.median(sample))) if len(values) >= LEAST_ANSWERS else None
