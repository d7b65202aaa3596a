"""`breakeven bench`: load on any OpenAI endpoint."""

from dataclasses import asdict, dataclass
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
from breakeven.console import Config, console, output, print_json
from breakeven.options import grouped
from serving.access import gateway_url
from serving.settings import client_api_key, load_settings

Kind = Literal["random", "shared-prefix", "rag"]


@dataclass(frozen=True)
class Endpoint:
    """What is measured"""

    model: Annotated[list[str], typer.Option(help="Served model; several are mixed, by weight if given: support=3.")]
    url: Annotated[str | None, typer.Option(help="OpenAI base URL; default: the running gateway's.")] = None
    keys: Annotated[Path | None, typer.Option(help="API keys, one a line, for several tenants.")] = None
    metrics: Annotated[list[str] | None, typer.Option(help="Prometheus page; default: the endpoint's own.")] = None


@dataclass(frozen=True)
class Arrivals:
    """When requests come"""

    concurrency: Annotated[int | None, typer.Option(help="Closed loop: requests at a time.")] = None
    rate: Annotated[float | None, typer.Option(help="Open loop: requests per second, Poisson.")] = None
    burstiness: Annotated[float, typer.Option(help="Open loop: 1 is Poisson, below it requests come in bursts.")] = 1.0
    sweep: Annotated[float | None, typer.Option(help="Sweep to the knee, from so many requests per second.")] = None
    duration: Annotated[float | None, typer.Option(help="Seconds to run (of each rate of a sweep).")] = None
    requests: Annotated[int | None, typer.Option(help="Requests to send.")] = None
    warmup: Annotated[int, typer.Option(help="Requests before the run, not counted.")] = 0
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrivals.")] = 0

    def load(self, replayed: "Replay") -> Load:
        """Raises PlanError unless exactly one way was chosen."""
        if sum(each is not None for each in (self.concurrency, self.rate, self.sweep, replayed.trace)) != 1:
            raise PlanError(
                "give one of --concurrency (closed loop), --rate (open loop), --sweep (rates up to the knee) and "
                "--trace"
            )
        if self.concurrency is not None:
            return Closed(self.concurrency)
        return Open(next((rate for rate in (self.rate, self.sweep) if rate is not None), 1.0), self.burstiness)


@dataclass(frozen=True)
class Replay:
    """A trace instead"""

    trace: Annotated[Path | None, typer.Option(help="Replay this CSV: TIMESTAMP,ContextTokens,GeneratedTokens.")] = None
    speed: Annotated[float, typer.Option(help="Replay so many times as fast.")] = 1.0
    window: Annotated[str | None, typer.Option(help="Part of the trace, FROM:TO in its seconds.")] = None
    longest: Annotated[int | None, typer.Option(help="Cut the trace's longer prompts to so many tokens.")] = None


@dataclass(frozen=True)
class Prompts:
    """What is asked"""

    workload: Annotated[Kind, typer.Option(help="Shape of made-up prompts.")] = "random"
    prompts: Annotated[Path | None, typer.Option(help="JSONL of questions instead of made-up prompts.")] = None
    prompt_tokens: Annotated[int, typer.Option(help="Length of made-up prompts.")] = 256
    prefix_tokens: Annotated[int, typer.Option(help="shared-prefix: how much of it is shared.")] = 128
    prefixes: Annotated[int, typer.Option(help="How many prefixes (shared-prefix) or topics (rag).")] = 1
    tokenizer: Annotated[Path | None, typer.Option(help="Model folder, for prompts of exact length.")] = None

    def source(self, seed: int, text: Text) -> Workload:
        """From a file, or made up."""
        if self.prompts is not None:
            return questions(self.prompts)
        if self.workload == "random":
            return synthetic(self.prompt_tokens, seed, text)
        if self.workload == "rag":
            return rag(self.prompt_tokens, self.prefixes, seed, text)
        return shared_prefix(self.prompt_tokens, self.prefix_tokens, self.prefixes, seed, text)


@dataclass(frozen=True)
class Answers:
    """What is answered"""

    max_tokens: Annotated[int, typer.Option(help="Tokens to generate at most.")] = 128
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Always generate max-tokens.")] = False
    stream: Annotated[bool, typer.Option(help="Stream the answers.")] = True
    timeout: Annotated[float, typer.Option(help="Seconds until a request has failed.")] = 120.0


@dataclass(frozen=True)
class Objectives:
    """Objectives"""

    slo_ttft: Annotated[float | None, typer.Option(help="Seconds to the first token.")] = None
    slo_itl: Annotated[float | None, typer.Option(help="Seconds between tokens, mean of an answer.")] = None
    slo_e2e: Annotated[float | None, typer.Option(help="Seconds to the end.")] = None


@grouped
def bench(
    endpoint: Endpoint,
    arrivals: Arrivals,
    replayed: Replay,
    asked: Prompts,
    answers: Answers,
    objectives: Objectives,
    out: Annotated[Path | None, typer.Option(help="File for the raw timings: .jsonl or .jsonl.gz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    config: Config = None,
) -> None:
    """Measure throughput, latency, goodput and cost per query of an OpenAI endpoint."""
    text = Text.from_model(asked.tokenizer) if asked.tokenizer else Text()
    load, workload = arrivals.load(replayed), None
    if replayed.trace is not None:
        load, workload = replay(
            replayed.trace, replayed.speed, replayed.window, text, longest=replayed.longest, seed=arrivals.seed
        )
    plan = LoadPlan(
        url=endpoint.url or gateway_url(load_settings(config)),
        targets=targets(endpoint.model),
        workload=workload or asked.source(arrivals.seed, text),
        load=load,
        duration_s=arrivals.duration,
        requests=arrivals.requests,
        stream=answers.stream,
        max_tokens=answers.max_tokens,
        ignore_eos=answers.ignore_eos,
        seed=arrivals.seed,
        warmup=arrivals.warmup,
        timeout_s=answers.timeout,
        slo=Slo(objectives.slo_ttft, objectives.slo_e2e, objectives.slo_itl),
        tenants=tenants(endpoint.keys, client_api_key()),
        metrics=tuple(endpoint.metrics) if endpoint.metrics else None,
    )
    search = Search(arrivals.sweep) if arrivals.sweep else None
    summaries = run_bench(plan, out, console if as_json else output, search)
    if as_json:
        print_json([_document(summary) for summary in summaries])


def _document(summary: Summary) -> dict[str, object]:
    return {**asdict(summary), "goodput_per_s": summary.goodput_per_s}
