"""`breakeven eval`: quality on judged test sets, and on a knowledge base of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from adapters.registry import Registry
from benchmarks.adapter_eval.endpoint import Endpoint
from benchmarks.adapter_eval.run import Plan
from benchmarks.adapter_eval.run import evaluate as evaluate_adapter
from benchmarks.adapter_eval.tasks import load_task
from benchmarks.refusal_eval import run as evaluate_refusal
from benchmarks.retrieval_eval import run as evaluate_retrieval
from breakeven.console import Config, console, output
from retrieval.errors import RerankingFailed
from retrieval.questions import read_questions
from retrieval.reranking import NOT_CONFIGURED
from serving.access import gateway_url, open_documents
from serving.sections import Settings
from serving.settings import client_api_key, load_settings
from serving.terminal import follow_reranking

app = typer.Typer(help="Measure quality on test sets.", no_args_is_help=True)
Tasks = Annotated[list[Path], typer.Option("--task", help="Task file; may be given several times.")]
Against = Annotated[str | None, typer.Option(help="Served model that is asked the same, such as the base.")]
Url = Annotated[str | None, typer.Option(help="OpenAI base URL; default: the running gateway's.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests at a time.")]
Out = Annotated[Path | None, typer.Option(help="JSON file for figures, details and origin.")]


@app.callback()
def _group() -> None:
    """Measure quality on test sets."""


@app.command("retrieval")
def eval_retrieval(
    folders: Annotated[list[Path], typer.Argument(help="Folders with corpus.jsonl, queries.jsonl and qrels/test.tsv.")],
    out: Annotated[Path | None, typer.Option(help="Folder for one JSON file per test set.")] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="Also with retrieval.reranker, compared.")] = False,
    config: Config = None,
) -> None:
    """Measure search on judged test sets in the BEIR layout: dense, lexical and hybrid."""
    from serving.shelving import configured_rerank, open_embedder

    settings = load_settings(config)
    chosen = configured_rerank(settings) if rerank else None
    if rerank and chosen is None:
        raise RerankingFailed(NOT_CONFIGURED)
    evaluate_retrieval(folders, lambda: open_embedder(settings), out, output, chosen)


@app.command("refusal")
def eval_refusal(
    corpus: Annotated[Path, typer.Argument(help="A set in SQuAD's JSON layout.")],
    against: Annotated[list[str], typer.Option(help="name=FILE: questions it does not answer (.json, .csv).")],
    sample: Annotated[int, typer.Option(min=1, help="Questions of each kind at most.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    config: Config = None,
) -> None:
    """Measure how well questions that the documents answer are told from others."""
    from serving.shelving import open_embedder

    settings = load_settings(config)
    evaluate_refusal(corpus, against, lambda: open_embedder(settings), sample, out, output)


@app.command("rerank")
def eval_rerank(
    knowledge: Annotated[str, typer.Option(help="Name of the knowledge base.")],
    questions: Annotated[Path, typer.Option(help="JSONL of question and file: the document that answers it.")],
    config: Config = None,
) -> None:
    """Measure the configured reranker on a knowledge base, and use it there if it is better beyond chance."""
    labelled = read_questions(questions)
    with open_documents(load_settings(config)) as documents:
        output.print(follow_reranking(documents.judge_reranking(knowledge, labelled), console))


@app.command("adapter")
def eval_adapter(
    name: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or NAME@ALIAS of an installed adapter.")],
    task: Tasks,
    against: Against = None,
    model: Annotated[str | None, typer.Option(help="Served model to ask; default: one with this adapter.")] = None,
    url: Url = None,
    concurrency: Concurrency = 8,
    out: Out = None,
    config: Config = None,
) -> None:
    """Measure an adapter over the endpoint and put the scores into its manifest.

    An evaluation that was broken off is continued by the same command.
    """
    settings = load_settings(config)
    version = Registry(settings.home / "adapters").resolve(name)
    plan = Plan(version, _endpoint(settings, url, concurrency), settings.home / "evaluations", "", model, against)
    _evaluate(plan, f"adapter {version.engine_name}", task, settings, out)


@app.command("model")
def eval_model(
    name: Annotated[str, typer.Argument(help="A served model.")],
    task: Tasks,
    against: Against = None,
    url: Url = None,
    concurrency: Concurrency = 8,
    out: Out = None,
    config: Config = None,
) -> None:
    """Measure a served model as it is, such as the base before anything is trained; no manifest is written.

    An evaluation that was broken off is continued by the same command.
    """
    settings = load_settings(config)
    plan = Plan(None, _endpoint(settings, url, concurrency), settings.home / "evaluations", "", name, against)
    _evaluate(plan, f"model {name}", task, settings, out)


def _endpoint(settings: Settings, url: str | None, concurrency: int) -> Endpoint:
    return Endpoint((url or gateway_url(settings)).rstrip("/"), client_api_key(), concurrency)


def _evaluate(plan: Plan, what: str, paths: list[Path], settings: Settings, out: Path | None) -> None:
    tasks = [load_task(path) for path in paths]
    command = " ".join([f"breakeven eval {what}", *(f"--task {_shown(path)}" for path in paths)])
    command += f" --against {plan.against}" if plan.against is not None else ""
    evaluate_adapter(replace(plan, command=command), tasks, Registry(settings.home / "adapters"), out, output)


def _shown(path: Path) -> str:
    """Without this machine's folders."""
    return path.name if path.is_absolute() else str(path)
