"""What the plan is computed from: figures of the results files, with their sources. Nothing is typed by hand.

What was not measured is None, and the page says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.economics.demand_fit import DemandFit
from benchmarks.economics.figures import Figure, bounded
from benchmarks.economics.sweep import SloRate
from benchmarks.errors import PriceError, ResultsError
from benchmarks.experiments.findings import Findings, Level, Sweep, Traffic, answered, findings
from benchmarks.experiments.results import Experiment, Run, read_experiment
from benchmarks.load.plan import Slo
from benchmarks.prices import GpuPrice, PriceBook
from benchmarks.scale_plan.replica import Demand

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
# Answers at a time: the gateway's default for an engine on a CPU, and vLLM's own for one on a GPU.
_SLOTS = {True: 256, False: 32}


@dataclass(frozen=True, slots=True)
class Engine:
    """One replica, measured: its rate within the objectives and its demand by shape, for queries of these tokens."""

    name: str
    machine: str
    gpu: bool
    objectives: Slo
    rate: SloRate
    fit: DemandFit
    demand: Demand
    prompt_tokens: float
    output_tokens: float
    levels: tuple[Level, ...]
    run_s: float
    price: GpuPrice
    source: str

    @property
    def full_queries_per_s(self) -> float:
        """At saturation, modelled from the demand."""
        return self.demand.full_queries_per_s(self.prompt_tokens, self.output_tokens)

    @property
    def figure(self) -> Figure:
        """Queries per second within the objectives."""
        rate = self.rate
        return bounded(
            rate.low or rate.queries_per_s, rate.queries_per_s, rate.high or rate.queries_per_s, "measured", self.source
        )


@dataclass(frozen=True, slots=True)
class GatewayCost:
    """Processor seconds of a gateway, and its memory."""

    request_s: Figure
    token_s: Figure
    retrieval_s: Figure
    memory_mib: Figure


@dataclass(frozen=True, slots=True)
class Corpus:
    """A knowledge base of a size: seconds of a core per search by vectors, memory that the store holds."""

    passages: int
    dense_s: Figure
    memory_mib: Figure


@dataclass(frozen=True, slots=True)
class LedgerCost:
    """Of PostgreSQL: what one request leaves on disk, and how many rows it takes per second from one writer."""

    bytes_per_request: Figure
    log_bytes_per_request: Figure
    rows_per_s: Figure


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it."""

    cpu: Engine | None
    gpu: Engine | None
    gateway: GatewayCost
    corpora: tuple[Corpus, ...]
    ledger: LedgerCost | None
    ready_s: Figure

    @property
    def engine(self) -> Engine | None:
        """What a plan is made of: a GPU where one was measured."""
        return self.gpu or self.cpu


def measured(book: PriceBook, results: Path = RESULTS) -> Measured:
    """Of a folder of results. ResultsError when one that is there cannot be read."""
    try:
        return Measured(
            cpu=_engine(sorted((results / "experiments").glob("cpu-*.jsonl*")), book, gpu=False),
            gpu=_engine(sorted((results / "gpu").glob("*.jsonl*")), book, gpu=True),
            gateway=_gateway(results),
            corpora=tuple(_corpora(results / "retrieval")),
            ledger=_ledger(results / "ledger" / "ledger.json"),
            ready_s=_ready(results / "engine" / "flags.json"),
        )
    except (OSError, KeyError, ValueError, StopIteration) as error:
        raise ResultsError(f"a results file below {results.name} is missing or damaged: {error!r}") from error


def _engine(paths: Sequence[Path], book: PriceBook, *, gpu: bool) -> Engine | None:
    """The first machine whose files hold a sweep up to its objectives and a grid of shapes."""
    held = [found for path in paths if (found := _read(path, gpu)) is not None]
    by_machine: dict[tuple[str, str], list[Experiment]] = {}
    for each in held:
        by_machine.setdefault((each.fingerprint.machine, each.fingerprint.base_model), []).append(each)
    for experiments in by_machine.values():
        swept = [each for each in experiments if any(run.kind == "sweep" for run in each.runs)]
        for each in swept:
            grid = [run for other in experiments for run in other.runs if run.kind == "grid"]
            runs = [run for run in each.runs if run.kind == "sweep"] + grid
            if (engine := _of(each, runs, book)) is not None:
                return engine
    return None


