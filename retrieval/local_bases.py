"""The knowledge bases of a process that owns its store alone (lock.py): catalogues in memory, tantivy on disk.

Chroma is the truth. A document's version becomes real when its first passage is written, which is the last step, and a
version without it does not exist; so opening finds out what there is, and removes what a crash left behind.
"""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.bases import collection_name, described, recover, synchronise
from retrieval.catalogue import Catalogue, Entry
from retrieval.errors import EmbedderMismatch, UnknownKnowledge
from retrieval.exact import ExactScores
from retrieval.lexical import TantivyIndex
from retrieval.search import Base
from retrieval.vectors import ChromaDatabase


@dataclass(frozen=True, slots=True)
class LocalTurn:
    """See Turn."""

    base: Base

    def current(self, source: str) -> Entry | None:
        """See Turn."""
        return self.base.catalogue.entries.get(source)

    def begin(self, chunks: Mapping[str, int]) -> dict[str, str]:
        """See Turn."""
        return {source: self.base.catalogue.begin(source) for source in chunks}

    def switch(self, entries: Sequence[Entry]) -> None:
        """See Turn."""
        for entry in entries:
            self.base.catalogue.switch(entry)

    def condemn(self, source: str) -> None:
        """See Turn."""
        self.base.catalogue.condemn(source)

    def erased(self, entries: Sequence[Entry]) -> None:
        """See Turn."""
        for entry in entries:
            known = self.current(entry.info.source)
            if known is not None and known.version == entry.version:
                self.base.catalogue.remove(entry.info.source)


class LocalBases:
    """See Bases. `lexical` is the folder of the lexical indexes. Opening raises EmbedderMismatch."""

    def __init__(self, chroma: ChromaDatabase, lexical: Path, fingerprint: str) -> None:
        self._chroma, self._lexical, self._fingerprint = chroma, lexical, fingerprint
        self._writing = threading.Lock()
        self._open: dict[tuple[str, str], Base] = {}
        try:
            for name, metadata in chroma.collections().items():
                self._recover(name, metadata)
        except BaseException:
            self.close()
            raise

    def find(self, tenant: str, knowledge: str) -> Base:
        """See Bases."""
        base = self._open.get((tenant, knowledge))
        if base is None:
            raise UnknownKnowledge(knowledge)
        if base.lexical.behind:
            with self._writing:
                synchronise(base)
        return base

    @contextmanager
    def turn(
        self,
        tenant: str,
        knowledge: str,
        sources: Collection[str],  # noqa: ARG002  # one lock for all
        *,
        create: bool = False,
    ) -> Iterator[LocalTurn]:
        """See Bases."""
        with self._writing:
            if create and (tenant, knowledge) not in self._open:
                self._create(tenant, knowledge)
            base = self._open.get((tenant, knowledge))
            if base is None:
                raise UnknownKnowledge(knowledge)
            yield LocalTurn(base)

    @contextmanager
    def still(self, base: Base) -> Iterator[None]:  # noqa: ARG002  # one lock for all
        """See Bases."""
        with self._writing:
            yield

    def drop(self, tenant: str, knowledge: str) -> None:
        """See Bases."""
        with self._writing:
            base = self._open.get((tenant, knowledge))
            if base is None:
                raise UnknownKnowledge(knowledge)
            base.lexical.drop()
            self._chroma.drop(collection_name(tenant, knowledge))
            del self._open[tenant, knowledge]

    def names(self, tenant: str) -> list[str]:
        """See Bases."""
        return sorted(knowledge for owner, knowledge in list(self._open) if owner == tenant)

    def every(self) -> list[tuple[str, str]]:
        """See Bases."""
        return sorted(self._open)

    def count(self) -> int:
        """See Bases."""
        return sum(info.chunks for base in list(self._open.values()) for info in base.catalogue.documents())

    def healthy(self) -> bool:
        """See Bases."""
        return True

    def close(self) -> None:
        """See Bases."""
        for base in self._open.values():
            base.lexical.close()

    def _create(self, tenant: str, knowledge: str) -> None:
        about = described(tenant, knowledge, self._fingerprint)
        name = collection_name(tenant, knowledge)
        index = TantivyIndex.opened(self._lexical / name)
        vectors = self._chroma.create(name, about)
        base = Base(knowledge, vectors, Catalogue(), index, ExactScores(vectors))
        synchronise(base)  # an index that outlived a knowledge base of this name
        self._open[tenant, knowledge] = base

    def _recover(self, name: str, metadata: Mapping[str, Any]) -> None:
        tenant, knowledge = str(metadata.get("tenant")), str(metadata.get("knowledge", name))
        if metadata.get("fingerprint") != self._fingerprint:
            raise EmbedderMismatch(knowledge, str(metadata.get("fingerprint", "none")), self._fingerprint)
        vectors = self._chroma.open(name)
        index = TantivyIndex.opened(self._lexical / name)
        base = Base(knowledge, vectors, recover(vectors), index, ExactScores(vectors))
        self._open[tenant, knowledge] = base
        synchronise(base)
