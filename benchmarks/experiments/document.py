"""An experiment's figures as plain data with their intervals, for whoever judges by them: the claims.

What is not measured is not there. A simulation has no figures at all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.economics.sweep import SloRate
from benchmarks.economics.uncertainty import Bounds
from benchmarks.errors import PriceError, ResultsError
from benchmarks.experiments.findings import Findings, Variant, answered, findings
from benchmarks.experiments.results import Experiment, read_experiment
from benchmarks.prices import PriceBook


def document(path: Path, prices: PriceBook) -> dict[str, Any]:
    """The figures of a results file; under `on` again by machine: the id of its price row, `cpu` for a processor.

    ResultsError for a simulation: committed beside measurements, it would be taken for one.
    """
    experiment = read_experiment(path)
    if experiment.fingerprint.simulated:
        raise ResultsError(f"{path.name} was made by the simulated engine and measures nothing; remove it")
    figures = _figures(findings(experiment.runs, experiment.objectives))
    held = experiment.fingerprint
    device = f"{held.machine}, {held.base_model}"
    return {"origin": {"device": device}, **figures, "on": {_machine(experiment, prices): figures}}


def _machine(experiment: Experiment, prices: PriceBook) -> str:
    if not experiment.fingerprint.gpu:
        return "cpu"
    try:
        return prices.gpu_for(experiment.origin.gpus[0].name).id
    except PriceError:
        return experiment.origin.gpus[0].name


def _figures(found: Findings) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if isinstance(rate := answered(found), SloRate):
        figures["within_objectives"] = _rate(rate)
    if found.changes is not None:
        seconds = found.changes.seconds
        figures["change_to_answer_s"] = _bounded(seconds.value, seconds.low, seconds.high)
    for sides in found.comparisons.values():
        for name, side in sides.items():
            _add(figures, name, side)
    return figures


def _rate(rate: SloRate) -> dict[str, Any]:
    low, high = rate.low, rate.high
    per_minute = _bounded(60 * rate.queries_per_s, low and 60 * low, high and 60 * high)
    # The most that a query may take of a machine that is never idle: the slower the rate, the more.
    demand = _bounded(1 / rate.queries_per_s, high and 1 / high, low and 1 / low)
    return {"queries_per_minute": per_minute, "gpu_s_per_query": demand}


def _add(figures: dict[str, Any], name: str, side: Variant) -> None:
    for key, bounds, scale in (("first_token_ms", side.ttft_s, 1000), ("whole_answer_ms", side.e2e_s, 1000)):
        if isinstance(bounds, Bounds):
            figures.setdefault(key, {})[name] = _bounded(scale * bounds.value, scale * bounds.low, scale * bounds.high)
    if side.busy_gpu_s is not None:
        figures.setdefault("gpu_s_per_query", {})[name] = _plain(side.busy_gpu_s)


def _bounded(value: float, low: float | None, high: float | None) -> Mapping[str, str]:
    held = {"value": _plain(value)}
    if low is not None and high is not None:
        held |= {"low": _plain(min(low, value)), "high": _plain(max(high, value))}
    return held


def _plain(value: float) -> str:
    return f"{value:.6g}"
