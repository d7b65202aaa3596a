"""Finds the passages of one knowledge base for a question: by meaning, by words, or by both.

The vector index is asked without a filter, for as many more passages as the caller may see fewer, and what he may not
see is dropped here; if that would be more than he may see, each of those is scored instead. That keeps one rule for
who sees what, finds all that a filter inside the index would, and costs milliseconds where the database's own filter
costs a hundred. Knows no database: `Vectors` is what the store hands in.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.catalogue import Catalogue
from retrieval.exact import ExactScores
from retrieval.filters import Scalar, Where
from retrieval.fusion import fuse, promising
from retrieval.lexical import LexicalIndex
from retrieval.passages import Passage

Mode = Literal["hybrid", "dense", "lexical"]

DEPTH = 100  # candidates from each index; the order of the first ten does not change with more (fusion.py)
_MARGIN = 1.3  # asked for more than the share says, so that one question is mostly enough
_MOST_ASKED = 30_000  # passages: Chroma looks up what it found by name, and SQLite takes 32,766 names
_MOST_SCORED = 20_000  # passages: ExactScores has room for two such sets of 384 dimensions
_FAR = 5  # depths: farther out the graph loses passages (.86 were found at 13 depths of 100,000 made-up passages)
_MOST_NAMED = 10_000  # versions that the lexical index is restricted to by name


class Vectors(Protocol):
    """One collection of embedded passages."""

    def nearest(self, embedding: NDArray[np.float32], limit: int) -> dict[str, float]:
        """Cosine similarity by id of the `limit` nearest, best first."""
        ...

    def embeddings(self, ids: list[str]) -> tuple[list[str], NDArray[np.float32]]:
        """(ids, their embeddings (n, dimensions)) of those that exist."""
        ...

    def matching(self, where: Where | None) -> set[str]:
        """The ids of all passages that a filter matches (None: all). Reads every passage's metadata."""
        ...

    def count(self) -> int:
        """How many passages there are."""
        ...

    def metadata(self, where: Where) -> list[Mapping[str, Any]]:
        """Of all passages that a filter matches."""
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
    exact: ExactScores


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, by whom. `filter` is a translated one. `depth` is how many candidates each index gives. `first`:
    how many of the ranked are the best of all candidates for certain; behind them passages that only the words found
    may be missing, which saves reading their vectors."""

    text: str
    embedding: NDArray[np.float32]
    groups: frozenset[str]
    filter: Where | None = None
    mode: Mode = "hybrid"
    depth: int = DEPTH
    first: int = DEPTH


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
    if not seen.passages:
        return Candidates([], {}, None)
    started = time.perf_counter()
    cosine = seen.nearest()
    best = max(cosine.values(), default=None)
    dense_done = time.perf_counter()
    if question.mode == "dense":
        return Candidates(list(cosine), cosine, best, {"dense": dense_done - started})
    words = seen.sharing_words()
    lexical_done = time.perf_counter()
    if question.mode == "lexical":
        cosine |= _cosines(base.vectors, question.embedding, [id for id in words if id not in cosine])
        ranked = [id for id in words if id in cosine]
    else:
        words |= base.lexical.score(question.text, [id for id in cosine if id not in words])
        cosine |= _cosines(base.vectors, question.embedding, promising(cosine, words, question.first))
        ranked = fuse(cosine, words)
    seconds = {"dense": dense_done - started, "lexical": lexical_done - dense_done}
    return Candidates(ranked, cosine, best, seconds | {"fuse": time.perf_counter() - lexical_done})


def fetch(base: Base, ids: Sequence[str], cosine: Mapping[str, float]) -> list[Passage]:
    """The passages themselves, in the order of their ids; one that is gone meanwhile is left out."""
    rows = base.vectors.rows(ids)
    found = []
    for id in ids:
        entry = base.catalogue.visible(_version(id))
        if id in rows and entry is not None:
            info, (text, row) = entry.info, rows[id]
            place = row["heading"], text, row["start"], row["end"]
            found.append(Passage(id, base.name, info.source, info.title, *place, cosine.get(id, 0.0)))
    return found


class _Eligible:
    """The passages that one question may find."""

    def __init__(self, base: Base, question: Question) -> None:
        self._base, self._question = base, question
        self._allowed = base.catalogue.allow(question.groups, question.filter)
        self.passages = self._allowed.passages

    def nearest(self) -> dict[str, float]:
        question, vectors = self._question, self._base.vectors
        limit = self._first_limit()
        while limit < min(self.passages, _MOST_ASKED) and not self._scored(limit):
            found = vectors.nearest(question.embedding, limit)
            kept = self._keep(found)
            if len(kept) == question.depth or len(found) < limit:
                return kept
            limit *= 4
        return self._base.exact.nearest(self._allowed.versions(), question.embedding, question.depth)

    def sharing_words(self) -> dict[str, float]:
        question, lexical = self._question, self._base.lexical
        limit = self._first_limit()
        if limit > question.depth and len(self._allowed.versions()) <= _MOST_NAMED:
            return lexical.search(question.text, question.depth, self._allowed.versions())
        while True:
            found = lexical.search(question.text, limit)
            kept = self._keep(found)
            if len(kept) == question.depth or len(found) < limit:
                return kept
            limit *= 4

    def _first_limit(self) -> int:
        """How many to ask an index for, so that `depth` of them are likely to be allowed."""
        depth, share = self._question.depth, self._allowed.share
        return depth if share == 1 else int(_MARGIN * depth / share)

    def _scored(self, limit: int) -> bool:
        """Whether scoring all is better than asking the index for `limit`: exact, and from memory faster."""
        return limit > _FAR * self._question.depth and self.passages <= _MOST_SCORED

    def _keep(self, found: Mapping[str, float]) -> dict[str, float]:
        allowed = ((id, score) for id, score in found.items() if self._allowed.has(_version(id)))
        return dict(islice(allowed, self._question.depth))


def _cosines(vectors: Vectors, embedding: NDArray[np.float32], ids: list[str]) -> dict[str, float]:
    found, matrix = vectors.embeddings(ids)
    if not found:
        return {}
    scores = (matrix @ embedding) / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(embedding))
    return dict(zip(found, np.clip(scores, -1.0, 1.0).tolist(), strict=True))


def _version(id: str) -> str:
    return id.rpartition("-")[0]
