"""Runs a judged test set through our own pipeline, in a store made for it: what a user's documents would get.

Documents are cut into passages as always and a document's score is its best passage's. Quality is measured without the
limits that serve a prompt (copies and neighbours), which would hide documents from the judgement; latency with them.
With a reranker, hybrid search is run once more with it, and the two are compared query by query.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import ir_measures
from ir_measures import RR, R, nDCG
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.beir import JudgedSet, load
from benchmarks.load.summary import Percentiles
from benchmarks.origin import Origin
from benchmarks.result_file import keep
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder
from retrieval.errors import UnreadableDocument
from retrieval.passages import Retrieval, Scope
from retrieval.pipeline import MAX_TOP_K, Policy, Retriever
from retrieval.reranker import Rerank
from retrieval.reranking import JUDGED
from retrieval.search import Mode
from retrieval.store import EVERYONE, Store
from retrieval.verdict import Comparison, compare

MEASURES = {"ndcg@10": nDCG @ 10, "mrr@10": RR @ 10, "recall@10": R @ 10, "recall@100": R @ 100}
STAGES = ("embed", "dense", "lexical", "fuse", "rerank", "select", "total")
MODES: tuple[Mode, ...] = get_args(Mode)
RERANKED = "hybrid, reranked"
_TOP_K = 4  # what the gateway asks for by default
_SCOPE = Scope("evaluation", EVERYONE)
_KNOWLEDGE = "set"
Run = dict[str, dict[str, float]]  # query -> document -> score
_AT_ONCE = 64  # documents


@dataclass(frozen=True, slots=True)
class ModeResult:
    """`measures` by name, means over the queries. `latency_ms`: stage -> p50 and p99."""

    measures: dict[str, float]
    latency_ms: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Reranked:
    """A reranker against hybrid search alone. `better`: beyond chance, so that it would be used."""

    reranker: str
    fingerprint: str
    depth: int
    comparison: Comparison
    better: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One test set. `seconds` is what ingesting took. `load_average`: of the last minute of asking; above the number of
    cores, others used the machine too, and the times say little."""

    name: str
    documents: int
    passages: int
    queries: int
    embedder: str
    seconds: float
    load_average: float
    modes: dict[str, ModeResult]
    rerank: Reranked | None
    origin: Origin


def evaluate(
    judged: JudgedSet, embedder: Embedder, progress: Progress, command: str, rerank: Rerank | None = None
) -> Evaluation:
    """Ingests the set into a temporary store and searches it in every mode."""
    origin = Origin.here(command)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), embedder.fingerprint, embedder.dimensions)
        try:
            retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
            started = time.perf_counter()
            task = progress.add_task(f"{judged.name}: ingesting", total=len(judged.documents))
            files = [(f"{id}.md", text.encode()) for id, text in judged.documents.items()]
            for at in range(0, len(files), _AT_ONCE):
                done = retriever.ingest_many(_SCOPE, _KNOWLEDGE, files[at : at + _AT_ONCE])
                if failed := next((one for one in done if isinstance(one, UnreadableDocument)), None):
                    raise failed
                progress.advance(task, len(done))
            seconds = time.perf_counter() - started
            ways = {str(mode): Policy(mode) for mode in MODES}
            if rerank is not None:
                ways[RERANKED] = Policy(rerank=rerank)
            found = {name: _search(judged, retriever, policy, name, progress) for name, policy in ways.items()}
            return Evaluation(
                judged.name,
                len(judged.documents),
                store.count(),
                len(judged.queries),
                embedder.name,
                round(seconds, 1),
                round(os.getloadavg()[0], 2),
                {name: _result(judged, run, stages) for name, (run, stages) in found.items()},
                None if rerank is None else _compared(judged, rerank, found["hybrid"][0], found[RERANKED][0]),
                origin,
            )
        finally:
            store.close()


