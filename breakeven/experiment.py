"""`breakeven experiment`: a plan of loads against a live endpoint, into one results file."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import PlanError
from benchmarks.experiments.engine import engine_metrics
from benchmarks.experiments.plan import read_plan
from benchmarks.experiments.running import Endpoint, finished, run_experiment
from breakeven.console import Config, console, output
from breakeven.own_stack import own_stack
from retrieval.lock import OwnerLock
from serving.access import gateway_url
from serving.sections import Settings
from serving.settings import client_api_key, load_settings

app = typer.Typer(help="Run experiments.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Run experiments."""


@app.command("run")
def run(
    plan: Annotated[Path, typer.Argument(help="A plan such as benchmarks/plans/small.yaml.")],
    url: Annotated[str | None, typer.Option(help="OpenAI base URL; default: the running gateway's.")] = None,
    metrics: Annotated[list[str] | None, typer.Option(help="Prometheus page besides the endpoint's, vLLM's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results file; default: PLAN-DATE.jsonl.gz here.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Start the stack for it, and stop it afterwards.")] = False,
    config: Config = None,
) -> None:
    """Run a plan of loads and store raw timings and counters.

    What an interruption leaves is kept: the same command goes on from there.
    """
    read = read_plan(plan)
    if serve and url:
        raise PlanError("give either --url, of an endpoint that runs, or --serve")
    target = out or Path(f"{read.name}-{datetime.now(UTC).date()}.jsonl.gz")
    settings = load_settings(config)
    command = f"breakeven experiment run {plan.name}{' --serve' if serve else ''}"
    found = finished(read, target)
    if found is not None:
        console.print(f"{target} holds all of this plan already; remove it to measure again")
    else:
        with _endpoint(settings, config, url, tuple(metrics or ()), serve=serve) as endpoint:
            found = asyncio.run(run_experiment(read, endpoint, target, console, command))
    if found.fingerprint.simulated:
        output.print("SIMULATED: no model is behind this endpoint; the report will not call it measured")
    output.print(f"{target}: {len(found.runs)} runs on {found.fingerprint.machine}")
    output.print(f"next: breakeven report {target}")


@contextlib.contextmanager
def _endpoint(
    settings: Settings, config: Path | None, url: str | None, metrics: tuple[str, ...], *, serve: bool
) -> Iterator[Endpoint]:
    key = client_api_key()
    if serve:
        with own_stack(config, settings.home / "logs" / "experiment.log", console) as (address, process):
            yield Endpoint(address, metrics or _pages(process), key)
        return
    owner = OwnerLock(settings.home / "store.lock").owner()
    pages = metrics or (_pages(owner.pid) if owner is not None and url is None else ())
    yield Endpoint(url or gateway_url(settings), pages, key)


def _pages(process: int) -> tuple[str, ...]:
    page = engine_metrics(process)
    return (page,) if page else ()
