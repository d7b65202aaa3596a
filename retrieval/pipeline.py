"""Retrieval from end to end: a file becomes passages in the store, a question becomes the passages that may answer it.

Synchronous and thread-safe: the caller chooses the threads. Embedding runs outside the store's lock, so that questions
are answered while documents come in.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.chunking import Chunker
from retrieval.documents import load
from retrieval.embedder import BATCH, Embedder
from retrieval.errors import BadFilter
from retrieval.filters import Scalar
from retrieval.store import EVERYONE, Passage, Status, Store

MAX_TOP_K = 100
_MOST_OVERLAP = 0.49  # the chunker's own bound is one half, which it does not reach


@dataclass(frozen=True, slots=True)
class Scope:
    """Who asks. Comes from authentication, never from the request's body."""

    tenant: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one document."""

    source: str
    status: Status
    chunks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """`passages` best first, all of them at or above the minimum score; `best_score` is of the best one found, even
    if it was below: None only if the caller may see nothing there."""

    passages: tuple[Passage, ...]
    best_score: float | None
    embed_seconds: float
    search_seconds: float


class Retriever:
    """Joins store, embedder and chunker, which must belong together: the store pins the embedder's fingerprint."""

    def __init__(self, store: Store, embedder: Embedder, chunker: Chunker) -> None:
        self._store = store
        self._embedder = embedder
        self._chunker = chunker

    def cutting(self, max_tokens: int, overlap: int) -> Self:
        """Over the same documents, cutting new ones into passages of at most `max_tokens`, `overlap` of them shared."""
        other = copy.copy(self)
        other._chunker = Chunker(self._embedder.tokenizer, max_tokens, min(overlap / max_tokens, _MOST_OVERLAP))
        return other

    def text(self, source: str, data: bytes) -> str:
        """What would be read of a document. Raises UnreadableDocument."""
        return load(source, data).text

    def ingest(
        self,
        scope: Scope,
        knowledge: str,
        source: str,
        data: bytes,
        groups: frozenset[str] = EVERYONE,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> Ingested:
        """Reads, cuts, embeds and stores one document; on disk when it returns. The same one again costs a hash.

        Raises UnreadableDocument, BadName, StoreFailed.
        """
        started = time.perf_counter()
        document = load(source, data)
        known = self._store.current(scope.tenant, knowledge, document, groups, attributes)
        if known is not None:
            return Ingested(source, "unchanged", known.chunks, time.perf_counter() - started)
        chunks = self._chunker.chunk(document)
        vectors = self._embed([self._chunker.embedded(document.title, chunk) for chunk in chunks])
        status = self._store.replace_document(scope.tenant, knowledge, document, chunks, vectors, groups, attributes)
        return Ingested(source, status, len(chunks), time.perf_counter() - started)

    def remove(self, scope: Scope, knowledge: str, source: str) -> bool:
        """Whether there was such a document. Raises UnknownKnowledge."""
        return self._store.delete_document(scope.tenant, knowledge, source)

    def search(
        self,
        scope: Scope,
        knowledge: str,
        text: str,
        top_k: int,
        min_score: float,
        filter: Mapping[str, Any] | None = None,
    ) -> Retrieval:
        """The passages that may answer `text`, within the caller's scope. Raises UnknownKnowledge, BadFilter."""
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadFilter(f"top_k is {top_k}, it must be 1 to {MAX_TOP_K}")
        started = time.perf_counter()
        vector = self._embedder.encode([self._shorten(text)])[0]
        embedded = time.perf_counter()
        found = self._store.query(scope.tenant, knowledge, vector, top_k, scope.groups, filter)
        searched = time.perf_counter()
        return Retrieval(
            passages=tuple(passage for passage in found if passage.score >= min_score),
            best_score=found[0].score if found else None,
            embed_seconds=embedded - started,
            search_seconds=searched - embedded,
        )

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Sorted by length: a batch costs as much as its longest text times its size."""
        order = np.argsort(self._embedder.count_tokens(texts), kind="stable")
        vectors = np.empty((len(texts), self._embedder.dimensions), dtype=np.float32)
        for at in range(0, len(texts), BATCH):  # one call a batch, so that a question waits for one batch at most
            batch = order[at : at + BATCH]
            vectors[batch] = self._embedder.encode([texts[index] for index in batch])
        return vectors

    def _shorten(self, question: str) -> str:
        """The end of a question that is too long for the embedder: people paste the material first and ask last."""
        tokenizer = self._embedder.tokenizer
        keep = self._embedder.max_tokens - tokenizer.num_special_tokens_to_add(False)
        while self._embedder.count_tokens([question])[0] > self._embedder.max_tokens:
            offsets = tokenizer.encode(question, add_special_tokens=False).offsets
            question = question[offsets[-keep][0] :]
            keep -= 1  # the rest of a word may have more tokens than it had inside the word
        return question
