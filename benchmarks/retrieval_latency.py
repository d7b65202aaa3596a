"""How long a search takes at a size, by stage: `python -m benchmarks.retrieval_latency 100000 --out FOLDER`.

With --store, passages are kept and found again, so that filling (`--build-only`) and measuring can be done at different
times: fill in the background, measure on an idle machine. Passages are made up (made_up.py). Questions are embedded for
real, for the time it takes; what is searched for is a made-up vector.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.made_up import FEW, FEW_SHARE, KNOWLEDGE, PARTS, PER_DOCUMENT, TENANT, Built, MadeUp, build, open_store
from benchmarks.origin import Origin
from benchmarks.result_file import show
from benchmarks.retrieval_eval import latencies
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder
from retrieval.model_folder import packaged_minilm
from retrieval.passages import Scope
from retrieval.pipeline import Policy, Retriever
from retrieval.search import Mode
from retrieval.store import EVERYONE, Store

_QUESTIONS, _WARM = 200, 10
_TOP_K = 4
_RECALL_QUESTIONS, _RECALL_AT = 50, 100
_PART = 3
_Asking = tuple[Mode, frozenset[str], Mapping[str, Any] | None]
_ASKING: Mapping[str, _Asking] = {
    "hybrid": ("hybrid", EVERYONE, None),
    "dense": ("dense", EVERYONE, None),
    "lexical": ("lexical", EVERYONE, None),
    "hybrid, 1 % visible": ("hybrid", frozenset({FEW}), None),
    "hybrid, filter on 10 %": ("hybrid", EVERYONE, {"part": _PART}),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one size. `store_mib`: what the process holds more after opening the kept store and asking all questions than
    before it was opened, with the embedder loaded and warm: resident memory, so with what it has read of files that it
    maps, without the system's cache of those it reads. `recall_at_100`: of dense search against comparing the question
    with every passage. `load_average`: of the last minute of asking; above the number of cores, others used the machine
    too."""

    passages: int
    questions: int
    embedder: str
    built: Built
    open_s: float
    store_mib: float
    store_mib_per_100k: float
    load_average: float
    latency_ms: dict[str, dict[str, dict[str, float]]]
    recall_at_100: dict[str, float]
    origin: Origin


