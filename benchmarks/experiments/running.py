"""Runs a plan against a live endpoint, cell by cell, into one results file.

Each finished cell is a results file of its own beside the final one until all are there. So whatever interrupts an
experiment costs the cell that was running, and the same command goes on with it.
"""

import dataclasses
import json
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.errors import PlanError, ResultsError
from benchmarks.experiments.freshness import run_changes
from benchmarks.experiments.plan import Cell, ExperimentPlan
from benchmarks.experiments.prompts import workload
from benchmarks.experiments.results import Experiment, read_experiment
from benchmarks.load.arrivals import Closed, Open
from benchmarks.load.files import ResultsFile, read_results
from benchmarks.load.plan import LoadPlan
from benchmarks.load.record import LoadResult
from benchmarks.load.run import run_load
from benchmarks.load.targets import tenants
from benchmarks.origin import Origin

# What a request takes until one was timed.
_GUESS_S = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What an experiment runs against. `url` ends in /v1; `metrics`: Prometheus pages besides the endpoint's own."""

    url: str
    metrics: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)

    @property
    def pages(self) -> tuple[str, ...] | None:
        """All pages to read; None for the endpoint's own alone, if it has one."""
        own = self.url.rstrip("/").removesuffix("/v1") + "/metrics"
        return (own, *self.metrics) if self.metrics else None


async def run_experiment(
    plan: ExperimentPlan, endpoint: Endpoint, out: Path, console: Console, command: str
) -> Experiment:
    """Runs every cell that was not finished before, joins them into `out`, and returns what it holds.

    EndpointError when the endpoint cannot be used; ResultsError when a whole cell failed, or `out` holds another
    experiment. What was finished is kept.
    """
    if (held := finished(plan, out)) is not None:
        return held
    for cell in plan.cells:
        workload(plan, cell)  # a prompts file that cannot be read must not cost an hour first
    kept = _Kept(out, plan)
    progress = _Progress(plan, kept.done(), console)
    for cell in plan.cells:
        if not kept.has(cell):
            progress.begin(cell)
            await _run(plan, cell, endpoint, kept, console)
            progress.end(cell)
    kept.join(command)
    return read_experiment(out)


def finished(plan: ExperimentPlan, out: Path) -> Experiment | None:
    """What `out` holds, if it is all of this plan; None without such a file. ResultsError if it is of another plan."""
    if not out.exists():
        return None
    held = read_experiment(out)
    if held.digest != plan.digest:
        raise ResultsError(
            f"{out} holds results of another plan, or of this one before it was changed; name another file with --out"
        )
    return held


async def _run(plan: ExperimentPlan, cell: Cell, endpoint: Endpoint, kept: "_Kept", console: Console) -> None:
    part = kept.path(cell)
    try:
        with ResultsFile(part, Origin.here(f"breakeven experiment run {plan.name}")) as file:
            load, labels = _load_plan(plan, cell, endpoint), _labels(plan, cell)
            changing = cell.kind == "change"
            result = await (run_changes(load, file, labels) if changing else run_load(load, console, file, labels))
        _check(cell, result)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for error in result.errors:
        console.print(f"warning: {cell.id} is no evidence and will be left out: {error}", markup=False)


def _load_plan(plan: ExperimentPlan, cell: Cell, endpoint: Endpoint) -> LoadPlan:
    load = cell.load
    return LoadPlan(
        url=endpoint.url,
        targets=load.targets,
        workload=workload(plan, cell),
        load=Open(load.rate) if load.rate is not None else Closed(load.concurrency or 1),
        duration_s=load.duration_s,
        requests=load.requests,
        max_tokens=load.max_tokens,
        ignore_eos=load.ignore_eos,
        seed=load.seed,
        warmup=load.warmup,
        timeout_s=load.timeout_s,
        slo=plan.objectives,
        tenants=tenants(None, endpoint.api_key),
        metrics=endpoint.pages,
    )


