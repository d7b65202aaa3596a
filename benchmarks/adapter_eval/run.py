"""One evaluation from start to finish: find the served model, ask, judge, compare, print, put into the manifest."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.gate import COST, LATENCY
from adapters.manifest import Measurement, Score
from adapters.registry import AdapterVersion, Registry
from benchmarks.adapter_eval.endpoint import Endpoint, Offered, ask_all, offered
from benchmarks.adapter_eval.figures import Figure, mean
from benchmarks.adapter_eval.kept import Kept
from benchmarks.adapter_eval.questions import Question, TaskError
from benchmarks.adapter_eval.task import Answer, Scored, Task
from benchmarks.origin import Origin
from benchmarks.result_file import keep


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate: an adapter, or the served model `served` as it is; with both, the adapter as `served` serves
    it. `against` is another one to ask the same; `work` keeps answers; `command` is the evaluation
    as anyone can repeat it."""

    adapter: AdapterVersion | None
    endpoint: Endpoint
    work: Path
    command: str
    served: str | None = None
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One task's. `against` has the other model's figures under the same names; `compared` those of both together."""

    task: str
    adapter: str | None
    served: str
    questions: int
    refused: int
    simulated: bool
    figures: Sequence[Figure]
    compared: Sequence[Figure]
    against_model: str | None
    against: Sequence[Figure]
    detail: dict[str, Any]
    notes: Sequence[str]
    concurrency: int
    origin: Origin

    @property
    def manifest_entries(self) -> list[Score | Measurement]:
        """What belongs into the version's manifest; nothing if no model was behind the answers."""
        if self.simulated:
            return []
        origin = self.origin
        return [figure.entry(origin.command, origin.commit) for figure in (*self.figures, *self.compared)]


def evaluate(plan: Plan, tasks: Sequence[Task], registry: Registry, out: Path | None, output: Console) -> list[Result]:
    """Every task, in order; each is in the manifest and in `out` as soon as it is done. Raises BenchmarkError."""
    questions = [task.questions() for task in tasks]  # all files are read before anything is asked
    served, base = asyncio.run(_find(plan, any(task.needs_base for task in tasks)))
    results = []
    for task, asked in zip(tasks, questions, strict=True):
        against = plan.against or (base if task.needs_base else None)
        result = asyncio.run(_evaluate(plan, task, asked, served, against))
        _show(result, output)
        if plan.adapter is not None:
            _keep(result, registry, plan.adapter)
        results.append(result)
        keep(results, out)
    return results


async def _find(plan: Plan, needs_base: bool) -> tuple[str, str | None]:
    models = await offered(plan.endpoint)
    base = next((model.id for model in models if model.alone and model.adapter is None), None)
    if needs_base and plan.against is None and base is None:
        raise TaskError("no served model is the plain base model: give one with --against")
    return plan.served or _serving(models, plan.adapter), base


def _serving(models: Sequence[Offered], adapter: AdapterVersion | None) -> str:
    """A served model with this adapter and nothing else, or the version itself, which operators can ask by its name."""
    if adapter is None:
        raise TaskError("name an adapter or a served model to evaluate")
    engine_name = adapter.engine_name
    return next((model.id for model in models if model.adapter == engine_name and model.alone), engine_name)


async def _evaluate(plan: Plan, task: Task, questions: Sequence[Question], served: str, against: str | None) -> Result:
    origin = Origin.here(plan.command)
    answers, scored = await _ask(plan, task, questions, served)
    if plan.adapter is not None:
        _require_version(answers, plan.adapter.engine_name, served)
    compared: Sequence[Figure] = ()
    theirs: Sequence[Figure] = ()
    if against is not None:
        others, judged = await _ask(plan, task, questions, against)
        compared, theirs = task.compare(questions, answers, others), _named(task, judged)
    return Result(
        task=task.name,
        adapter=plan.adapter.engine_name if plan.adapter else None,
        served=served,
        questions=len(questions),
        refused=sum(answer.error is not None for answer in answers),
        simulated=any(answer.simulated for answer in answers),
        figures=[*_named(task, scored), *_service(answers)],
        compared=compared,
        against_model=against,
        against=theirs,
        detail=dict(scored.detail),
        notes=scored.notes,
        concurrency=plan.endpoint.concurrency,
        origin=origin,
    )


async def _ask(plan: Plan, task: Task, questions: Sequence[Question], model: str) -> tuple[list[Answer], Scored]:
    columns = (TextColumn(f"{task.name}: {{task.description}}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    folder = plan.work / (plan.adapter.engine_name if plan.adapter else "models")
    with Kept(folder, f"{task.name}-{model.replace('/', '-')}") as kept, bar as progress:
        answers = await ask_all(plan.endpoint, model, task.asks(questions), kept, progress)
        scored = task.score(questions, answers)
        kept.finish()
    return answers, scored


def _require_version(answers: Sequence[Answer], engine_name: str, served: str) -> None:
    """Raises TaskError if another version answered: a canary, or prod after a promotion."""
    if others := {answer.adapter for answer in answers if answer.adapter is not None} - {engine_name}:
        raise TaskError(
            f"`{served}` answered with {', '.join(sorted(others))}, not with {engine_name}: ask for the version itself "
            f"with --model {engine_name} and an operator's key"
        )


def _named(task: Task, scored: Scored) -> list[Figure]:
    return [
        Figure(f"{task.name}.{each.name}", each.value, each.n, each.low, each.high, each.unit)
        for each in scored.figures
    ]


def _service(answers: Sequence[Answer]) -> list[Figure]:
    """What an answer took and cost. Of the cost only the busy share: idle time says nothing about an adapter."""
    whole = [answer for answer in answers if answer.error is None and answer.logprob is None]
    costs = [float(answer.usage_usd) for answer in whole if answer.usage_usd is not None]
    figures = [mean(LATENCY, [answer.seconds for answer in whole], "s")] if whole else []
    return [*figures, *([mean(COST, costs, "USD")] if costs else [])]


def _show(result: Result, output: Console) -> None:
    what = f"{result.task}: {result.questions} questions to {result.served}"
    what += f" ({result.adapter})" if result.adapter else ""
    output.print(what, markup=False)
    if result.simulated:
        kept = "; nothing goes into the manifest" if result.adapter else ""
        output.print(f"  SIMULATED: no model is behind these answers{kept}")
    if result.refused:
        output.print(f"  {result.refused} requests were refused and count as wrong")
    theirs = {figure.name: figure for figure in result.against}
    for figure in (*result.figures, *result.compared):
        other = theirs.get(figure.name)
        against = f"   {result.against_model}: {other.value:.4g} ({other.low:.4g} to {other.high:.4g})" if other else ""
        output.print(f"  {figure}{against}", markup=False)
    for note in result.notes:
        output.print(f"  {note}", markup=False)


def _keep(result: Result, registry: Registry, adapter: AdapterVersion) -> None:
    entries = result.manifest_entries
    if entries:
        registry.annotate(
            adapter.name,
            adapter.version,
            [each for each in entries if isinstance(each, Score)],
            [each for each in entries if isinstance(each, Measurement)],
        )
