"""Runs a plan against a live endpoint, cell by cell, and keeps each cell's raw timings and counters as it ends."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from rich.console import Console

from benchmarks.errors import ResultsError
from benchmarks.experiments.plan import Cell, ExperimentPlan
from benchmarks.experiments.prompts import workload
from benchmarks.experiments.results import Results, ResultsFile, Run, head_of, read_results
from benchmarks.experiments.scrape import scrape
from benchmarks.experiments.target import Target, find_out
from benchmarks.load import run_load
from benchmarks.origin import commit
from benchmarks.plan import LoadPlan
from benchmarks.record import RequestRow

_TIMEOUT_S = 120
# What a request takes until one was timed.
_GUESS_S = 2.0


async def run_experiment(plan: ExperimentPlan, target: Target, out: Path, console: Console, command: str) -> Results:
    """Runs every cell that `out` does not hold yet and returns all of them.

    EndpointError when the endpoint cannot be used, ResultsError when a whole cell failed or `out` is of another
    experiment; what was finished stays in `out`, and the same command goes on from there.
    """
    for cell in plan.cells:
        workload(plan, cell)  # a prompts file that cannot be read must not cost an hour first
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        known = await find_out(session, target, plan.cells[0].load.model)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        head = head_of(plan, known.fingerprint, known.price, (command, commit(), started))
        file = ResultsFile(out, head)
        print_ = _Progress(plan, file.done, console)
        if known.fingerprint.simulated:
            console.print("SIMULATED: no model is behind this endpoint; a report will not call it measured")
        for cell in plan.cells:
            if cell.id not in file.done:
                print_.begin(cell)
                file.write(await _run(plan, cell, target, session, console))
                print_.end(cell)
    return read_results(out)


async def _run(
    plan: ExperimentPlan, cell: Cell, target: Target, session: aiohttp.ClientSession, console: Console
) -> Run:
    load = cell.load
    asked = LoadPlan(
        target.url,
        load.model,
        workload(plan, cell),
        concurrency=load.concurrency,
        rate=load.rate,
        duration_s=load.duration_s,
        requests=load.requests,
        max_tokens=load.max_tokens,
        ignore_eos=load.ignore_eos,
        seed=load.seed,
        timeout_s=load.timeout_s,
        slo=plan.objectives,
        api_key=target.api_key,
    )
    started = datetime.now(UTC).isoformat(timespec="seconds")
    before = await _counters(session, target)
    began = time.perf_counter()
    rows = (await run_load(asked, console)).rows
    wall_s = time.perf_counter() - began
    after = await _counters(session, target)
    _check(cell, rows)
    return Run(cell, started, round(wall_s, 3), rows, before, after)


def _check(cell: Cell, rows: Sequence[RequestRow]) -> None:
    """A cell without one good answer measured nothing: most likely the endpoint is gone."""
    if rows and not any(row.succeeded for row in rows):
        said = next((f"{row.outcome}: {row.error}" for row in rows), "")
        raise ResultsError(
            f"all {len(rows)} requests of {cell.id} failed ({said[:200]}); mend the endpoint, then run the same "
            "command again: what was finished is kept"
        )


async def _counters(session: aiohttp.ClientSession, target: Target) -> Mapping[str, float]:
    """The gateway's and the engine's together; an endpoint without them leaves less to derive."""
    urls = filter(None, (target.gateway_metrics, target.engine_metrics))
    return {name: value for url in urls for name, value in (await scrape(session, url) or {}).items()}


class _Progress:
    """Says which cell runs and how long the rest will take, from the cells that ended."""

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
        left = sum(self._expected_s(each) for each in self._left)
        number = self._total - len(self._left) + 1
        self._console.print(f"[{number}/{self._total}] {cell.id}, about {_clock(left)} left", markup=False)

    def end(self, cell: Cell) -> None:
        self._left.remove(cell)
        if cell.load.requests is not None:
            took = time.perf_counter() - self._began
            self._per_request_s = took * (cell.load.concurrency or 1) / cell.load.requests

    def _expected_s(self, cell: Cell) -> float:
        if cell.load.duration_s is not None:
            return cell.load.duration_s + self._per_request_s
        share = (cell.load.requests or 0) / (cell.load.concurrency or 1)
        return share * self._per_request_s if cell.load.rate is None else (cell.load.requests or 0) / cell.load.rate


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02} min"
