"""What retrieval costs under load: `python -m benchmarks.rag_load --out FILE`.

Two questions. What does the gateway add to an answer of eight concurrent askers: time to the first token less the
simulated engine's own, so the embedding, the search, the composed prompt and everything around them, with the load
generator on the same cores. And what does embedding questions together gain over one by one at sixteen at a time.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.errors import EndpointError
from benchmarks.load.arrivals import Closed
from benchmarks.load.experiment import experiment
from benchmarks.load.plan import LoadPlan, Target
from benchmarks.load.record import LoadResult
from benchmarks.load.summary import percentile
from benchmarks.load.workload import questions
from benchmarks.origin import Origin
from benchmarks.processes import free_port, server
from benchmarks.result_file import show
from retrieval.batching import BatchingEmbedder
from retrieval.embedder import Embedder, SentenceTransformerEmbedder
from retrieval.model_folder import packaged_minilm

_MODEL = "documents"
_ROUNDS = 5
Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class OwnShare:
    """Of the gateway, in milliseconds per request, with an engine that takes `engine_s` to its first token. Means of
    the stages are the gateway's own figures; the rest is HTTP, the prompt and waiting for a turn."""

    engine_s: float
    requests: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    embed_mean_ms: float
    search_mean_ms: float


@dataclass(frozen=True, slots=True)
class Batching:
    """Questions per second with so many threads asking, one by one and embedded together; the median of `rounds`."""

    threads: int
    rounds: int
    one_by_one_per_s: float
    batched_per_s: float
    times_faster: float


@dataclass(frozen=True, slots=True)
class RagLoad:
    """The result file."""

    concurrency: int
    documents: str
    embedder: str
    own_share: tuple[OwnShare, ...]
    batching: Batching
    origin: Origin


def own_share(folder: Path, asked: Path, concurrency: int, engine_s: float, seconds: float, work: Path) -> OwnShare:
    """Starts a gateway over the folder's documents with a simulated engine, and asks it."""
    port, engine = free_port(), {"kind": "simulated", "simulated_ttft_s": engine_s, "simulated_itl_s": 0.0}
    knowledge = {_MODEL: {"paths": [str(folder.resolve())]}}
    settings = {"engine": engine, "knowledge": knowledge, "models": {_MODEL: {"knowledge": _MODEL}}}
    config = work / f"gateway-{engine_s:g}.yaml"
    config.write_text(json.dumps({**settings, "server": {"port": port}}), encoding="utf-8")
    command = [sys.executable, "-m", "breakeven", "serve", "--config", str(config)]
    ready, home = f"http://127.0.0.1:{port}/readyz", {"BREAKEVEN_HOME": str(work / "home")}
    plan = LoadPlan(
        url=f"http://127.0.0.1:{port}/v1",
        targets=(Target(_MODEL),),
        workload=questions(asked),
        load=Closed(concurrency),
        duration_s=seconds,
        warmup=4 * concurrency,
    )
    with server(command, ready, work / "gateway.log", home), experiment(None, "", Console(stderr=True)) as runs:
        return _share(runs.run(plan), engine_s)


def _share(run: LoadResult, engine_s: float) -> OwnShare:
    added = sorted(row.chunks_s[0] - row.sent_s - engine_s for row in run.rows if row.outcome == "answered")
    if not added or run.errors or not run.counted:
        raise EndpointError(f"this run is no evidence: {'; '.join(run.errors) or 'nothing was answered or counted'}")
    name, page = "breakeven_retrieval_duration_seconds", run.counted[0]
    means = [
        1e3 * page.grew(f"{name}_sum", stage=stage) / page.grew(f"{name}_count", stage=stage)
        for stage in ("embed", "search")
    ]
    rate = len(run.rows) / max(row.last_s for row in run.rows)
    half, most = (1e3 * percentile(added, share) for share in (0.5, 0.95))
    figures = [round(value, 2) for value in (rate, half, most, *means)]
    return OwnShare(engine_s, len(added), *figures)


def batching(embedder: Embedder, asked: list[str], threads: int) -> Batching:
    """Both ways in turns, so that a busy minute slows both."""
    ways: tuple[Encode, Encode] = (embedder.encode, BatchingEmbedder(embedder).encode)
    for encode in ways:
        _per_s(encode, asked[: 4 * threads], threads)
    rounds = [[_per_s(encode, asked, threads) for encode in ways] for _ in range(_ROUNDS)]
    alone, together = (float(np.median(way)) for way in zip(*rounds, strict=True))
    return Batching(threads, _ROUNDS, round(alone, 1), round(together, 1), round(together / alone, 2))


def _per_s(encode: Encode, asked: list[str], threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(lambda text: encode([text]), asked))
        return len(asked) / (time.perf_counter() - began)


def main() -> None:
    """Prints the figures and writes them as JSON."""
    examples = Path(__file__).parents[1] / "examples"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=examples / "handbook", help="folder to ask about")
    parser.add_argument("--questions", type=Path, default=examples / "handbook-questions.jsonl")
    parser.add_argument("--concurrency", type=int, default=8, help="askers at a time")
    parser.add_argument("--threads", type=int, default=16, help="threads that embed at a time")
    parser.add_argument("--engine", type=float, nargs="+", default=[0.5, 0.0], help="seconds to its first token")
    parser.add_argument("--seconds", type=float, default=15, help="of each run")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    origin = Origin.here(f"python -m benchmarks.rag_load --concurrency {given.concurrency} --threads {given.threads}")
    with ExitStack() as held:
        work = Path(held.enter_context(tempfile.TemporaryDirectory()))
        shares = tuple(
            own_share(given.documents, given.questions, given.concurrency, engine_s, given.seconds, work)
            for engine_s in given.engine
        )
    embedder = SentenceTransformerEmbedder(packaged_minilm(), threads=len(os.sched_getaffinity(0)))
    workload = questions(given.questions)
    asked = [str(workload.prompt(index).messages[0]["content"]) for index in range(480)]
    found = batching(embedder, asked, given.threads)
    show(RagLoad(given.concurrency, given.documents.name, embedder.name, shares, found, origin), given.out)


if __name__ == "__main__":
    main()
