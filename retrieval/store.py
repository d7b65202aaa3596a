"""The passages: one Chroma collection and one lexical index per tenant and knowledge base.

Chroma has no transactions over several calls, so a document's version becomes real in one step: its first passage is
written last, and then the catalogue says that queries may return this version and not the one before. What a crash
leaves behind is removed at the next start. Everything is in one folder that one process owns (lock.py), or on servers
that several share: who takes turns with whom is the business of `bases`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval import filters
from retrieval.bases import Bases, Turn, erase
from retrieval.catalogue import DocumentInfo, Entry, digest_of
from retrieval.errors import UnknownKnowledge
from retrieval.filters import Scalar
from retrieval.local_bases import LocalBases
from retrieval.passages import Passage, Status
from retrieval.postgres import Postgres
from retrieval.rows import Change, NewDocument
from retrieval.search import Base, Question, candidates, fetch
from retrieval.shared_bases import SharedBases
from retrieval.vectors import ChromaDatabase, ChromaServer, mapped_errors

EVERYONE = frozenset({"everyone"})
_OPTIMISTIC_TRIES = 3


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Servers:
    """What is not in the store's folder: the vectors, if on a Chroma server; catalogue and words, if in PostgreSQL."""

    chroma: ChromaServer | None = None
    database: Postgres | None = None


class Store:
    """Thread-safe. Opening reads the catalogue of every knowledge base and raises EmbedderMismatch, StoreUnreachable.

    `batch` is how many passages are written at once: as many as the database takes, if that is less. It closes the
    database with itself.
    """

    def __init__(
        self, path: Path, fingerprint: str, dimensions: int, *, batch: int = 5000, servers: Servers | None = None
    ) -> None:
        self._dimensions = dimensions
        servers = servers or Servers()
        self.database = servers.database
        with ExitStack() as undo:
            if servers.database is not None:
                undo.callback(servers.database.close)
            self._chroma = ChromaDatabase(servers.chroma or path, batch)
            undo.callback(self._chroma.close)
            with mapped_errors():
                self._bases: Bases = (
                    LocalBases(self._chroma, path / "lexical", fingerprint)
                    if servers.database is None
                    else SharedBases(self._chroma, servers.database, fingerprint)
                )
            undo.pop_all()

    def close(self) -> None:
        """Nothing needs it to be safe on disk; it frees the files for another opening."""
        try:
            self._bases.close()
        finally:
            self._chroma.close()

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
        sources = [new.document.source for new in documents]
        every = [Change.of(new, "") for new in documents]
        with mapped_errors(knowledge), self._bases.turn(tenant, knowledge, sources, create=True) as turn:
            old = [turn.current(source) for source in sources]
            changed = [was is None or was.digest != change.entry.digest for was, change in zip(old, every, strict=True)]
            versions = turn.begin({new.document.source: len(new.chunks) for new in compress(documents, changed)})
            _replace(
                turn, [change.named(versions) for change in compress(every, changed)], list(compress(old, changed))
            )
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
        """What is stored, if replace_documents would answer "unchanged": saves parsing and embedding it again."""
        try:
            entry = self._find(tenant, knowledge).catalogue.entries.get(source)
        except UnknownKnowledge:
            return None
        metadata = filters.stored_groups(groups) | filters.stored_attributes(attributes or {})
        return entry.info if entry and entry.digest == digest_of(sha256, metadata) else None

    def delete_document(self, tenant: str, knowledge: str, source: str) -> bool:
        """Whether there was such a document. Raises UnknownKnowledge."""
        with mapped_errors(knowledge), self._bases.turn(tenant, knowledge, [source]) as turn:
            entry = turn.current(source)
            if entry is None:
                return False
            turn.condemn(source)
            erase(turn.base, [entry])
            turn.erased([entry])
            return True

    def drop_knowledge(self, tenant: str, knowledge: str) -> None:
        """Removes a knowledge base with all its documents. Raises UnknownKnowledge."""
        with mapped_errors(knowledge):
            self._bases.drop(tenant, knowledge)

    def knowledge_bases(self, tenant: str) -> list[str]:
        """Sorted; none for an unknown tenant."""
        return self._bases.names(tenant)

    def all_knowledge_bases(self) -> list[tuple[str, str]]:
        """(tenant, knowledge base) of every one, for whoever runs the gateway."""
        return self._bases.every()

    def documents(self, tenant: str, knowledge: str) -> list[DocumentInfo]:
        """Every document, sorted by source, whatever its groups: for operators. Raises UnknownKnowledge."""
        return self._find(tenant, knowledge).catalogue.documents()

    def count(self) -> int:
        """Passages in all knowledge bases."""
        return self._bases.count()

    def healthy(self) -> bool:
        """Whether the databases answer."""
        return self._chroma.healthy() and self._bases.healthy()

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
        with mapped_errors(knowledge):
            base = self._bases.find(tenant, knowledge)
            generation = base.catalogue.refresh()
            for _ in range(_OPTIMISTIC_TRIES):
                found = work(base)
                before, generation = generation, base.catalogue.refresh()
                if generation == before:
                    return found
            with self._bases.still(base):  # documents change faster than we can look: make them wait
                base.catalogue.refresh()
                return work(base)

    def _find(self, tenant: str, knowledge: str) -> Base:
        with mapped_errors(knowledge):
            base = self._bases.find(tenant, knowledge)
            base.catalogue.refresh()
            return base


def _replace(turn: Turn, changes: Sequence[Change], old: Sequence[Entry | None]) -> None:
    """The first passages last: they make the versions exist."""
    for change in changes:
        turn.base.lexical.add(change.words, change.entry.version)
    laid_out = [list(change.rows()) for change in changes]
    for rows in ([row for each in laid_out for row in each[1:]], [each[0] for each in laid_out]):
        if rows:
            vectors = np.stack([row.vector for row in rows])
            ids, texts = [row.id for row in rows], [row.text for row in rows]
            turn.base.vectors.write(ids, vectors, texts, [row.metadata for row in rows])
    turn.switch([change.entry for change in changes])
    replaced = [entry for entry in old if entry is not None]
    if replaced:
        erase(turn.base, replaced)
        turn.erased(replaced)
