"""The passages on disk: Chroma, one collection per tenant and knowledge base. The only module that knows Chroma.

Chroma has no transactions over several calls, so a document's version becomes real in one step: its first passage is
written last, and a version without it does not exist. The catalogue says which version queries may return; what a
crash leaves behind is removed at the next start. One process owns the store (see lock.py).
"""

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import chromadb
import numpy as np
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings
from chromadb.errors import ChromaError, NotFoundError
from numpy.typing import NDArray

from retrieval import filters
from retrieval.catalogue import Catalogue, DocumentInfo, Entry, digest_of
from retrieval.chunking import Chunk
from retrieval.documents import Document
from retrieval.errors import EmbedderMismatch, StoreFailed, UnknownKnowledge
from retrieval.filters import Scalar, Where

EVERYONE = frozenset({"everyone"})
_OPTIMISTIC_TRIES = 3

Status = Literal["added", "updated", "unchanged"]


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


@dataclass(frozen=True, slots=True)
class _Base:
    """One open knowledge base."""

    name: str
    collection: Collection
    catalogue: Catalogue


class Store:
    """Thread-safe. Opening reads the catalogue of every knowledge base and raises EmbedderMismatch.

    `batch` is how many passages are written at once: as many as the database takes, if that is less.
    """

    def __init__(self, path: Path, fingerprint: str, dimensions: int, *, batch: int = 5000) -> None:
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._writing = threading.Lock()
        self._open: dict[tuple[str, str], _Base] = {}
        path.mkdir(parents=True, exist_ok=True)
        with _mapped_errors():
            self._client = chromadb.PersistentClient(str(path), settings=Settings(anonymized_telemetry=False))
            self._batch = min(batch, self._client.get_max_batch_size())
            try:
                for collection in self._client.list_collections():
                    self._recover(collection.name, collection.metadata or {})
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Nothing needs it to be safe on disk; it frees the files for another opening."""
        self._client.close()  # type: ignore[attr-defined]  # the client has it, its declared interface does not

    def replace_document(
        self,
        tenant: str,
        knowledge: str,
        document: Document,
        chunks: Sequence[Chunk],
        embeddings: NDArray[np.float32],
        groups: frozenset[str] = EVERYONE,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> Status:
        """Stores a document's passages, embeddings (len(chunks), dimensions), and drops those of its last version.

        Queries see the old version or the new, never both or neither. Returned means on disk. Raises BadName.
        """
        if not chunks or embeddings.shape != (len(chunks), self._dimensions):
            raise ValueError(f"{embeddings.shape} embeddings do not fit {len(chunks)} chunks x {self._dimensions}")
        metadata = filters.stored_groups(groups) | filters.stored_attributes(attributes or {})
        digest = digest_of(document.sha256, metadata)
        with self._writing, _mapped_errors(knowledge):
            base = self._create(tenant, knowledge)
            catalogue = base.catalogue
            old = catalogue.entries.get(document.source)
            if old is not None and old.digest == digest:
                return "unchanged"
            version, sequence = catalogue.begin(document.source, groups)
            metadata |= {"source": document.source, "title": document.title, "sha256": document.sha256}
            metadata |= {"version": version, "digest": digest, "sequence": sequence, "chunks": len(chunks)}
            self._write(base.collection, version, chunks, embeddings, metadata)
            info = DocumentInfo(document.source, document.title, document.sha256, len(chunks), frozenset(groups))
            catalogue.switch(Entry(info, digest, version))
            self._erase(base.collection, document.source, keep=version)
            if old is not None:
                catalogue.forget(old.version)
            return "updated" if old else "added"

    def current(
        self,
        tenant: str,
        knowledge: str,
        source: str,
        sha256: str,
        groups: frozenset[str] = EVERYONE,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> DocumentInfo | None:
        """What is stored, if replace_document would answer "unchanged": saves parsing and embedding it again."""
        base = self._open.get((tenant, knowledge))
        entry = base.catalogue.entries.get(source) if base else None
        metadata = filters.stored_groups(groups) | filters.stored_attributes(attributes or {})
        return entry.info if entry and entry.digest == digest_of(sha256, metadata) else None

    def delete_document(self, tenant: str, knowledge: str, source: str) -> bool:
        """Whether there was such a document. Raises UnknownKnowledge."""
        with self._writing, _mapped_errors(knowledge):
            base = self._find(tenant, knowledge)
            if base.catalogue.condemn(source) is None:
                return False
            self._erase(base.collection, source)
            base.catalogue.remove(source)
            return True

    def drop_knowledge(self, tenant: str, knowledge: str) -> None:
        """Removes a knowledge base with all its documents. Raises UnknownKnowledge."""
        with self._writing, _mapped_errors(knowledge):
            self._client.delete_collection(self._find(tenant, knowledge).collection.name)
            del self._open[tenant, knowledge]

    def knowledge_bases(self, tenant: str) -> list[str]:
        """Sorted; none for an unknown tenant."""
        return sorted(knowledge for owner, knowledge in list(self._open) if owner == tenant)

    def documents(self, tenant: str, knowledge: str) -> list[DocumentInfo]:
        """Every document, sorted by source, whatever its groups: for operators. Raises UnknownKnowledge."""
        return self._find(tenant, knowledge).catalogue.documents()

    def count(self) -> int:
        """Passages in all knowledge bases."""
        return sum(info.chunks for base in list(self._open.values()) for info in base.catalogue.documents())

    def healthy(self) -> bool:
        """Whether the database answers."""
        try:
            self._client.count_collections()
        except Exception:  # a probe answers no, whatever is wrong
            return False
        return True

    def query(
        self,
        tenant: str,
        knowledge: str,
        embedding: NDArray[np.float32],
        top_k: int,
        groups: frozenset[str],
        filter: Mapping[str, Any] | None = None,
    ) -> list[Passage]:
        """The `top_k` passages nearest to `embedding` (dimensions,), best first, among those `groups` may see.

        Raises UnknownKnowledge, BadFilter.
        """
        narrowed = filters.translate(filter) if filter else None
        base = self._find(tenant, knowledge)
        with _mapped_errors(knowledge):
            for _ in range(_OPTIMISTIC_TRIES):
                generation = base.catalogue.generation
                passages = _nearest(base, embedding, top_k, groups, narrowed)
                if base.catalogue.generation == generation:
                    return passages
            with self._writing:  # documents change faster than we can look: make them wait
                return _nearest(base, embedding, top_k, groups, narrowed)

    def _find(self, tenant: str, knowledge: str) -> _Base:
        base = self._open.get((tenant, knowledge))
        if base is None:
            raise UnknownKnowledge(knowledge)
        return base

    def _create(self, tenant: str, knowledge: str) -> _Base:
        key = (filters.check_name("tenant", tenant), filters.check_name("knowledge base", knowledge))
        if key not in self._open:
            name = "kb-" + hashlib.sha256(f"{tenant}\0{knowledge}".encode()).hexdigest()[:32]
            collection = self._client.create_collection(
                name,
                metadata={"tenant": tenant, "knowledge": knowledge, "fingerprint": self._fingerprint},
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
            )
            self._open[key] = _Base(knowledge, collection, Catalogue())
        return self._open[key]

    def _recover(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Opens a collection; removes versions that were not finished or were replaced when the last owner died."""
        tenant, knowledge = str(metadata.get("tenant")), str(metadata.get("knowledge", name))
        if metadata.get("fingerprint") != self._fingerprint:
            raise EmbedderMismatch(knowledge, str(metadata.get("fingerprint", "none")), self._fingerprint)
        collection = self._client.get_collection(name, embedding_function=None)
        catalogue = Catalogue.of(collection.get(where={"index": 0}, include=["metadatas"])["metadatas"] or [])
        ids = collection.get(include=[])["ids"]
        versions = catalogue.current_versions()
        _delete(collection, [id for id in ids if id.rpartition("-")[0] not in versions], self._batch)
        self._open[tenant, knowledge] = _Base(knowledge, collection, catalogue)

    def _write(
        self,
        collection: Collection,
        version: str,
        chunks: Sequence[Chunk],
        embeddings: NDArray[np.float32],
        metadata: Mapping[str, Scalar],
    ) -> None:
        rest = range(1, len(chunks))
        batches = [rest[at : at + self._batch] for at in range(0, len(rest), self._batch)]
        for batch in [*batches, range(1)]:  # the first passage last: it makes the version exist
            collection.upsert(
                ids=[f"{version}-{index}" for index in batch],
                embeddings=[embeddings[index] for index in batch],
                documents=[chunks[index].text for index in batch],
                metadatas=[{**metadata, **_place(index, chunks[index])} for index in batch],
            )

    def _erase(self, collection: Collection, source: str, keep: str | None = None) -> None:
        clauses: list[Where] = [{"source": source}] + ([{"version": {"$ne": keep}}] if keep else [])
        _delete(collection, collection.get(where=filters.join("$and", clauses), include=[])["ids"], self._batch)