class _Asked:
    """The embedder, but that a question's vector is the made-up one."""

    def __init__(self, inner: Embedder, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._inner, self._vectors = inner, dict(zip(texts, vectors, strict=True))
        self.name, self.dimensions, self.max_tokens = inner.name, inner.dimensions, inner.max_tokens
        self.fingerprint, self.tokenizer = inner.fingerprint, inner.tokenizer

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Embedder."""
        return self._inner.count_tokens(texts)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        self._inner.encode(texts)
        return np.stack([self._vectors[text] for text in texts])


def measure(folder: Path, passages: int, embedder: Embedder, command: str, console: Console) -> Timing:
    """Asks the store in `folder` questions, one at a time; fills it first if need be. Raises BenchmarkError."""
    built = build(folder, passages, embedder.dimensions, console)
    origin, made_up = Origin.here(command), MadeUp(embedder.dimensions)
    texts, vectors = made_up.questions(_QUESTIONS)
    asked = _Asked(embedder, texts, vectors)
    for text in texts:
        asked.encode([text])
    before, cpu = _resident_mib(), os.times().elapsed
    store = open_store(folder, embedder.dimensions)
    opened = os.times().elapsed - cpu
    try:
        retriever = Retriever(store, asked, Chunker(embedder.tokenizer, embedder.max_tokens))
        found = dict(_ask(retriever, texts))
        held, load = _resident_mib() - before, os.getloadavg()[0]
        recall = _recall(store, made_up, vectors[:_RECALL_QUESTIONS], passages // PER_DOCUMENT)
    finally:
        store.close()
    return Timing(
        passages=passages,
        questions=_QUESTIONS - _WARM,
        embedder=embedder.name,
        built=built,
        open_s=round(opened, 2),
        store_mib=round(held, 1),
        store_mib_per_100k=round(held * 100_000 / passages, 1),
        load_average=round(load, 2),
        latency_ms=found,
        recall_at_100=recall,
        origin=origin,
    )


def _ask(retriever: Retriever, questions: Sequence[str]) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    for name, (mode, groups, filter) in _ASKING.items():
        asked = retriever.with_policy(Policy(mode))
        stages = [
            asked.search(Scope(TENANT, groups), KNOWLEDGE, text, _TOP_K, -1.0, filter).seconds for text in questions
        ]
        yield name, latencies(stages[_WARM:])


def _recall(store: Store, made_up: MadeUp, questions: NDArray[np.float32], documents: int) -> dict[str, float]:
    """Of `dense` as each caller asks: the share of the truly nearest that is found."""
    callers: Mapping[str, tuple[frozenset[str], Mapping[str, Any] | None, range]] = {
        "dense": (EVERYONE, None, range(documents)),
        "1 % visible": (frozenset({FEW}), None, range(0, documents, FEW_SHARE)),
        "filter on 10 %": (EVERYONE, {"part": _PART}, range(_PART, documents, PARTS)),
    }
    shares = {}
    for name, (groups, filter, numbers) in callers.items():
        nearest = _nearest(made_up, questions, numbers)
        hits = 0
        for question, (truly, _) in zip(questions, nearest, strict=True):
            found = store.query(TENANT, KNOWLEDGE, question, _RECALL_AT, groups, filter)
            hits += len({(passage.source, passage.start) for passage in found} & set(truly))
        shares[name] = round(hits / sum(len(truly) for truly, _ in nearest), 4) if len(numbers) else 0.0
    return shares


def _nearest(
    made_up: MadeUp, questions: NDArray[np.float32], numbers: range
) -> list[tuple[list[tuple[str, int]], list[float]]]:
    """Of each question the truly nearest passages (source, place in it) with their similarities, best first."""
    best: list[tuple[list[tuple[str, int]], list[float]]] = [([], []) for _ in questions]
    for at in range(0, len(numbers), 1000):
        some = numbers[at : at + 1000]
        places = [(f"d{number}.txt", place) for number in some for place in range(PER_DOCUMENT)]
        scores = questions @ np.concatenate([made_up.vectors(number) for number in some]).T
        for row, (found, of) in enumerate(best):
            top = np.argpartition(-scores[row], min(_RECALL_AT, len(places) - 1))[:_RECALL_AT]
            pairs = [*zip(of, found, strict=True), *((float(scores[row, one]), places[one]) for one in top)]
            pairs.sort(key=lambda pair: -pair[0])
            best[row] = [place for _, place in pairs[:_RECALL_AT]], [score for score, _ in pairs[:_RECALL_AT]]
    return best


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """One JSON file per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("passages", type=int, nargs="+", help=f"sizes, multiples of {PER_DOCUMENT}")
    parser.add_argument("--store", type=Path, help="folder to keep the passages in, one below it for each size")
    parser.add_argument("--build-only", action="store_true", help="fill the store and end")
    parser.add_argument("--dimensions", type=int, default=384, help="with --build-only: of the embedder to ask with")
    parser.add_argument("--out", type=Path, help="folder for one JSON file per size")
    parser.add_argument("--threads", type=int, default=2, help="threads of the embedder")
    try:
        _run(parser.parse_args())
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


def _run(given: argparse.Namespace) -> None:
    progress = Console(stderr=True)
    for passages in given.passages:
        with ExitStack() as stack:
            kept: Path = given.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if given.build_only:
                show(build(kept / str(passages), passages, given.dimensions, progress), None)
                continue
            embedder = SentenceTransformerEmbedder(packaged_minilm(), threads=given.threads)
            command = f"python -m benchmarks.retrieval_latency {passages} --threads {given.threads}"
            timing = measure(kept / str(passages), passages, embedder, command, progress)
        show(timing, given.out and given.out / f"latency-{passages}.json")


if __name__ == "__main__":
    main()
