"""The evidence on one machine: what was measured there, and the model's answer from it.

Results from different machines, engines or base models are never put together: each has a case of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from benchmarks.economics.answer import Answer, answer
from benchmarks.economics.demand_fit import DemandFit, demand_figures
from benchmarks.economics.figures import Figure, Kind
from benchmarks.economics.measured import sweep_figures
from benchmarks.economics.question import ask
from benchmarks.economics.sweep import SloRate
from benchmarks.errors import ModelError, PriceError, ResultsError
from benchmarks.experiments.findings import Findings, Gap, Sweep, Traffic, answered, findings
from benchmarks.experiments.results import Experiment, Fingerprint
from benchmarks.load.plan import Slo
from benchmarks.prices import PriceBook

SIMULATED = "simulated engine, no measurement"
_REPEAT = "breakeven experiment run PLAN.yaml"
# What is drawn for the intervals; more changes no digit that is shown.
_DRAWS = 400


@dataclass(frozen=True, slots=True)
class Case:
    """One machine. `answer` is a Gap when the rate within the objectives is not known: then nobody can say."""

    fingerprint: Fingerprint
    experiments: tuple[Experiment, ...]
    objectives: Slo
    requests: int
    findings: Findings
    answer: Answer | Gap
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The machine and what ran on it."""
        held = self.fingerprint
        return f"{held.base_model}, {held.engine}, {held.machine}"

    @property
    def day(self) -> date:
        """When the last of it was measured; prices are judged as of this day."""
        return max(date.fromisoformat(each.day) for each in self.experiments)

    @property
    def files(self) -> str:
        """The names of its results files."""
        return ", ".join(each.name for each in self.experiments)


def cases(
    results: Sequence[Experiment], book: PriceBook, assumptions: Mapping[str, Any] | None = None
) -> tuple[Case, ...]:
    """One case per fingerprint: real GPUs first, then CPUs, then simulations.

    ResultsError when nothing was given, or when results of one machine were measured under different objectives.
    """
    groups: dict[Fingerprint, list[Experiment]] = {}
    for each in sorted(results, key=lambda held: (held.origin.started_at, held.name)):
        groups.setdefault(each.fingerprint, []).append(each)
    if not groups:
        raise ResultsError(f"name at least one results file; make one with `{_REPEAT}`")
    made = (_case(print_, group, book, assumptions or {}) for print_, group in groups.items())
    return tuple(sorted(made, key=lambda case: (case.fingerprint.simulated, not case.fingerprint.gpu)))


def _case(
    fingerprint: Fingerprint, group: Sequence[Experiment], book: PriceBook, assumptions: Mapping[str, Any]
) -> Case:
    objectives = {each.objectives for each in group if each.objectives}
    if len(objectives) > 1:
        names = ", ".join(each.name for each in group)
        raise ResultsError(f"{names} were measured under different latency objectives; report them one by one")
    # Runs of the same plan in a second file are more repeats of the first's.
    runs = [run for each in group for run in each.runs]
    case = Case(
        fingerprint=fingerprint,
        experiments=tuple(group),
        requests=sum(len(run.rows) for run in runs),
        objectives=next(iter(objectives), Slo()),
        findings=findings(runs, next(iter(objectives), Slo())),
        answer=Gap(""),
        notes=tuple(note for each in group for note in _incomplete(each)),
    )
    solved, notes = _answer(case, book, assumptions)
    return replace(case, answer=solved, notes=(*case.notes, *notes))


def _incomplete(experiment: Experiment) -> Iterator[str]:
    if len(experiment.runs) < experiment.cells:
        yield f"{experiment.name} is not complete: {len(experiment.runs)} of {experiment.cells} runs"
    if experiment.unusable:
        yield f"{experiment.name}: {experiment.unusable} runs are left out, for they were found faulty when they ended"


def _answer(case: Case, book: PriceBook, assumptions: Mapping[str, Any]) -> tuple[Answer | Gap, tuple[str, ...]]:
    known = measured_figures(case)
    if not known.keys() & {"queries_per_minute", "base_gpu_s"} and "queries_per_minute" not in assumptions:
        sweep = case.findings.sweep
        why = sweep.why if isinstance(sweep, Gap) else sweep.rate.why if isinstance(sweep.rate, Gap) else ""
        return Gap(f"the rate within the objectives is not measured: {why}"), ()
    stated = {name: _stated(figure) for name, figure in known.items()}
    price = _machine(next((each.price for each in case.experiments if each.price), {}), book, assumptions)
    try:
        # A price by its row keeps its date, so that its age is judged; any other must be a figure of its own.
        question = ask(book, case.day, ("the results", {**price, **stated}), ("the report's options", assumptions))
    except PriceError as error:
        raise ResultsError(f"{case.files}: {error}") from error
    return answer(question, _DRAWS), question.notes


def _machine(price: Mapping[str, Any], book: PriceBook, assumptions: Mapping[str, Any]) -> Mapping[str, Any]:
    if not price:
        if assumptions.keys() & {"gpu", "usd_per_gpu_hour"}:
            return {}
        raise ResultsError("the results do not say what the machine costs; give --set usd_per_gpu_hour=VALUE")
    known = {row.id for row in (*book.gpu_prices, book.cpu)}
    if price.get("id") in known:
        return {"gpu": price["id"]}
    kind = "assumed" if price.get("basis") == "assumed" else "quoted"
    seen = f", {price.get('as_of')}" if price.get("as_of") else ""
    source = f"the operator's configuration: {price.get('source')}{seen}"
    return {"usd_per_gpu_hour": {"value": price.get("usd_per_hour"), "kind": kind, "source": source}}


def measured_figures(case: Case) -> dict[str, Figure]:
    """The scenario's figures that the results know; of a simulated engine they are assumptions."""
    found, source = case.findings, _source(case)
    known: dict[str, Figure] = {}
    if isinstance(found.traffic, Traffic):
        known |= _traffic(found.traffic, f"{source}, {found.traffic.answered} answers")
    if isinstance(found.sweep, Sweep) and isinstance(rate := answered(found), SloRate):
        known |= sweep_figures(rate, f"{source}, sweep {found.sweep.step!r}")
    elif isinstance(found.demand, DemandFit):
        known |= _fitted(found.demand, source)
    if case.fingerprint.simulated:
        return {name: replace(figure, kind="assumed", source=SIMULATED) for name, figure in known.items()}
    return known


def _source(case: Case) -> str:
    return f"{case.files} on {case.fingerprint.machine}"


def _traffic(seen: Traffic, source: str) -> dict[str, Figure]:
    cached = min(1.0, seen.cached_prompt_tokens / seen.prompt_tokens)
    return {
        "prompt_tokens": _figure(seen.prompt_tokens, "measured", source),
        "output_tokens": _figure(seen.output_tokens, "measured", source),
        "abstain_share": _figure(seen.abstain_share, "measured", source),
        "api_cached_share": _figure(cached, "modelled", f"{source}; a hosted cache that hits where ours did"),
    }


def _fitted(fit: DemandFit, source: str) -> dict[str, Figure]:
    try:
        return demand_figures(fit, fit.concurrencies[-1], f"{source}, fit of {fit.runs} shapes")
    except ModelError:
        return {}


def _figure(value: float, kind: Kind, source: str) -> Figure:
    return Figure(Decimal(f"{value:.6g}"), kind, source)


def _stated(figure: Figure) -> dict[str, Any]:
    held: dict[str, Any] = {"value": figure.value, "kind": figure.kind, "source": figure.source}
    if figure.low is not None and figure.high is not None:
        held |= {"low": figure.low, "high": figure.high}
    return held
