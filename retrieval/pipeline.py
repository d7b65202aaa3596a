"""Retrieval from end to end: a file becomes passages in the store, a question becomes the passages that may answer it.

Synchronous and thread-safe: the caller chooses the threads. Embedding runs outside the store's lock, so that questions
are answered while documents come in.
"""

import copy
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.chunking import Chunk, Chunker
from retrieval.documents import Document, load
from retrieval.embedder import BATCH, Embedder
from retrieval.errors import BadFilter, UnreadableDocument
from retrieval.filters import Scalar, translate
from retrieval.passages import Ingested, Passage, Retrieval, Scope
from retrieval.reranker import Reordering, Rerank
from retrieval.rows import NewDocument
from retrieval.sandbox import Sandbox
from retrieval.search import DEPTH, Base, Candidates, Mode, Question, candidates, fetch
from retrieval.selection import Limits, expand, select
from retrieval.store import EVERYONE, Store

MAX_TOP_K = 100
_SPARE = 5  # candidates for each passage wanted, since some are copies or of a source that gave enough
_MOST_OVERLAP = 0.49  # the chunker's own bound is one half, which it does not reach


@dataclass(frozen=True, slots=True)
class Policy:
    """How to search. `mode` is hybrid unless one of the two is wanted alone. `rerank` changes the order of what was
    found, never a score."""

    mode: Mode = "hybrid"
    limits: Limits = field(default_factory=Limits)
    rerank: Rerank | None = None


class Retriever:
    """Joins store, embedder and chunker, which must belong together: the store pins the embedder's fingerprint.


    `sandbox` is where files are parsed, by default one with the default limits.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        chunker: Chunker,
        policy: Policy | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._chunker = chunker
        self._policy = policy or Policy()
        self._sandbox = sandbox or Sandbox()

    @property
    def policy(self) -> Policy:
        """How it searches."""
        return self._policy

    def with_policy(self, policy: Policy) -> "Retriever":
        """Over the same documents, searching another way."""
        return Retriever(self._store, self._embedder, self._chunker, policy, self._sandbox)

    def cutting(self, max_tokens: int, overlap: int) -> Self:
        """Over the same documents, cutting new ones into passages of at most `max_tokens`, `overlap` of them shared."""
        other = copy.copy(self)
        other._chunker = Chunker(self._embedder.tokenizer, max_tokens, min(overlap / max_tokens, _MOST_OVERLAP))
        return other

    def text(self, source: str, data: bytes) -> str:
        """What would be read of a document. Raises UnreadableDocument."""
        return load(source, data, self._sandbox).text

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
        [done] = self.ingest_many(scope, knowledge, [(source, data)], groups, attributes)
        if isinstance(done, UnreadableDocument):
            raise done
        return done

    def ingest_many(
        self,
        scope: Scope,
        knowledge: str,
        files: Sequence[tuple[str, bytes]],
        groups: frozenset[str] = EVERYONE,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> list[Ingested | UnreadableDocument]:
        """Documents (source, bytes) of different sources together, which for small ones is many times as fast. Each is
        as if it came alone: one that cannot be read is its own result. Raises BadName, StoreFailed."""
        started = time.perf_counter()
        results: dict[str, Ingested | UnreadableDocument] = {}
        cut: list[tuple[Document, list[Chunk]]] = []
        for source, data in files:
            sha256 = hashlib.sha256(data).hexdigest()
            known = self._store.current(scope.tenant, knowledge, source, sha256, groups, attributes)
            if known is not None:
                results[source] = Ingested(source, "unchanged", known.chunks, time.perf_counter() - started)
                continue
            try:
                document = load(source, data, self._sandbox)
                cut.append((document, self._chunker.chunk(document)))
            except UnreadableDocument as error:
                results[source] = error
        texts = [self._chunker.embedded(document.title, chunk) for document, chunks in cut for chunk in chunks]
        vectors = self._embed(texts)
        borders = np.cumsum([len(chunks) for _, chunks in cut])
        new = [
            NewDocument(document, chunks, mine, groups, attributes or {})
            for (document, chunks), mine in zip(cut, np.split(vectors, borders[:-1]), strict=False)
        ]
        statuses = self._store.replace_documents(scope.tenant, knowledge, new) if new else []
        seconds = time.perf_counter() - started
        for (document, chunks), status in zip(cut, statuses, strict=True):
            results[document.source] = Ingested(document.source, status, len(chunks), seconds)
        return [results[source] for source, _ in files]

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
        narrowed = translate(filter) if filter else None
        started = time.perf_counter()
        vector = self._embedder.encode([self._shorten(text)])[0]
        embedded = time.perf_counter()
        depth = max(DEPTH, 2 * top_k)
        question = Question(text, vector, scope.groups, narrowed, self._policy.mode, depth, _SPARE * top_k)
        reordering = self._policy.rerank.of(text) if self._policy.rerank else None

        def answer(base: Base) -> tuple[Candidates, list[Passage]]:
            found = candidates(base, question)
            return found, self._selected(base, found, top_k, min_score, reordering)

        found, passages = self._store.read(scope.tenant, knowledge, answer)
        rerank = None if reordering is None else reordering.seconds
        search = time.perf_counter() - embedded - (rerank or 0.0)
        stages = {"embed": embedded - started, **found.seconds, "select": search - sum(found.seconds.values())}
        return Retrieval(
            passages=tuple(passages),
            best_score=found.best_score,
            embed_seconds=embedded - started,
            search_seconds=search,
            rerank_seconds=rerank,
            seconds=stages if rerank is None else {**stages, "rerank": rerank},
        )

    def _selected(
        self, base: Base, found: Candidates, top_k: int, min_score: float, reordering: Reordering | None
    ) -> list[Passage]:
        def get(ids: Sequence[str]) -> list[Passage]:
            return fetch(base, ids, found.cosine)

        limits = self._policy.limits
        relevant = [id for id in found.ranked if found.cosine[id] >= min_score]
        if reordering is not None:
            relevant = reordering.order(relevant, get)
        return expand(select(relevant, get, top_k, limits), get, limits.neighbours)

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