def _nearest(
    base: _Base, embedding: NDArray[np.float32], top_k: int, groups: frozenset[str], narrowed: Where | None
) -> list[Passage]:
    scope = base.catalogue.scope(groups)
    if scope is None:
        return []
    found = base.collection.query(
        query_embeddings=embedding.reshape(1, -1),
        n_results=top_k,
        where=filters.join("$and", [scope] if narrowed is None else [scope, narrowed]),
        include=["documents", "metadatas", "distances"],
    )
    columns: list[Any] = [(found[key] or [[]])[0] for key in ("ids", "documents", "metadatas", "distances")]
    return [
        _passage(base.name, id, text, metadata, distance)
        for id, text, metadata, distance in zip(*columns, strict=True)
        if metadata is not None and text is not None  # erased while Chroma was looking: the generation has moved
    ]


def _place(index: int, chunk: Chunk) -> dict[str, Scalar]:
    return {"index": index, "start": chunk.start, "end": chunk.end, "heading": chunk.heading}


def _passage(knowledge: str, id: str, text: str, metadata: Mapping[str, Any], distance: float) -> Passage:
    place = {key: metadata[key] for key in ("source", "title", "heading", "start", "end")}
    score = min(1.0, max(-1.0, 1.0 - distance))
    return Passage(id=id, knowledge=knowledge, text=text, score=score, **place)


def _delete(collection: Collection, ids: Sequence[str], batch: int) -> None:
    """First passages first, so that no version is ever left that looks whole and is not."""
    ordered = sorted(ids, key=lambda id: not id.endswith("-0"))
    for at in range(0, len(ordered), batch):
        collection.delete(ids=ordered[at : at + batch])


@contextmanager
def _mapped_errors(knowledge: str = "") -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:  # dropped by another thread meanwhile
        raise UnknownKnowledge(knowledge) from error
    except ChromaError as error:
        raise StoreFailed(str(error)) from error
