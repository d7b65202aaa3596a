"""The command line. The only module that sees all packages; every command is a few lines over one of them."""

import asyncio
import logging
import sqlite3
import sys
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adapters.errors import AdapterError
from adapters.registry import Registry
from benchmarks.errors import BenchmarkError
from benchmarks.load import bench as run_bench
from benchmarks.plan import LoadPlan, Slo
from benchmarks.prices import load_prices
from benchmarks.retrieval_eval import run as evaluate_retrieval
from benchmarks.workload import questions, synthetic
from retrieval.calibration import read_questions
from retrieval.errors import RetrievalError
from serving import keys
from serving.access import RemoteError, gateway_url, open_documents
from serving.accounting.cost import GpuPrice, Prices
from serving.app import bind, check_bind, create_app, run
from serving.auth import EVERYONE, KeyRefused, KeyStore
from serving.engine.device import Device
from serving.engine.protocol import EngineFailed
from serving.gateway import PricesFor, fill_knowledge, open_embedder, open_gateway, prepare_weights
from serving.ingestion import Ingestion, Job
from serving.sections import Settings
from serving.settings import SettingsError, client_api_key, load_settings, share_cores
from serving.terminal import Stages, follow_calibration, welcome

_USER_ERRORS = (AdapterError, BenchmarkError, EngineFailed, KeyRefused, RemoteError, RetrievalError, SettingsError)

app = typer.Typer(
    name="breakeven", help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
app.add_typer(keys.app, name="keys")
eval_app = typer.Typer(help="Measure quality on test sets.", no_args_is_help=True)
app.add_typer(eval_app, name="eval")
console = Console(stderr=True, highlight=False)
output = Console(highlight=False, soft_wrap=True)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file; default: ./breakeven.yaml.")]


@app.command()
def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Bind address.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
) -> None:
    """Start the engine and the gateway; Ctrl-C stops both."""
    share_cores()
    settings = load_settings(config, overrides={"server.host": host, "server.port": port})
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("breakeven").setLevel(logging.INFO)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    store = KeyStore(settings.home / "keys.db")
    check_bind(settings.server, store)
    store.close()
    listener = bind(settings.server)
    address = listener.getsockname()
    host = "127.0.0.1" if address[0] in ("0.0.0.0", "::") else address[0]  # noqa: S104  # compared, not bound
    url = f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"
    stages, app = Stages(console), create_app()
    try:
        async with AsyncExitStack() as stack:

            async def prepare() -> None:
                opened = open_gateway(settings, _prices_for(settings), url, stages)
                gateway = app.state.gateway = await stack.enter_async_context(opened)
                failures = await asyncio.to_thread(fill_knowledge, settings, gateway.retriever, stages)
                gateway.documents_in.set()
                await gateway.engine_started
                stages.stop()
                for line in (*failures, *gateway.catalogue.left_out):
                    console.print(f"note: {line}", markup=False)
                simulated, keyed = gateway.engine.simulated, gateway.keys.any()
                output.print(welcome(url, gateway.catalogue.names, simulated=simulated, keyed=keyed), markup=False)

            # Probes are answered from the first second, everything else when it is there.
            await run(app, listener, settings.server, prepare)
    finally:
        stages.stop()
        listener.close()


def _prices_for(settings: Settings) -> PricesFor:
    book, cost = load_prices(), settings.cost

    def choose(device: Device) -> Prices:
        hosted = tuple(book.api(model) for model in cost.hosted_models)
        if cost.usd_per_hour is not None:
            source = cost.source or "cost.usd_per_hour in the configuration"
            gpu = GpuPrice(
                "configured",
                (),
                cost.usd_per_hour,
                source,
                cost.as_of.isoformat() if cost.as_of else "not stated",
                "configured",
            )
        elif settings.engine.url is not None:
            raise SettingsError(
                "set cost.usd_per_hour: what the machine behind engine.url costs cannot be seen from here"
            )
        else:
            gpu = book.cpu if device.kind == "cpu" else book.gpu_for(device.name)
        return Prices(gpu, hosted)

    return choose


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(exists=True, help="A file or a folder.")],
    knowledge: Annotated[str, typer.Option(help="Name of the knowledge base.")],
    group: Annotated[list[str] | None, typer.Option(help="Who may read it; default: everyone of the tenant.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove every document that PATH does not hold, whoever put it there.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C: follow changes and deletions.")] = False,
    config: Config = None,
) -> None:
    """Add documents to a knowledge base; unchanged ones cost a hash, and an interrupted run is continued by the next.

    A deleted file keeps its document, since PATH may be a part of the knowledge base or not be mounted: --delete and
    --watch remove it.
    """
    settings = load_settings(config)
    job = Job(path, knowledge, tuple(group or [EVERYONE]), settings.server.max_document_bytes, delete)
    with open_documents(settings) as documents:
        ingestion = Ingestion(job, documents, console)
        if watch:
            ingestion.watch(threading.Event())
            return
        try:
            ingestion.run()
        finally:
            *notes, counts = ingestion.last.lines()
            for line in notes:
                console.print(line, markup=False)
            output.print(f"{knowledge}: {counts}", markup=False)
    if ingestion.last.failures or not ingestion.last.counts:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A question.")],
    knowledge: Annotated[str, typer.Option(help="Name of the knowledge base.")],
    top_k: Annotated[int, typer.Option(help="Passages at most.")] = 4,
    config: Config = None,
) -> None:
    """Show the passages that a question finds, with their scores."""
    with open_documents(load_settings(config)) as documents:
        for found in documents.search(knowledge, query, top_k):
            text = " ".join(found["text"].split())[:160]
            output.print(f"{found['score']:.3f}  {found['source']}  {found['heading']}\n       {text}", markup=False)
        if warning := documents.warning(knowledge):
            console.print(f"note: {warning}", markup=False)


