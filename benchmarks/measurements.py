"""From recorded load runs to what the economic model takes. Nothing is typed by hand in between.

Every function refuses a run that says of itself that it is no evidence. Accelerator time is the gateway's meter where
its page was read, else the time in which at least one request was under way, which is the same definition from outside.
"""

from collections.abc import Iterable, Sequence

from benchmarks.economics.demand_fit import ShapeRun
from benchmarks.economics.measured import Observed
from benchmarks.economics.sweep import SweepPoint, sweep_point
from benchmarks.errors import ModelError
from benchmarks.load.counted import Counted
from benchmarks.load.record import LoadResult, RequestRow


def observed(run: LoadResult) -> Observed:
    """A run's traffic and the accelerator time it took, from the gateway's page. ModelError without one."""
    _sound(run)
    page = _gateway_page(run)
    if page is None:
        raise ModelError(f"no Prometheus page of a gateway was read around {run.header.command!r}; measure with one")
    outcome = {name: round(page.grew("breakeven_requests_total", outcome=name)) for name in ("complete", "abstained")}
    tokens = {
        kind: round(page.grew("breakeven_tokens_total", kind=kind)) for kind in ("prompt", "cached", "completion")
    }
    seconds = {state: page.grew("breakeven_gpu_seconds_total", state=state) for state in ("busy", "billed")}
    return Observed(
        queries=sum(outcome.values()),
        abstained=outcome["abstained"],
        prompt_tokens=tokens["prompt"],
        cached_prompt_tokens=tokens["cached"],
        output_tokens=tokens["completion"],
        busy_gpu_s=seconds["busy"],
        billed_gpu_s=seconds["billed"],
    )


def sweep_points(runs: Iterable[LoadResult]) -> list[SweepPoint]:
    """The open-loop runs among these, each as a point of a sweep; requests that failed count as infinitely late.

    A run is a point at the rate that was asked for, not at the one that was achieved. A run whose generator fell behind
    is among them: lateness counts against it.
    """
    points = []
    for run in runs:
        _sound(run)
        if run.header.rate is None:
            continue
        ttfts = [row.ttft_s if row.outcome == "answered" else None for row in run.rows]
        e2es = [row.e2e_s if row.outcome == "answered" else None for row in run.rows]
        itls = [row.itl_s or 0.0 if row.outcome == "answered" else None for row in run.rows]
        points.append(sweep_point(run.header.rate, ttfts, e2es, itls))
    return points


def shape_runs(runs: Iterable[LoadResult]) -> list[ShapeRun]:
    """The closed-loop runs among these, each as a cell of the grid from which service demand is fitted."""
    cells = []
    for run in runs:
        _sound(run)
        if run.header.concurrency is None:
            continue
        answered = [row for row in run.rows if row.outcome == "answered"]
        if not answered:
            raise ModelError(f"nothing was answered in {run.header.command!r}")
        count = len(answered)
        prompt = sum((row.prompt_tokens or 0) - (row.cached_tokens or 0) for row in answered) / count
        output = sum(row.completion_tokens or 0 for row in answered) / count
        cells.append(ShapeRun(prompt, output, run.header.concurrency, busy_s(answered) * _gpus(run) / count))
    return cells


def busy_s(rows: Sequence[RequestRow]) -> float:
    """Seconds in which at least one of these requests was under way."""
    total, until = 0.0, 0.0
    for row in sorted(rows, key=lambda each: each.sent_s):
        total += max(0.0, row.last_s - max(row.sent_s, until))
        until = max(until, row.last_s)
    return total


def _gpus(run: LoadResult) -> float:
    return float(run.header.labels.get("gpus", 1))


def _gateway_page(run: LoadResult) -> Counted | None:
    return next((page for page in run.counted if page.has("breakeven_requests_total")), None)


def _sound(run: LoadResult) -> None:
    if run.errors:
        raise ModelError(f"the run {run.header.command!r} is no evidence: {'; '.join(run.errors)}")