def latencies(stages: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds p50 and p99 of each stage, and of their sum as `total`."""
    columns = {name: [one[name] for one in stages] for name in stages[0]}
    columns["total"] = [sum(one.values()) for one in stages]
    found = {name: Percentiles.of(values) for name, values in columns.items()}
    return {name: {"p50": round(p.p50 * 1e3, 2), "p99": round(p.p99 * 1e3, 2)} for name, p in found.items() if p}


def _search(
    judged: JudgedSet, retriever: Retriever, policy: Policy, name: str, progress: Progress
) -> tuple[Run, list[dict[str, float]]]:
    """A ranking for each query, and the seconds by stage of searching as the gateway does."""
    ranking, serving = retriever.with_policy(replace(policy, limits=JUDGED)), retriever.with_policy(policy)
    task = progress.add_task(f"{judged.name}: {name}", total=len(judged.queries))
    run, stages = {}, []
    for id, text in judged.queries.items():
        run[id] = _scores(ranking.search(_SCOPE, _KNOWLEDGE, text, MAX_TOP_K, -1.0))
        stages.append(serving.search(_SCOPE, _KNOWLEDGE, text, _TOP_K, -1.0).seconds)
        progress.advance(task)
    return run, stages


def _result(judged: JudgedSet, run: Run, stages: Sequence[Mapping[str, float]]) -> ModeResult:
    found = ir_measures.calc_aggregate(list(MEASURES.values()), judged.judgements, run)
    measures = {name: round(float(found[measure]), 4) for name, measure in MEASURES.items()}
    return ModeResult(measures, latencies(stages))


def _compared(judged: JudgedSet, rerank: Rerank, plain: Run, reranked: Run) -> Reranked:
    columns = []
    for run in (plain, reranked):
        found = ir_measures.iter_calc([MEASURES["ndcg@10"]], judged.judgements, run)
        by_query = {metric.query_id: float(metric.value) for metric in found}
        columns.append([by_query[id] for id in judged.queries])
    comparison = compare(*columns)
    name, fingerprint = rerank.reranker.name, rerank.reranker.fingerprint
    return Reranked(name, fingerprint, rerank.depth, comparison, comparison.better)


def _scores(found: Retrieval) -> dict[str, float]:
    """By place, because that is what a user sees: one passage of each document, best first."""
    return {passage.source.removesuffix(".md"): 1 / place for place, passage in enumerate(found.passages, start=1)}


def run(
    folders: Sequence[Path],
    open_embedder: Callable[[], Embedder],
    out: Path | None,
    output: Console,
    rerank: Rerank | None = None,
) -> None:
    """Evaluates each folder, prints a table and writes `out`/<name>.json, with a reranker <name>_rerank.json.

    Raises JudgedSetError.
    """
    sets = [load(folder) for folder in folders]
    embedder = open_embedder()
    option, ending = ("", "") if rerank is None else (" --rerank", "_rerank")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    for judged in sets:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            command = f"breakeven eval retrieval {judged.name}{option}"
            found = evaluate(judged, embedder, progress, command, rerank)
        for table in _tables(found):
            output.print(table)
        if found.rerank is not None:
            output.print(f"{found.rerank.reranker}: {found.rerank.comparison.told()}", markup=False)
        keep(found, out and out / f"{judged.name}{ending}.json")


def _tables(found: Evaluation) -> Iterator[Table]:
    title = f"{found.name}: {found.documents} documents, {found.passages} passages, {found.queries} queries"
    measures = Table("", *MEASURES, title=title, box=None)
    shown_stages = [stage for stage in STAGES if any(stage in one.latency_ms for one in found.modes.values())]
    stages = Table("ms, p50/p99", *shown_stages, box=None)
    for mode, result in found.modes.items():
        measures.add_row(mode, *(f"{result.measures[name]:.4f}" for name in MEASURES))
        shown = (result.latency_ms.get(stage) for stage in shown_stages)
        stages.add_row(mode, *(f"{ms['p50']:.1f}/{ms['p99']:.1f}" if ms else "" for ms in shown))
    yield from (measures, stages)