@app.command()
def calibrate(
    knowledge: Annotated[str, typer.Option(help="Name of the knowledge base.")],
    questions: Annotated[Path | None, typer.Option(help="JSONL of question and file (null: not covered).")] = None,
    precision: Annotated[float, typer.Option(help="Share of answered questions that must be covered.")] = 0.9,
    config: Config = None,
) -> None:
    """Measure and set the minimum score below which questions are refused; without questions, some are made up."""
    labelled = read_questions(questions) if questions else None
    with open_documents(load_settings(config)) as documents:
        steps = documents.calibrate(knowledge, labelled, precision)
        output.print(follow_calibration(steps, console), markup=False)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(exists=True, help="A folder with recipe.toml, or the file.")],
    out: Annotated[Path | None, typer.Option(help="Adapter folder to create; default: under BREAKEVEN_HOME.")] = None,
    base: Annotated[Path | None, typer.Option(help="Base model checkpoint; default: the embedded one.")] = None,
    config: Config = None,
) -> None:
    """Train a LoRA adapter from a recipe and install it into the registry."""
    share_cores()
    # Heavy: torch and trl are loaded for this command only.
    from adapters.training import train as train_adapter

    settings = load_settings(config)
    if base is None:
        base = asyncio.run(prepare_weights(settings.home, console.print))
    folder = out or settings.home / "trained" / time.strftime("%Y%m%d-%H%M%S")
    # The command as anyone can repeat it: without this machine's paths.
    manifest = train_adapter(recipe, base, folder, command=f"breakeven train {recipe}", console=console)
    version = Registry(settings.home / "adapters").install(folder)
    for score in manifest.scores:
        output.print(f"{score.name}: {score.value:.2f} of {score.n} (95 %: {score.low:.2f} to {score.high:.2f})")
    output.print(f"{version.engine_name} is in {folder} and installed", markup=False)


@app.command()
def adapters(config: Config = None) -> None:
    """List the installed adapter versions."""
    registry = Registry(load_settings(config).home / "adapters")
    table = Table("adapter", "base model", "alias", "created")
    for name in registry.names():
        aliases = registry.aliases(name)
        for version in registry.versions(name):
            found = registry.resolve(f"{name}@{version}")
            named = ", ".join(alias for alias, target in aliases.items() if target == version)
            table.add_row(found.engine_name, found.manifest.base_model, named, found.manifest.created)
    output.print(table)


@app.command()
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
    """Drive an OpenAI endpoint; print throughput, latency percentiles and cost per query."""
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


@eval_app.command("retrieval")
def eval_retrieval(
    folders: Annotated[list[Path], typer.Argument(help="Folders with corpus.jsonl, queries.jsonl and qrels/test.tsv.")],
    out: Annotated[Path | None, typer.Option(help="Folder for one JSON file per test set.")] = None,
    config: Config = None,
) -> None:
    """Measure search on judged test sets in the BEIR layout: dense, lexical and hybrid."""
    settings = load_settings(config)
    evaluate_retrieval(folders, lambda: open_embedder(settings), out, output)


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and status 1, never a traceback."""
    try:
        app()
    except _USER_ERRORS as error:
        console.print(f"error: {error}", markup=False, style="red")
        sys.exit(1)
    except (OSError, sqlite3.Error) as error:
        console.print(
            f"error: {error}; check that BREAKEVEN_HOME can be written and is whole", markup=False, style="red"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
