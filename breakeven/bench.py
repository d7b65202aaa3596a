"""`breakeven bench`: load on any OpenAI endpoint."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.errors import PlanError
from benchmarks.load.arrivals import Closed, Load, Open
from benchmarks.load.experiment import bench as run_bench
from benchmarks.load.plan import LoadPlan, Slo
from benchmarks.load.summary import Summary
from benchmarks.load.sweep import Search
from benchmarks.load.targets import targets, tenants
from benchmarks.load.text import Text
from benchmarks.load.trace import replay
from benchmarks.load.workload import Workload, questions, rag, shared_prefix, synthetic
from breakeven.console import Config, console, output
from serving.access import gateway_url
from serving.settings import client_api_key, load_settings

Kind = Literal["random", "shared-prefix", "rag"]


def bench(
    model: Annotated[list[str], typer.Option(help="Served model; several are mixed, by weight if given: support=3.")],
    url: Annotated[str | None, typer.Option(help="OpenAI base URL; default: the running gateway's.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Closed loop: requests at a time.")] = None,
    rate: Annotated[float | None, typer.Option(help="Open loop: requests per second, Poisson.")] = None,
    burstiness: Annotated[float, typer.Option(help="Open loop: 1 is Poisson, below it requests come in bursts.")] = 1.0,
    sweep: Annotated[float | None, typer.Option(help="Sweep to the knee, from so many requests per second.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Replay this CSV: TIMESTAMP,ContextTokens,GeneratedTokens.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Replay so many times as fast.")] = 1.0,
    window: Annotated[str | None, typer.Option(help="Part of the trace, FROM:TO in its seconds.")] = None,
    longest: Annotated[int | None, typer.Option(help="Cut the trace's longer prompts to so many tokens.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds to run (of each rate of a sweep).")] = None,
    requests: Annotated[int | None, typer.Option(help="Requests to send.")] = None,
    warmup: Annotated[int, typer.Option(help="Requests before the run, not counted.")] = 0,
    workload: Annotated[Kind, typer.Option(help="Shape of made-up prompts.")] = "random",
    prompts: Annotated[Path | None, typer.Option(help="JSONL of questions instead of made-up prompts.")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="Length of made-up prompts.")] = 256,
    prefix_tokens: Annotated[int, typer.Option(help="shared-prefix: how much of it is shared.")] = 128,
    prefixes: Annotated[int, typer.Option(help="How many prefixes (shared-prefix) or topics (rag).")] = 1,
    tokenizer: Annotated[Path | None, typer.Option(help="Model folder, for prompts of exact length.")] = None,
    keys: Annotated[Path | None, typer.Option(help="API keys, one a line, for several tenants.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens to generate at most.")] = 128,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Always generate max-tokens.")] = False,
    stream: Annotated[bool, typer.Option(help="Stream the answers.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds until a request has failed.")] = 120.0,
    slo_ttft: Annotated[float | None, typer.Option(help="Objective: seconds to the first token.")] = None,
    slo_itl: Annotated[float | None, typer.Option(help="Objective: seconds between tokens, mean of an answer.")] = None,
    slo_e2e: Annotated[float | None, typer.Option(help="Objective: seconds to the end.")] = None,
    metrics: Annotated[list[str] | None, typer.Option(help="Prometheus page; default: the endpoint's own.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrivals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the raw timings: .jsonl or .jsonl.gz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    config: Config = None,
) -> None:
    """Measure throughput, latency, goodput and cost per query of an OpenAI endpoint."""
    text = Text.from_model(tokenizer) if tokenizer else Text()
    load, source = _load((concurrency, rate, sweep, trace), burstiness), None
    if trace is not None:
        load, source = replay(trace, speed, window, text, longest=longest, seed=seed)
    elif prompts is not None:
        source = questions(prompts)
    plan = LoadPlan(
        url=url or gateway_url(load_settings(config)),
        targets=targets(model),
        workload=source or _made_up(workload, prompt_tokens, prefix_tokens, prefixes, seed, text),
        load=load,
        duration_s=duration,
        requests=requests,
        stream=stream,
        max_tokens=max_tokens,
        ignore_eos=ignore_eos,
        seed=seed,
        warmup=warmup,
        timeout_s=timeout,
        slo=Slo(slo_ttft, slo_e2e, slo_itl),
        tenants=tenants(keys, client_api_key()),
        metrics=tuple(metrics) if metrics else None,
    )
    summaries = run_bench(plan, out, console if as_json else output, Search(sweep) if sweep else None)
    if as_json:
        output.print_json(json.dumps([_document(summary) for summary in summaries], default=str))


def _load(chosen: tuple[int | None, float | None, float | None, Path | None], burstiness: float) -> Load:
    concurrency, rate, sweep, trace = chosen
    if sum(each is not None for each in (concurrency, rate, sweep, trace)) != 1:
        raise PlanError(
            "give one of --concurrency (closed loop), --rate (open loop), --sweep (rates up to the knee) and --trace"
        )
    if concurrency is not None:
        return Closed(concurrency)
    return Open(rate if rate is not None else sweep if sweep is not None else 1.0, burstiness)


def _made_up(kind: Kind, tokens: int, prefix: int, prefixes: int, seed: int, text: Text) -> Workload:
    if kind == "random":
        return synthetic(tokens, seed, text)
    return rag(tokens, prefixes, seed, text) if kind == "rag" else shared_prefix(tokens, prefix, prefixes, seed, text)


def _document(summary: Summary) -> dict[str, object]:
    return {**dataclasses.asdict(summary), "goodput_per_s": summary.goodput_per_s}