def _read(path: Path, gpu: bool) -> Experiment | None:
    try:
        experiment = read_experiment(path)
    except ResultsError:
        return None  # a stage without requests, or several engines: it measures no replica
    held = experiment.fingerprint
    return experiment if held.gpu == gpu and not held.simulated else None


def _of(experiment: Experiment, runs: Sequence[Run], book: PriceBook) -> Engine | None:
    found: Findings = findings(runs, experiment.objectives)
    rate = answered(found)
    if not (isinstance(found.sweep, Sweep) and isinstance(found.traffic, Traffic)):
        return None
    if not (isinstance(rate, SloRate) and isinstance(found.demand, DemandFit)):
        return None
    held, origin = experiment.fingerprint, experiment.origin
    return Engine(
        name=f"{held.base_model}, {held.engine}",
        machine=held.machine,
        gpu=held.gpu,
        objectives=experiment.objectives,
        rate=rate,
        fit=found.demand,
        demand=Demand.of(found.demand, _SLOTS[held.gpu]),
        prompt_tokens=found.traffic.prompt_tokens,
        output_tokens=found.traffic.output_tokens,
        levels=found.sweep.levels,
        run_s=max(row.scheduled_s for run in runs if run.kind == "sweep" for row in run.rows),
        price=_price(experiment, book),
        source=f"{experiment.name} at {origin.commit}, {experiment.day}",
    )


def _price(experiment: Experiment, book: PriceBook) -> GpuPrice:
    if not experiment.fingerprint.gpu:
        return book.cpu
    try:
        return book.gpu_for(experiment.origin.gpus[0].name)
    except PriceError:
        return replace(book.cpu, id="unpriced", usd_per_hour=Decimal(0))


def _gateway(results: Path) -> GatewayCost:
    page, asked = results / "gateway" / "gateway.json", results / "retrieval" / "rag-load.json"
    document, rag = _json(page), _json(asked)
    ours = next(each for each in document["gateways"] if each["name"] == "Breakeven")
    loads = {load["load"]["name"]: load for load in ours["loads"]}
    plain = loads["64 connections"]
    request_s = plain["cpu_s"] / plain["reqs"]
    # The dearer of the two loads of streams; what their requests cost by themselves is taken off.
    token_s = max(
        (load["cpu_s"] - request_s * load["chunks"] / load["ntok"]) / load["chunks"]
        for load in (loads["64 streams"], loads["200 streams"])
    )
    busiest = max(rag["own_share"], key=lambda share: float(share["requests_per_s"]))
    retrieval_s = rag["origin"]["cores"] / busiest["requests_per_s"]
    source, rag_source = _source(page, document), _source(asked, rag)
    return GatewayCost(
        _figure(request_s, source),
        _figure(token_s, source),
        _figure(retrieval_s, f"{rag_source}: all cores of the machine, load generator included, so at most this"),
        _figure(max(load["rss_mb"] for load in ours["loads"]), source),
    )


def _corpora(folder: Path) -> Sequence[Corpus]:
    found = []
    for path in folder.glob("latency-*.json"):
        held = _json(path)
        dense_s = held["latency_ms"]["hybrid"]["dense"]["p50"] / 1000
        source = _source(path, held)
        found.append(Corpus(held["passages"], _figure(dense_s, source), _figure(held["store_mib"], source)))
    return sorted(found, key=lambda corpus: corpus.passages)


def _ledger(path: Path) -> LedgerCost | None:
    if not path.is_file():
        return None
    held = _json(path)
    found = held.get("postgresql")
    if found is None:
        return None
    source = _source(path, held)
    names = ("bytes_per_request", "log_bytes_per_request", "rows_per_s")
    return LedgerCost(*(_figure(found[name], source) for name in names))


def _ready(path: Path) -> Figure:
    held = _json(path)
    slowest = max(variant["ready_s"] for variant in held["variants"])
    return _figure(slowest, f"{_source(path, held)}: the slowest variant; the model on disk, no image to pull")


def _json(path: Path) -> Mapping[str, Any]:
    held: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return held


def _source(path: Path, held: Mapping[str, Any]) -> str:
    origin = held["origin"]
    return f"{path.parent.name}/{path.name} at {origin['commit']}, {origin['started_at'][:10]}"


def _figure(value: float, source: str) -> Figure:
    return Figure(Decimal(repr(float(value))), "measured", source)
