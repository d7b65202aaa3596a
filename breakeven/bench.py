"""`breakeven bench`: load on any OpenAI endpoint."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load.run import bench as run_bench
from benchmarks.load.plan import LoadPlan, Slo
from benchmarks.load.workload import questions, synthetic
from breakeven.console import Config, output
from serving.access import gateway_url
from serving.settings import client_api_key, load_settings


def bench(
    model: Annotated[str, typer.Option(help="Served model.")],
    url: Annotated[str | None, typer.Option(help="OpenAI base URL; default: the running gateway's.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Closed loop: requests at a time.")] = None,
    rate: Annotated[float | None, typer.Option(help="Open loop: requests per second, Poisson.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds to run.")] = None,
    requests: Annotated[int | None, typer.Option(help="Requests to send.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL of questions; default: made-up prompts.")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="Length of made-up prompts.")] = 256,
    max_tokens: Annotated[int, typer.Option(help="Tokens to generate at most.")] = 128,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Always generate max-tokens.")] = False,
    stream: Annotated[bool, typer.Option(help="Stream the answers.")] = True,
    slo_ttft: Annotated[float | None, typer.Option(help="Objective: seconds to the first token.")] = None,
    slo_e2e: Annotated[float | None, typer.Option(help="Objective: seconds to the end.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrivals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSONL file for the raw timings.")] = None,
    config: Config = None,
) -> None:
    """Measure throughput, latency and cost per query of an OpenAI endpoint."""
    plan = LoadPlan(
        url or gateway_url(load_settings(config)),
        model,
        questions(prompts) if prompts else synthetic(prompt_tokens, seed),
        concurrency=concurrency,
        rate=rate,
        duration_s=duration,
        requests=requests,
        stream=stream,
        max_tokens=max_tokens,
        ignore_eos=ignore_eos,
        seed=seed,
        slo=Slo(slo_ttft, slo_e2e),
        api_key=client_api_key(),
    )
    run_bench(plan, out, output)
