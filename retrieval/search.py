"""Finds the passages of one knowledge base for a question: by meaning, by words, or by both.

Each index is asked without a filter and what a caller may not see is dropped here, from both alike; only if too little
is left is every passage that he may see scored. That keeps one rule for who sees what, gives the same answer as a
filter inside the index, and costs a millisecond where the database's own filter costs a hundred. Knows no database:
`Vectors` is what the store hands in.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.catalogue import Catalogue
from retrieval.filters import Scalar, Where
from retrieval.fusion import fuse
from retrieval.lexical import LexicalIndex

Mode = Literal["hybrid", "dense", "lexical"]

DEPTH = 100  # candidates from each index; the order of the first ten does not change with more (fusion.py)
_MOST = 5000  # passages scored one by one, when an index would have to be asked for more than that


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage found. `score` is the cosine similarity to the question, in [-1, 1]."""

    id: str
    knowledge: str
    source: str
    title: str
    heading: str
    text: str
    start: int
    end: int
    score: float


class Vectors(Protocol):
    """One collection of embedded passages."""

    def nearest(self, embedding: NDArray[np.float32], limit: int) -> dict[str, float]:
        """Cosine similarity by id of the `limit` nearest, best first."""
        ...

    def embeddings(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """(ids, their embeddings (n, dimensions)) of those that exist."""
        ...

    def matching(self, where: Where | None) -> set[str]:
        """The ids of all passages that a filter matches (None: all). Reads every passage's metadata."""
        ...

    def rows(self, ids: Sequence[str]) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Text and metadata by id, of those that exist."""
        ...

    def write(
        self,
        ids: Sequence[str],
        embeddings: NDArray[np.float32],
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, Scalar]],
    ) -> None:
        """Adds passages, or replaces those of the same ids. Returned means on disk."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """First passages of documents first, so that no version is ever left that looks whole and is not."""
        ...


@dataclass(frozen=True, slots=True)
class Base:
    """One open knowledge base."""

    name: str
    vectors: Vectors
    catalogue: Catalogue
    lexical: LexicalIndex


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, by whom. `filter` is a translated one. `depth` is how many candidates each index gives."""

    text: str
    embedding: NDArray[np.float32]
    groups: frozenset[str]
    filter: Where | None = None
    mode: Mode = "hybrid"
    depth: int = DEPTH


@dataclass(frozen=True, slots=True)
class Candidates:
    """`ranked`: ids, best first. `cosine` has each one's. `best_score`: the highest cosine of any passage the caller
    may see, None if there is none. Seconds by stage (dense, lexical, fuse)."""

    ranked: list[str]
    cosine: dict[str, float]
    best_score: float | None
    seconds: dict[str, float] = field(default_factory=dict)


def candidates(base: Base, question: Question) -> Candidates:
    """Ranks what may answer the question, within the caller's scope and filter."""
    seen = _Eligible(base, question)
    if not seen.count:
        return Candidates([], {}, None)
    started = time.perf_counter()
    cosine = seen.nearest()
    best = max(cosine.values(), default=None)
    dense_done = time.perf_counter()
    if question.mode == "dense":
        return Candidates(list(cosine), cosine, best, {"dense": dense_done - started})
    words = seen.sharing_words()
    lexical_done = time.perf_counter()
    cosine |= _cosines(base.vectors, question.embedding, [id for id in words if id not in cosine])
    if question.mode == "lexical":
        ranked = [id for id in words if id in cosine]
    else:
        words |= base.lexical.score(question.text, [id for id in cosine if id not in words])
        ranked = fuse(cosine, words)
    seconds = {"dense": dense_done - started, "lexical": lexical_done - dense_done}
    return Candidates(ranked, cosine, best, seconds | {"fuse": time.perf_counter() - lexical_done})


def fetch(base: Base, ids: Sequence[str], cosine: Mapping[str, float]) -> list[Passage]:
    """The passages themselves, in the order of their ids; one that is gone meanwhile is left out."""
    rows = base.vectors.rows(ids)
    return [_passage(base.name, id, *rows[id], cosine.get(id, 0.0)) for id in ids if id in rows]


class _Eligible:
    """The passages that one question may find."""

    def __init__(self, base: Base, question: Question) -> None:
        self._base, self._question = base, question
        self._matching: set[str] | None = None
        self.count = base.catalogue.size(question.groups)
        if question.filter is not None and self.count:
            sees = base.catalogue.sees
            self._matching = {id for id in base.vectors.matching(question.filter) if sees(question.groups, id)}
            self.count = len(self._matching)

    def nearest(self) -> dict[str, float]:
        question, vectors = self._question, self._base.vectors
        found = self._enough(lambda limit: vectors.nearest(question.embedding, limit))
        if found is not None:
            return found
        return _cosines(vectors, question.embedding, self._ids(), question.depth)

    def sharing_words(self) -> dict[str, float]:
        question, lexical = self._question, self._base.lexical
        found = self._enough(lambda limit: lexical.search(question.text, limit))
        return lexical.score(question.text, self._ids()) if found is None else found

    def _enough(self, ask: Callable[[int], dict[str, float]]) -> dict[str, float] | None:
        """The best `depth` that are eligible; None if so few are that each of them should be scored instead."""
        depth = limit = self._question.depth
        while self.count > (_MOST if limit > _MOST else depth):
            found = ask(limit)
            kept = [(id, score) for id, score in found.items() if self._has(id)]
            if len(kept) >= depth or len(found) < limit:
                return dict(kept[:depth])
            limit *= 4
        return None

    def _has(self, id: str) -> bool:
        if self._matching is not None:
            return id in self._matching
        return self._base.catalogue.sees(self._question.groups, id)

    def _ids(self) -> set[str]:
        return set(self._base.catalogue.ids(self._question.groups)) if self._matching is None else self._matching


def _cosines(
    vectors: Vectors, embedding: NDArray[np.float32], ids: Iterable[str], limit: int | None = None
) -> dict[str, float]:
    """Best first, at most `limit`."""
    found, matrix = vectors.embeddings(list(ids))
    if not found:
        return {}
    scores = (matrix @ embedding) / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(embedding))
    order = np.argsort(-scores, kind="stable")[:limit]
    return {found[at]: float(min(1.0, max(-1.0, scores[at]))) for at in order}


def _passage(knowledge: str, id: str, text: str, metadata: Mapping[str, Any], score: float) -> Passage:
    place = {key: metadata[key] for key in ("source", "title", "heading", "start", "end")}
    return Passage(id=id, knowledge=knowledge, text=text, score=score, **place)
