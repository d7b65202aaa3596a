"""How long a search takes at a size, by stage: `python -m benchmarks.retrieval_latency 10000 100000 --out FOLDER`.

Texts are made up: words drawn as often as in English (Zipf), which is what lexical search feels. Vectors are made up
too, in clusters, since embedding a hundred thousand texts would measure the embedder. Questions are embedded for real.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.origin import Origin
from benchmarks.retrieval_eval import latencies
from retrieval.chunking import Chunk, Chunker
from retrieval.documents import Document
from retrieval.embedder import Embedder, SentenceTransformerEmbedder, packaged_minilm
from retrieval.pipeline import Policy, Retriever, Scope
from retrieval.search import Mode
from retrieval.store import EVERYONE, Store

_PER_DOCUMENT = 20
_WORDS, _PER_PASSAGE, _PER_QUESTION = 50_000, 120, 9
_CLUSTERS, _SPREAD = 500, 0.8
_QUESTIONS, _WARM = 200, 10
_TOP_K = 4
_FEW, _FEW_SHARE = "few", 100  # every hundredth document is for one more group
_ASKING: Mapping[str, tuple[Mode, frozenset[str], Mapping[str, Any] | None]] = {
    "hybrid": ("hybrid", EVERYONE, None),
    "dense": ("dense", EVERYONE, None),
    "lexical": ("lexical", EVERYONE, None),
    "hybrid, 1 % visible": ("hybrid", frozenset({_FEW}), None),
    "hybrid, filter on 10 %": ("hybrid", EVERYONE, {"part": 3}),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one size. `resident_mib`: what the process holds more than before the store was filled. `load_average` is of
    the last minute of asking: above the number of cores, others used the machine too."""

    passages: int
    questions: int
    embedder: str
    passages_per_s: float
    resident_mib: float
    load_average: float
    latency_ms: dict[str, dict[str, dict[str, float]]]
    origin: Origin


class _MadeUp:
    """Texts and vectors, the same for the same seed."""

    def __init__(self, dimensions: int) -> None:
        self._chance = np.random.default_rng(0)
        often = 1 / np.arange(1, _WORDS + 1)
        self._often = np.cumsum(often / often.sum())
        self._centres = self._chance.normal(size=(_CLUSTERS, dimensions))

    def text(self, words: int) -> str:
        ranks = np.searchsorted(self._often, self._chance.random(words))
        return " ".join(f"w{rank}" for rank in ranks)

    def vectors(self, count: int) -> NDArray[np.float32]:
        near = self._centres[self._chance.integers(_CLUSTERS, size=count)]
        rows = near + _SPREAD * self._chance.normal(size=near.shape)
        unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def document(self, number: int) -> tuple[Document, list[Chunk]]:
        texts = [self.text(_PER_PASSAGE) for _ in range(_PER_DOCUMENT)]
        chunks = [Chunk(text, at, at + len(text), f"Part {at}") for at, text in enumerate(texts)]
        return Document(f"d{number}.txt", f"Document {number}", "", f"{number:064}"), chunks


def measure(passages: int, embedder: Embedder, command: str) -> Timing:
    """Fills a temporary store with this many passages and asks it questions, one at a time."""
    origin = Origin.here(command)
    made_up, before, started = _MadeUp(embedder.dimensions), _resident_mib(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), embedder.fingerprint, embedder.dimensions)
        try:
            for number in track(range(passages // _PER_DOCUMENT), f"{passages} passages", console=Console(stderr=True)):
                document, chunks = made_up.document(number)
                groups = EVERYONE | ({_FEW} if number % _FEW_SHARE == 0 else set())
                vectors = made_up.vectors(len(chunks))
                store.replace_document("t", "kb", document, chunks, vectors, groups, {"part": number % 10})
            per_s = passages / (time.perf_counter() - started)
            retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
            questions = [made_up.text(_PER_QUESTION) for _ in range(_QUESTIONS)]
            found = dict(_ask(retriever, questions))
            held, load = _resident_mib() - before, os.getloadavg()[0]
        finally:
            store.close()
    return Timing(passages, _QUESTIONS, embedder.name, round(per_s, 1), round(held, 1), round(load, 2), found, origin)


def _ask(retriever: Retriever, questions: list[str]) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    for name, (mode, groups, filter) in _ASKING.items():
        asked = retriever.with_policy(Policy(mode))
        stages = [asked.search(Scope("t", groups), "kb", text, _TOP_K, -1.0, filter).seconds for text in questions]
        yield name, latencies(stages[_WARM:])


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """One JSON file per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("passages", type=int, nargs="+", help=f"sizes, multiples of {_PER_DOCUMENT}")
    parser.add_argument("--out", type=Path, help="folder for one JSON file per size")
    parser.add_argument("--threads", type=int, default=2, help="threads of the embedder")
    given = parser.parse_args()
    embedder = SentenceTransformerEmbedder(packaged_minilm(), threads=given.threads)
    console = Console()
    for passages in given.passages:
        command = f"python -m benchmarks.retrieval_latency {passages} --threads {given.threads}"
        timing = measure(passages, embedder, command)
        console.print_json(data=asdict(timing))
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            written = json.dumps(asdict(timing), indent=2) + "\n"
            (given.out / f"latency-{passages}.json").write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
