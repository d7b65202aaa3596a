"""`breakeven ingest`, `search` and `calibrate`: through the running gateway, or on the files if none runs."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from breakeven.console import Config, console, output
from retrieval.questions import read_questions
from serving.access import open_documents
from serving.auth import EVERYONE
from serving.ingestion import Ingestion, Job
from serving.settings import load_settings
from serving.terminal import follow_calibration


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
    """Add documents to a knowledge base.

    Unchanged ones cost a hash, and an interrupted run is continued by the next.

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
                console.print(line)
            output.print(f"{knowledge}: {counts}")
    if ingestion.last.failures or not ingestion.last.counts:
        raise typer.Exit(1)


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
            output.print(f"{found['score']:.3f}  {found['source']}  {found['heading']}\n       {text}")
        if warning := documents.warning(knowledge):
            console.print(f"note: {warning}")


def calibrate(
    knowledge: Annotated[str, typer.Option(help="Name of the knowledge base.")],
    questions: Annotated[Path | None, typer.Option(help="JSONL of question and file (null: not covered).")] = None,
    precision: Annotated[float, typer.Option(help="Share of answered questions that must be covered.")] = 0.9,
    config: Config = None,
) -> None:
    """Set the minimum score below which questions are refused.

    It is measured with labelled questions; without a file of them, some are made up.
    """
    labelled = read_questions(questions) if questions else None
    with open_documents(load_settings(config)) as documents:
        steps = documents.calibrate(knowledge, labelled, precision)
        output.print(follow_calibration(steps, console))
