"""`breakeven eval`: quality on judged test sets."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.retrieval_eval import run as evaluate_retrieval
from breakeven.console import Config, output
from serving.gateway import open_embedder
from serving.settings import load_settings

app = typer.Typer(help="Measure quality on test sets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure quality on test sets."""


@app.command("retrieval")
def eval_retrieval(
    folders: Annotated[list[Path], typer.Argument(help="Folders with corpus.jsonl, queries.jsonl and qrels/test.tsv.")],
    out: Annotated[Path | None, typer.Option(help="Folder for one JSON file per test set.")] = None,
    config: Config = None,
) -> None:
    """Measure search on judged test sets in the BEIR layout: dense, lexical and hybrid."""
    settings = load_settings(config)
    evaluate_retrieval(folders, lambda: open_embedder(settings), out, output)
