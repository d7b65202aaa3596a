"""The passages on disk: one Chroma collection and one lexical index per tenant and knowledge base.

Chroma has no transactions over several calls, so a document's version becomes real in one step: its first passage is
written last, with all that is known about the document, and a version without it does not exist. The catalogue says
which version queries may return; what a crash leaves behind is removed at the next start. The lexical index beside it
is derived: at the start, versions that it lacks are added and versions that Chroma lacks are removed. One process owns
the store (see lock.py).
"""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval import filters
from retrieval.catalogue import Catalogue, DocumentInfo, Entry, digest_of
from retrieval.chunking import Chunk
from retrieval.documents import Document
from retrieval.errors import EmbedderMismatch, UnknownKnowledge
from retrieval.exact import ExactScores
from retrieval.filters import Scalar
from retrieval.lexical import TantivyIndex, lexical_text
from retrieval.rows import Change, NewDocument, passage_ids
from retrieval.search import Base, Passage, Question, candidates, fetch
from retrieval.vectors import ChromaDatabase, mapped_errors

EVERYONE = frozenset({"everyone"})
_OPTIMISTIC_TRIES = 3

Status = Literal["added", "updated", "unchanged"]
T = TypeVar("T")


class Store:
    """Thread-safe. Opening reads the catalogue of every knowledge base and raises EmbedderMismatch.

    `batch` is how many passages are written at once: as many as the database takes, if that is less.
    """

    def __init__(self, path: Path, fingerprint: str, dimensions: int, *, batch: int = 5000) -> None:
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._writing = threading.Lock()
        self._open: dict[tuple[str, str], Base] = {}
        self._lexical = path / "lexical"
        self._database = ChromaDatabase(path, batch)
        try:
            with mapped_errors():
                for name, metadata in self._database.collections().items():
                    self._recover(name, metadata)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Nothing needs it to be safe on disk; it frees the files for another opening."""
        try:
            for base in self._open.values():
                base.lexical.close()
        finally:
            self._database.close()

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
        """replace_documents with one."""
        new = NewDocument(document, chunks, embeddings, groups, attributes or {})
        return self.replace_documents(tenant, knowledge, [new])[0]

    def replace_documents(self, tenant: str, knowledge: str, documents: Sequence[NewDocument]) -> list[Status]:
        """Stores documents, each of another source, and drops the passages of their last versions. Many at once cost
        little more than one: what takes the time is that the disk has them.

        Of each, queries see the old version or the new, never both or neither. Returned means on disk. Raises BadName.
        """
        for new in documents:
            if not new.chunks or new.embeddings.shape != (len(new.chunks), self._dimensions):
                size = f"{len(new.chunks)} chunks x {self._dimensions}"
                raise ValueError(f"{new.embeddings.shape} embeddings do not fit {size}")
        if len({new.document.source for new in documents}) < len(documents):
            raise ValueError("two documents of one source at once")
        with self._writing, mapped_errors(knowledge):
            catalogue = self._create(tenant, knowledge).catalogue
            old = [catalogue.entries.get(new.document.source) for new in documents]
            every = [Change.of(new, catalogue.begin(new.document.source)) for new in documents]
            changed = [was is None or was.digest != change.entry.digest for was, change in zip(old, every, strict=True)]
            self._replace(self._find(tenant, knowledge), list(compress(every, changed)), list(compress(old, changed)))
        return [
            "unchanged" if not moved else "added" if was is None else "updated"
            for was, moved in zip(old, changed, strict=True)
        ]

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
        with self._writing, mapped_errors(knowledge):
            base = self._find(tenant, knowledge)
            entry = base.catalogue.condemn(source)
            if entry is None:
                return False
            self._erase(base, [entry])
            base.catalogue.remove(source)
            return True

    def drop_knowledge(self, tenant: str, knowledge: str) -> None:
        """Removes a knowledge base with all its documents. Raises UnknownKnowledge."""
        with self._writing, mapped_errors(knowledge):
            self._find(tenant, knowledge).lexical.drop()
            self._database.drop(_collection_name(tenant, knowledge))
            del self._open[tenant, knowledge]

    def knowledge_bases(self, tenant: str) -> list[str]:
        """Sorted; none for an unknown tenant."""
        return sorted(knowledge for owner, knowledge in list(self._open) if owner == tenant)

    def all_knowledge_bases(self) -> list[tuple[str, str]]:
        """(tenant, knowledge base) of every one, for whoever runs the gateway."""
        return sorted(self._open)

    def documents(self, tenant: str, knowledge: str) -> list[DocumentInfo]:
        """Every document, sorted by source, whatever its groups: for operators. Raises UnknownKnowledge."""
        return self._find(tenant, knowledge).catalogue.documents()

    def count(self) -> int:
        """Passages in all knowledge bases."""
        return sum(info.chunks for base in list(self._open.values()) for info in base.catalogue.documents())

    def healthy(self) -> bool:
        """Whether the database answers."""
        return self._database.healthy()

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
        question = Question("", embedding, groups, narrowed, "dense", top_k)

        def nearest(base: Base) -> list[Passage]:
            found = candidates(base, question)
            return fetch(base, found.ranked, found.cosine)

        return self.read(tenant, knowledge, nearest)

    def read(self, tenant: str, knowledge: str, work: Callable[[Base], T]) -> T:
        """What `work` finds in a knowledge base, looking at one state of it: it is called again if a document changed
        meanwhile. Raises UnknownKnowledge."""
        base = self._find(tenant, knowledge)
        with mapped_errors(knowledge):
            if base.lexical.behind:
                with self._writing:
                    self._synchronise(base)
            for _ in range(_OPTIMISTIC_TRIES):
                generation = base.catalogue.generation
                found = work(base)
                if base.catalogue.generation == generation:
                    return found
            with self._writing:  # documents change faster than we can look: make them wait
                return work(base)

    def _find(self, tenant: str, knowledge: str) -> Base:
        base = self._open.get((tenant, knowledge))
        if base is None:
            raise UnknownKnowledge(knowledge)
        return base

    def _create(self, tenant: str, knowledge: str) -> Base:
        key = (filters.check_name("tenant", tenant), filters.check_name("knowledge base", knowledge))
        if key not in self._open:
            name = _collection_name(tenant, knowledge)
            about = {"tenant": tenant, "knowledge": knowledge, "fingerprint": self._fingerprint}
            vectors = self._database.create(name, about)
            lexical = TantivyIndex.opened(self._lexical / name)
            self._open[key] = Base(knowledge, vectors, Catalogue(), lexical, ExactScores(vectors))
            self._synchronise(self._open[key])  # an index that outlived a knowledge base of this name
        return self._open[key]

    def _recover(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Opens a collection; removes versions that were not finished or were replaced when the last owner died."""
        tenant, knowledge = str(metadata.get("tenant")), str(metadata.get("knowledge", name))
        if metadata.get("fingerprint") != self._fingerprint:
            raise EmbedderMismatch(knowledge, str(metadata.get("fingerprint", "none")), self._fingerprint)
        vectors = self._database.open(name)
        catalogue = Catalogue.of(vectors.metadata({"index": 0}))
        versions = catalogue.versions()
        if vectors.count() != sum(entry.info.chunks for entry in versions.values()):
            vectors.delete([id for id in vectors.matching(None) if id.rpartition("-")[0] not in versions])
        lexical = TantivyIndex.opened(self._lexical / name)
        base = Base(knowledge, vectors, catalogue, lexical, ExactScores(vectors))
        self._synchronise(base)
        self._open[tenant, knowledge] = base

    def _synchronise(self, base: Base) -> None:
        """Makes the lexical index hold what Chroma holds."""
        present, current = base.lexical.sizes(), base.catalogue.versions()
        sizes = {version: entry.info.chunks for version, entry in current.items()}
        base.lexical.remove([version for version, size in present.items() if sizes.get(version) != size])
        for entry in [entry for version, entry in current.items() if present.get(version) != entry.info.chunks]:
            rows = base.vectors.rows(passage_ids(entry))
            texts = {id: lexical_text(entry.info.title, row["heading"], text) for id, (text, row) in rows.items()}
            base.lexical.add(texts, entry.version)
        base.lexical.commit()

    def _replace(self, base: Base, changes: Sequence[Change], old: Sequence[Entry | None]) -> None:
        """The first passages last: they make the versions exist."""
        for change in changes:
            base.lexical.add(change.words, change.entry.version)
        laid_out = [list(change.rows()) for change in changes]
        for rows in ([row for each in laid_out for row in each[1:]], [each[0] for each in laid_out]):
            if rows:
                vectors = np.stack([row.vector for row in rows])
                ids, texts = [row.id for row in rows], [row.text for row in rows]
                base.vectors.write(ids, vectors, texts, [row.metadata for row in rows])
        for change in changes:
            base.catalogue.switch(change.entry)
        self._erase(base, [entry for entry in old if entry is not None])

    def _erase(self, base: Base, entries: Sequence[Entry]) -> None:
        """From the words first: what is left of it in Chroma is found again at the next start."""
        base.lexical.remove([entry.version for entry in entries])
        base.vectors.delete([id for entry in entries for id in passage_ids(entry)])


def _collection_name(tenant: str, knowledge: str) -> str:
    return "kb-" + hashlib.sha256(f"{tenant}\0{knowledge}".encode()).hexdigest()[:32]
