"""Stores of made-up passages, for timing at sizes that nobody has documents for at hand.

Texts are words drawn as often as in English (Zipf), which is what lexical search feels. Vectors lie in clusters, since
embedding a million texts would measure the embedder. The same number gives the same document, so a store whose filling
was interrupted is gone on with, and one that is there is measured again.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.errors import BenchmarkError
from benchmarks.result_file import keep
from retrieval.chunking import Chunk
from retrieval.documents import Document
from retrieval.rows import NewDocument
from retrieval.store import EVERYONE, Store

PER_DOCUMENT = 20
TENANT, KNOWLEDGE = "t", "kb"
FEW, FEW_SHARE = "few", 100  # every hundredth document is for one more group
PARTS = 10
_WORDS, _PER_PASSAGE, _PER_QUESTION = 50_000, 120, 9
_CLUSTERS, _SPREAD = 500, 0.8
_AT_ONCE = 500  # documents
_RECIPE = 1  # counts up whenever the same number would give another document
_ABOUT = "made-up.json"


@dataclass(frozen=True, slots=True)
class Built:
    """What a kept store is. `seconds` of filling, over all runs that it took; `load_average` at the end."""

    passages: int
    dimensions: int
    recipe: int = _RECIPE
    seconds: float = 0.0
    load_average: float = 0.0
    complete: bool = False


class MadeUp:
    """Texts, vectors and documents."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        often = 1 / np.arange(1, _WORDS + 1)
        self._often = np.cumsum(often / often.sum())
        self._words = np.array([f"w{rank}" for rank in range(_WORDS)], dtype=object)
        self._centres = np.random.default_rng(0).normal(size=(_CLUSTERS, dimensions))

    def questions(self, count: int) -> tuple[list[str], NDArray[np.float32]]:
        """Texts, and vectors that lie as those of passages do."""
        chance = np.random.default_rng(_RECIPE)
        return [self._text(chance, _PER_QUESTION) for _ in range(count)], self._vectors(chance, count)

    def vectors(self, number: int) -> NDArray[np.float32]:
        """Of the passages of one document, (PER_DOCUMENT, dimensions), each of length 1."""
        return self._vectors(np.random.default_rng([_RECIPE, number, 0]), PER_DOCUMENT)

    def document(self, number: int) -> NewDocument:
        """With its passages."""
        chance = np.random.default_rng([_RECIPE, number, 1])
        texts = [self._text(chance, _PER_PASSAGE) for _ in range(PER_DOCUMENT)]
        chunks = [Chunk(text, at, at + len(text), f"Part {at}") for at, text in enumerate(texts)]
        groups = EVERYONE | ({FEW} if number % FEW_SHARE == 0 else set())
        document = Document(f"d{number}.txt", f"Document {number}", "", f"{number:064}")
        return NewDocument(document, chunks, self.vectors(number), groups, {"part": number % PARTS})

    def _text(self, chance: np.random.Generator, words: int) -> str:
        return " ".join(self._words[np.searchsorted(self._often, chance.random(words))])

    def _vectors(self, chance: np.random.Generator, count: int) -> NDArray[np.float32]:
        near = self._centres[chance.integers(_CLUSTERS, size=count)]
        rows = near + _SPREAD * chance.normal(size=near.shape)
        unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


def build(folder: Path, passages: int, dimensions: int, console: Console) -> Built:
    """Fills the store in `folder`, going on where another run ended. Raises BenchmarkError if it is of another kind."""
    about, wanted = folder / _ABOUT, Built(passages, dimensions)
    found = Built(**json.loads(about.read_text(encoding="utf-8"))) if about.exists() else wanted
    if (found.passages, found.dimensions, found.recipe) != (passages, dimensions, _RECIPE):
        raise BenchmarkError(f"{folder} holds {found}; name another folder, or remove this one")
    if found.complete:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    for seconds in _fill(folder, MadeUp(dimensions), passages // PER_DOCUMENT, console):
        load = round(os.getloadavg()[0], 2)
        found = Built(passages, dimensions, _RECIPE, round(found.seconds + seconds, 1), load)
        keep(found, about)
    found = Built(passages, dimensions, _RECIPE, found.seconds, found.load_average, complete=True)
    keep(found, about)
    return found


def open_store(folder: Path, dimensions: int) -> Store:
    """Of made-up passages: any embedder of this many dimensions may ask it."""
    return Store(folder, f"made up {_RECIPE}", dimensions)


def _fill(folder: Path, made_up: MadeUp, documents: int, console: Console) -> Iterator[float]:
    """Seconds of each step."""
    store = open_store(folder, made_up.dimensions)
    try:
        done = store.count() // PER_DOCUMENT
        steps = range(done, documents, _AT_ONCE)
        for first in track(steps, f"{documents * PER_DOCUMENT} passages, from {done * PER_DOCUMENT}", console=console):
            started = time.perf_counter()
            step = [made_up.document(number) for number in range(first, min(first + _AT_ONCE, documents))]
            store.replace_documents(TENANT, KNOWLEDGE, step)
            seconds = time.perf_counter() - started
            if not console.is_terminal:
                at, rate = (first + len(step)) * PER_DOCUMENT, len(step) * PER_DOCUMENT / seconds
                console.print(f"{at} of {documents * PER_DOCUMENT} passages, {rate:.0f}/s", highlight=False)
            yield seconds
    finally:
        store.close()
