"""Runs that belong together: into one results file, onto one terminal."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.errors import MismatchError
from benchmarks.load.arrivals import Open
from benchmarks.load.files import ResultsFile
from benchmarks.load.plan import LoadPlan
from benchmarks.load.record import LoadResult
from benchmarks.load.run import run_load
from benchmarks.load.summary import Summary, summarise
from benchmarks.load.sweep import Search, long_enough, to_the_knee
from benchmarks.load.tables import print_summary, print_sweep
from benchmarks.origin import Origin

_APART = 10_000  # prompts between the runs of a sweep, which would else find the last run's in the prefix cache
Labels = dict[str, str | int | float]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Where runs go: `file` (None: nowhere) and `console`, which shows progress (None: silent)."""

    file: ResultsFile | None
    console: Console | None

    def run(self, plan: LoadPlan, labels: Labels | None = None) -> LoadResult:
        """Makes one run."""
        return asyncio.run(run_load(plan, self.console, self.file, labels))

    def sweep(self, plan: LoadPlan, search: Search, labels: Labels | None = None, repeats: int = 1) -> list[LoadResult]:
        """Open-loop runs up to the knee, whatever load the plan has; each rate `repeats` times, with other arrivals."""
        done: list[LoadResult] = []

        def at(rate: float) -> Summary:
            seconds = long_enough(rate, plan.duration_s or 0.0)
            burstiness = plan.load.burstiness if isinstance(plan.load, Open) else 1.0
            one = dataclasses.replace(plan, load=Open(rate, burstiness), duration_s=seconds, requests=None)
            if self.console:
                self.console.print(f"bench: {rate:g} requests/s for {seconds:.0f} s", highlight=False)
            for repeat in range(repeats):
                other = dataclasses.replace(one, seed=plan.seed + len(done), offset=_APART * len(done))
                done.append(self.run(other, {**(labels or {}), "repeat": repeat}))
            return summarise(_pooled(done[-repeats:]))

        to_the_knee(search, plan.slo, at)
        return done


@contextlib.contextmanager
def experiment(out: Path | None, command: str, console: Console | None = None) -> Iterator[Experiment]:
    """Runs made inside go to `out`, under the origin of `command`."""
    with ResultsFile(out, Origin.here(command)) if out else contextlib.nullcontext() as file:
        yield Experiment(file, console)


def bench(
    plan: LoadPlan, out: Path | None = None, console: Console | None = None, search: Search | None = None
) -> list[Summary]:
    """Runs the plan, or with `search` a sweep of it; stores the raw rows in `out`, prints and returns the summaries.

    Raises BenchmarkError, whose message is for the user: at the end, a MismatchError if the client and the servers
    counted different things. What was recorded is in the file then.
    """
    words = plan.command() + (f" --sweep # from {search.first:g} requests/s" if search else "")
    with experiment(out, words, Console(stderr=True)) as runs:
        results = runs.sweep(plan, search) if search else [runs.run(plan)]
    summaries = [summarise(result) for result in results]
    if search:
        print_sweep(summaries, console or Console())
    else:
        print_summary(summaries[0], console)
    if errors := [error for result in results for error in result.errors]:
        raise MismatchError(f"this run is no evidence; {errors[0]}")
    return summaries


def _pooled(results: list[LoadResult]) -> LoadResult:
    """Repeats as one run, for the search only."""
    rows = tuple(row for result in results for row in result.rows)
    return dataclasses.replace(results[0], rows=rows, counted=())