def _labels(plan: ExperimentPlan, cell: Cell) -> dict[str, str | int | float]:
    return {
        "plan": plan.name,
        "digest": plan.digest,
        "cells": len(plan.cells),
        "cell": cell.id,
        "step": cell.step,
        "kind": cell.kind,
        "variant": cell.variant,
        "repeat": cell.repeat,
    }


def _check(cell: Cell, result: LoadResult) -> None:
    """A cell without one good answer measured nothing: most likely the endpoint is gone."""
    if not any(row.succeeded for row in result.rows):
        said = next((f"{row.outcome}: {row.error}" for row in result.rows), "no request was sent; run it longer")
        raise ResultsError(
            f"all {len(result.rows)} requests of {cell.id} failed ({said[:200]}); mend the endpoint, then run the same "
            "command again: what was finished is kept"
        )


class _Kept:
    """The finished cells of an experiment on its way to `out`, in a folder beside it."""

    def __init__(self, out: Path, plan: ExperimentPlan) -> None:
        self._out, self._plan = out, plan
        self._folder = out.with_name(f"{out.name}.parts")
        mark = self._folder / "plan.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if mark.exists() and json.loads(mark.read_text())["digest"] != plan.digest:
                raise ResultsError(
                    f"{self._folder} holds the beginning of another plan; remove it, or name another file with --out"
                )
            mark.write_text(json.dumps({"plan": plan.name, "digest": plan.digest}))
        except OSError as error:
            raise ResultsError(
                f"cannot write {self._folder} ({error.strerror}); name another file with --out"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{mark} is damaged; remove {self._folder}") from error

    def path(self, cell: Cell) -> Path:
        """Where a cell is kept."""
        number = self._plan.cells.index(cell)
        return self._folder / f"{number:03}-{re.sub(r'[^a-zA-Z0-9._-]+', '-', cell.id)[:80]}.jsonl"

    def has(self, cell: Cell) -> bool:
        """Whether a cell is finished; what an interruption left of it is removed."""
        path = self.path(cell)
        if not path.exists():
            return False
        try:
            read_results(path)
        except PlanError:
            path.unlink()
            return False
        return True

    def done(self) -> frozenset[str]:
        """The ids of the finished cells."""
        return frozenset(cell.id for cell in self._plan.cells if self.has(cell))

    def join(self, command: str) -> None:
        """Puts all cells into the final file, which is there whole or not at all."""
        parts = [read_results(self.path(cell)) for cell in self._plan.cells]
        origin = dataclasses.replace(parts[0].origin, command=command)
        whole = self._folder / self._out.name
        whole.unlink(missing_ok=True)
        with ResultsFile(whole, origin) as file:
            for run in (run for part in parts for run in part.runs):
                file.begin(run.header)
                for row in run.rows:
                    file.write(row)
                file.end(run)
        whole.replace(self._out)
        shutil.rmtree(self._folder)


class _Progress:
    """Says which cell runs and how long the rest will take, judging by the cells that ended."""

    def __init__(self, plan: ExperimentPlan, done: frozenset[str], console: Console) -> None:
        self._left = [cell for cell in plan.cells if cell.id not in done]
        self._total = len(plan.cells)
        self._console = console
        self._per_request_s = _GUESS_S
        self._began = 0.0
        if done:
            console.print(f"going on: {len(done)} of {self._total} cells are there already", markup=False)

    def begin(self, cell: Cell) -> None:
        self._began = time.perf_counter()
        left = round(sum(self._expected_s(each) for each in self._left))
        number = self._total - len(self._left) + 1
        self._console.print(
            f"[{number}/{self._total}] {cell.id}, about {left // 60}:{left % 60:02} min left",
            markup=False,
            highlight=False,
        )

    def end(self, cell: Cell) -> None:
        self._left.remove(cell)
        if cell.load.rate is None and cell.load.requests is not None:
            took = time.perf_counter() - self._began
            self._per_request_s = took * (cell.load.concurrency or 1) / cell.load.requests

    def _expected_s(self, cell: Cell) -> float:
        load = cell.load
        if load.duration_s is not None:
            return load.duration_s + self._per_request_s
        requests = load.requests or 0
        return requests / load.rate if load.rate else requests * self._per_request_s / (load.concurrency or 1)
