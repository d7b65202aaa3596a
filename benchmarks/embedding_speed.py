"""What our embedder gains over the plain way and what that costs in quality:
`python -m benchmarks.embedding_speed FOLDER --out FILE`, on a judged test set.

Plain is `SentenceTransformer.encode(texts, batch_size=32)`, float32, as its documentation shows it. The two take turns
on slices of the same passages, so that a busy minute slows both. Quality is exact search, a document's score being its
best passage's: an index would add errors of its own.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import nDCG
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.beir import JudgedSet, load
from benchmarks.origin import Origin
from benchmarks.result_file import show
from retrieval.chunking import Chunker
from retrieval.documents import load as load_document
from retrieval.embedder import SentenceTransformerEmbedder
from retrieval.model_folder import packaged_minilm

_SLICE = 256  # passages
_KEPT = 100  # documents of a ranking
Encode = Callable[[list[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one way to embed: passages per second over the whole set, and nDCG@10 of exact search."""

    passages_per_s: float
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`one_question_ms`: median time of a single question, ours."""

    set: str
    passages: int
    embedder: str
    device: str
    dtype: str
    threads: int
    plain: Speed
    ours: Speed
    one_question_ms: float
    origin: Origin


def compare(judged: JudgedSet, threads: int, origin: Origin) -> Comparison:
    """Embeds every passage and question of the set both ways."""
    from sentence_transformers import SentenceTransformer

    folder = packaged_minilm()
    ours = SentenceTransformerEmbedder(folder, threads=threads)
    model = SentenceTransformer(str(folder), device=ours.device, local_files_only=True)

    def plain(texts: list[str]) -> NDArray[np.float32]:
        found = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    owners, passages = _passages(judged, Chunker(ours.tokenizer, ours.max_tokens))
    ways: tuple[Encode, Encode] = (plain, ours.encode)
    seconds, vectors = _take_turns(ways, passages)
    questions = list(judged.queries.values())
    speeds = [
        Speed(round(len(passages) / took, 1), round(_ndcg(judged, owners, found, encode(questions)), 4))
        for encode, took, found in zip(ways, seconds, vectors, strict=True)
    ]
    alone = sorted(_seconds(ours.encode, [question]) for question in questions)
    median = round(alone[len(alone) // 2] * 1e3, 2)
    return Comparison(
        judged.name, len(passages), ours.name, ours.device, ours.dtype, threads, speeds[0], speeds[1], median, origin
    )


def _passages(judged: JudgedSet, chunker: Chunker) -> tuple[list[str], list[str]]:
    """The document of each passage, and the passages as they are embedded."""
    owners, texts = [], []
    for id, text in track(judged.documents.items(), "cutting", console=Console(stderr=True)):
        document = load_document(f"{id}.md", text.encode())
        for chunk in chunker.chunk(document):
            owners.append(id)
            texts.append(chunker.embedded(document.title, chunk))
    return owners, texts


def _take_turns(ways: Sequence[Encode], texts: list[str]) -> tuple[list[float], list[NDArray[np.float32]]]:
    for encode in ways:
        encode(texts[:_SLICE])  # allocations and kernels of the first call
    seconds, found = [0.0] * len(ways), [list[NDArray[np.float32]]() for _ in ways]
    for start in track(range(0, len(texts), _SLICE), "embedding, both ways", console=Console(stderr=True)):
        for number, encode in enumerate(ways):
            began = time.perf_counter()
            found[number].append(encode(texts[start : start + _SLICE]))
            seconds[number] += time.perf_counter() - began
    return seconds, [np.concatenate(slices) for slices in found]


def _ndcg(judged: JudgedSet, owners: list[str], passages: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    run = {}
    for id, vector in zip(judged.queries, queries, strict=True):
        best: dict[str, float] = {}
        for score, owner in sorted(zip((passages @ vector).tolist(), owners, strict=True), reverse=True):
            best.setdefault(owner, score)
            if len(best) == _KEPT:
                break
        run[id] = best
    return float(ir_measures.calc_aggregate([nDCG @ 10], judged.judgements, run)[nDCG @ 10])


def _seconds(encode: Encode, texts: list[str]) -> float:
    began = time.perf_counter()
    encode(texts)
    return time.perf_counter() - began


def main() -> None:
    """Prints the comparison and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="corpus.jsonl, queries.jsonl and qrels/test.tsv")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    origin = Origin.here(f"python -m benchmarks.embedding_speed {given.folder.name} --threads {given.threads}")
    show(compare(load(given.folder), given.threads, origin), given.out)


if __name__ == "__main__":
    main()
